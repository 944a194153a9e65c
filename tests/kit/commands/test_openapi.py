import json
from pathlib import Path

import pytest
from httpx import AsyncClient

from kit.commands import openapi


async def test_the_file_is_what_the_api_answers(
    client: AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openapi, "BASE_DIR", tmp_path)
    openapi.main()
    written = json.loads((tmp_path / "openapi.json").read_text(encoding="utf-8"))
    assert written == (await client.get("/openapi.json")).json()
    assert "/api/tasks/{task_id}" in written["paths"]
