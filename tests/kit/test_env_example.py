"""`.env.example` names every setting, with the line that explains it in the settings classes."""

import re

import pytest
from pydantic import BaseModel, Field, SecretStr

from app.core.config import ServiceSettings, Settings
from kit.commands.env_example import env_example, env_example_of
from kit.extensions import enabled_extensions
from kit.places import service
from kit.settings import setting_name


def names_with_explanation(text: str) -> set[str]:
    lines = re.findall(r"^# (?!---)(\S.{10,})\n#?([A-Z][A-Z0-9_]*)=", text, re.MULTILINE)
    return {name for _, name in lines}


def names_of_secrets_with_value(text: str) -> list[str]:
    secret = r"\w*(?:PASSWORD|SECRET|SECRET_KEY|TOKEN)(?==.)|\w*_URL(?==\S*@)"
    return re.findall(rf"^#?({secret})=", text, re.MULTILINE)


def test_every_setting_of_the_core_has_a_line_and_an_explanation() -> None:
    described = names_with_explanation(env_example())
    assert described >= {setting_name(Settings, name) for name in Settings.model_fields}


def test_no_secret_has_a_value() -> None:
    assert names_of_secrets_with_value(env_example()) == []


def test_fields_of_an_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    class Smtp(BaseModel):
        HOST: str = Field("localhost", description="Server that takes mails.")
        PASSWORD: SecretStr | None = None

    class OwnersSettings(Settings):
        WAREHOUSE_URL: str = Field(description="Address of the warehouse's API.")
        SMTP: Smtp = Smtp(HOST="mail")
        TAGS: list[int] = Field(default_factory=lambda: [1, 2], description="Numbers of the tags.")
        KEY: SecretStr = Field(SecretStr("hunter2"), description="Key of the warehouse.")

    monkeypatch.setattr(service.module("core.config"), "Settings", OwnersSettings)

    own = env_example().partition("# --- Yours ---\n")[2]

    assert own.split("\n\n") == [
        "\n# Address of the warehouse's API.\n#WAREHOUSE_URL=",
        "# Server that takes mails.\n#SMTP__HOST=mail",
        "SMTP__PASSWORD=",
        "# Numbers of the tags.\n#TAGS=1,2",
        "# Key of the warehouse.\nKEY=\n",
    ]


@pytest.mark.parametrize("extension", enabled_extensions())
class TestExtension:
    """Each has a file of its own, which comes and goes with its folder."""

    def test_every_setting_has_a_line_and_an_explanation(self, extension: str) -> None:
        text = env_example_of(extension)
        module = f"app.extensions.{extension}.settings"
        classes = [cls for cls in ServiceSettings.__subclasses__() if cls.__module__ == module]
        expected = {setting_name(cls, name) for cls in classes for name in cls.model_fields}
        assert names_with_explanation(text) == expected
        assert names_of_secrets_with_value(text) == []
