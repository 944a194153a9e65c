import logging

import pytest
from fastapi.testclient import TestClient

from app.main import app
from kit import lifespan


@pytest.mark.usefixtures("emptied_engine")
def test_a_misspelt_setting_is_told_at_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lifespan, "unknown_settings", lambda: ["API_PROT: did you mean API_PORT?"])

    with caplog.at_level(logging.WARNING), TestClient(app) as client:
        assert client.get("/health/live").status_code == 200

    assert "did you mean API_PORT?" in caplog.text
