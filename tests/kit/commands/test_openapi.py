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


def test_the_table_of_routes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["openapi", "routes"])
    openapi.main()
    heading, line, *rows = capsys.readouterr().out.splitlines()
    assert {len(row) for row in rows} == {len(heading)} == {len(line)}
    cells = {
        row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:-1]] for row in rows
    }
    assert cells["GET /health/live"] == ["yes"] * 4
    assert cells["GET /api/tasks/{task_id}"] == ["", "tasks", "", ""]
