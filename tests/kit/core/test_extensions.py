from pathlib import Path

import pytest

import app.extensions
from app.core.config import settings
from kit import extensions
from kit.extensions import HOOKS, ExtensionError, enabled_extensions, load_extensions


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of extensions beside the real one; `sound` is there and enabled."""
    monkeypatch.setattr(extensions, "EXTENSIONS_DIR", tmp_path)
    monkeypatch.setattr(app.extensions, "__path__", [*app.extensions.__path__, str(tmp_path)])
    add_extension(tmp_path, "sound", {"models.py": "TABLES = ['sound_wave']\n"})
    enable(monkeypatch, "sound")
    return tmp_path


def add_extension(folder: Path, name: str, files: dict[str, str]) -> None:
    for file_name, text in {"__init__.py": '"""An extension."""\n', **files}.items():
        path = folder / name / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


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


@pytest.mark.parametrize(
    ("file", "hook"),
    [
        ("message_handler.py", "message_handlers"),
        ("messages_handlers.py", "message_handlers"),
        ("apis/__init__.py", "api"),
        ("task.py", "tasks"),
        ("admins.py", "admin"),
    ],
)
def test_a_misspelt_hook_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, file: str, hook: str
) -> None:
    name = f"with_{Path(file).parts[0].removesuffix('.py')}"
    add_extension(folder, name, {file: ""})
    enable(monkeypatch, name)

    with pytest.raises(ExtensionError, match=f"did you mean {hook}\\?") as caught:
        load_extensions(hook)

    assert f"app/extensions/{name}/{Path(file).parts[0]} is no hook" in caught.value.message


def test_what_is_less_alike_is_no_misspelling(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {"settings.py": "", "services.py": "", "tests/__init__.py": "", "README.md": ""}
    add_extension(folder, "with_others", others)
    enable(monkeypatch, "with_others")

    assert [load_extensions(hook) for hook in HOOKS] == [[]] * len(HOOKS)


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
