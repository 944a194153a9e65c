"""What the extension refuses to start with."""

import pytest

from app.core.config import StartupError, settings
from app.extensions.messenger.settings import MessengerSettings
from kit.testing import change_settings

CONFIGURED = {"APP_SECRET": "sesame", "VERIFY_TOKEN": "meatyhamhock", "PAGE_TOKEN": "EAAB"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without the settings of whoever runs the tests."""
    for name in MessengerSettings.model_fields:
        monkeypatch.delenv(f"MESSENGER_{name}", raising=False)
    monkeypatch.setitem(MessengerSettings.model_config, "env_file", None)
    return monkeypatch


def load(environment: pytest.MonkeyPatch, **values: str) -> MessengerSettings:
    for name, value in values.items():
        environment.setenv(f"MESSENGER_{name}", value)
    return MessengerSettings.load()


class TestRefusals:
    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"APP_SECRET": " sesame"}, "MESSENGER_APP_SECRET .*spaces around it"),
            ({"VERIFY_TOKEN": "größer"}, "MESSENGER_VERIFY_TOKEN .*not printable ASCII"),
            ({"GRAPH_URL": "http://graph.facebook.com"}, "MESSENGER_GRAPH_URL .*expected an https"),
            ({"GRAPH_URL": "https://me@graph.facebook.com"}, "holds more than a host and a path"),
            ({"AUTO_REPLY": "x" * 2001}, "MESSENGER_AUTO_REPLY"),
            ({"KEEP_DAYS": "2"}, "MESSENGER_KEEP_DAYS .*greater than or equal to 3"),
        ],
    )
    def test_are_told_with_their_name(
        self, environment: pytest.MonkeyPatch, values: dict[str, str], message: str
    ) -> None:
        with pytest.raises(StartupError, match=message) as caught:
            load(environment, **values)
        assert "sesame" not in caught.value.message

    @pytest.mark.parametrize("missing", list(CONFIGURED))
    def test_outside_local_each_secret_is_needed(
        self, environment: pytest.MonkeyPatch, missing: str
    ) -> None:
        change_settings(environment, settings, ENVIRONMENT="production")
        values = {name: value for name, value in CONFIGURED.items() if name != missing}
        with pytest.raises(StartupError, match=f"^MESSENGER_{missing} not set and") as caught:
            load(environment, **values)
        assert "sesame" not in caught.value.message


@pytest.mark.parametrize("values", [{}, dict.fromkeys(CONFIGURED, "")])
def test_local_needs_none(environment: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    loaded = load(environment, **values)
    assert (loaded.APP_SECRET, loaded.VERIFY_TOKEN, loaded.PAGE_TOKEN) == (None, None, None)
    assert loaded.GRAPH_URL == "https://graph.facebook.com/v25.0"


def test_outside_local_it_starts_with_all_of_them(environment: pytest.MonkeyPatch) -> None:
    change_settings(environment, settings, ENVIRONMENT="production")
    loaded = load(environment, **CONFIGURED, GRAPH_URL="https://graph.facebook.com/v26.0/")
    assert loaded.GRAPH_URL == "https://graph.facebook.com/v26.0"
    assert "sesame" not in repr(loaded)
