"""`.env.example` names every setting, with the line that explains it in the settings classes."""

import re

from app.commands.env_example import env_example
from app.core.config import BASE_DIR, Settings
from app.core.settings_base import setting_name


def test_file_says_what_the_settings_classes_say() -> None:
    path = BASE_DIR / ".env.example"
    written = path.read_text(encoding="utf-8") if path.exists() else ""
    assert written == env_example(), (
        "a setting changed: uv run python -m app.commands.env_example > .env.example"
    )


def test_every_setting_of_the_core_has_a_line_and_an_explanation() -> None:
    lines = re.findall(r"^# (?!---)(\S.{10,})\n#?([A-Z_]+)=", env_example(), re.MULTILINE)
    described = {name for _, name in lines}
    assert described >= {setting_name(Settings, name) for name in Settings.model_fields}


def test_no_secret_has_a_value() -> None:
    assert not re.search(r"^#?\w*(PASSWORD|SECRET_KEY|_URL)=.", env_example(), re.MULTILINE)
