"""Settings with which the extension refuses to start."""

import pytest

from app.core.config import StartupError
from app.extensions.storage.settings import StorageSettings
from kit.testing import change_settings

CONFIGURED = {
    "ENDPOINT_URL": "https://ref.storage.supabase.co/storage/v1/s3",
    "REGION": "eu-central-1",
    "BUCKET": "files",
    "ACCESS_KEY_ID": "key",
    "SECRET_ACCESS_KEY": "sesame",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without the extension's settings."""
    for name in StorageSettings.model_fields:
        monkeypatch.delenv(f"STORAGE_{name}", raising=False)
    monkeypatch.setitem(StorageSettings.model_config, "env_file", None)
    return monkeypatch


def load(environment: pytest.MonkeyPatch, **values: str) -> StorageSettings:
    for name, value in values.items():
        environment.setenv(f"STORAGE_{name}", value)
    return StorageSettings.load()


class TestRefusals:
    @pytest.mark.parametrize("name", CONFIGURED)
    def test_outside_local_each_is_required(
        self, environment: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        change_settings(monkeypatch, ENVIRONMENT="staging")
        with pytest.raises(
            StartupError, match=f"STORAGE_{name} not set and ENVIRONMENT is staging: set it to"
        ) as caught:
            load(environment, **(CONFIGURED | {name: ""}))
        assert "sesame" not in caught.value.message

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"BUCKET": ""}, "STORAGE_BUCKET not set while others are"),
            ({"ENDPOINT_URL": "http://ref.supabase.co"}, "STORAGE_ENDPOINT_URL .*https://host"),
            ({"ENDPOINT_URL": "ref.supabase.co"}, "STORAGE_ENDPOINT_URL .*https://host"),
            ({"CONTENT_TYPES": "png"}, "STORAGE_CONTENT_TYPES .*such as image/png"),
            ({"CONTENT_TYPES": ","}, "STORAGE_CONTENT_TYPES .*lists no type"),
            ({"MAX_BYTES": "6000000000"}, "STORAGE_MAX_BYTES .*less than or equal to"),
            ({"GRACE_HOURS": "1"}, "STORAGE_GRACE_HOURS .*greater than or equal to 2"),
        ],
    )
    def test_names_what_to_set(
        self, environment: pytest.MonkeyPatch, values: dict[str, str], message: str
    ) -> None:
        with pytest.raises(StartupError, match=message) as caught:
            load(environment, **(CONFIGURED | values))
        assert "sesame" not in caught.value.message


class TestValues:
    def test_in_local_nothing_has_to_be_set(self, environment: pytest.MonkeyPatch) -> None:
        assert len(load(environment).missing) == 5

    def test_the_secret_is_not_shown(self, environment: pytest.MonkeyPatch) -> None:
        loaded = load(environment, **CONFIGURED)
        assert loaded.missing == []
        assert "sesame" not in repr(loaded)

    def test_types_are_separated_by_commas(self, environment: pytest.MonkeyPatch) -> None:
        loaded = load(environment, CONTENT_TYPES="image/png, image/svg+xml")
        assert loaded.CONTENT_TYPES == ["image/png", "image/svg+xml"]
