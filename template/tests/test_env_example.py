"""`.env.example` has every setting of the settings classes."""

import pytest

from app.core.config import BASE_DIR
from kit.commands.env_example import env_example, env_example_of
from kit.extensions import enabled_extensions, extension_dir


def test_file_says_what_the_settings_classes_say() -> None:
    written = (BASE_DIR / ".env.example").read_text(encoding="utf-8")

    assert written == env_example(), (
        "a setting changed: uv run python -m kit.commands.env_example > .env.example"
    )


@pytest.mark.parametrize("extension", enabled_extensions())
def test_file_of_an_extension_says_what_its_settings_classes_say(extension: str) -> None:
    path = extension_dir(extension) / ".env.example"
    written = path.read_text(encoding="utf-8") if path.exists() else ""

    assert written == env_example_of(extension), (
        f"a setting changed: uv run python -m kit.commands.env_example {extension} > "
        f"app/extensions/{extension}/.env.example"
    )
