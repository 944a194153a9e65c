from pathlib import Path

import pytest

import app.extensions
from app.core import extensions
from app.core.config import settings
from app.core.extensions import ExtensionError, enabled_extensions, load_extensions


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of extensions beside the real one; `sound` is there and enabled."""
    monkeypatch.setattr(extensions, "EXTENSIONS_DIR", tmp_path)
    monkeypatch.setattr(app.extensions, "__path__", [*app.extensions.__path__, str(tmp_path)])
    add_extension(tmp_path, "sound", {"models.py": "TABLES = ['sound_wave']\n"})
    enable(monkeypatch, "sound")
    return tmp_path


def add_extension(folder: Path, name: str, files: dict[str, str]) -> None:
    (folder / name).mkdir()
    for file_name, text in {"__init__.py": '"""An extension."""\n', **files}.items():
        (folder / name / file_name).write_text(text, encoding="utf-8")


def enable(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    changed = settings.model_copy(update={"ENABLED_EXTENSIONS": list(names)})
    monkeypatch.setattr(extensions, "settings", changed)


def test_unknown_extension_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enable(monkeypatch, "sonud")

    with pytest.raises(ExtensionError, match="'sonud'.*did you mean sound") as caught:
        load_extensions("models")

    assert len(caught.value.message.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("value = 1 +\n", "SyntaxError"),
        ("\nraise RuntimeError('late')\n", r"models\.py:2: RuntimeError: late"),
    ],
)
def test_broken_extension_names_itself_and_the_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    name = f"broken_{abs(hash(text))}"
    add_extension(folder, name, {"models.py": text})
    enable(monkeypatch, "sound", name)

    with pytest.raises(ExtensionError, match=expected) as caught:
        load_extensions("models")

    assert name in caught.value.message
    assert "models.py:" in caught.value.message


def test_unknown_hook_is_an_error_of_the_caller(folder: Path) -> None:
    with pytest.raises(ValueError, match="no hook 'model'"):
        load_extensions("model")


def test_loads_the_hook_where_it_exists(folder: Path) -> None:
    [loaded] = load_extensions("models")

    assert loaded.extension == "sound"
    assert loaded.module.TABLES == ["sound_wave"]
    assert load_extensions("tasks") == []


def test_each_extension_once_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_extension(folder, "light", {})
    enable(monkeypatch, "sound", "light", "sound")

    assert enabled_extensions() == ["sound", "light"]
