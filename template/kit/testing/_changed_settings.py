"""Changed settings for one test."""

import pytest

from kit.settings import ServiceSettings, settings


def change_settings(
    monkeypatch: pytest.MonkeyPatch, changed: ServiceSettings = settings, /, **values: object
) -> None:
    """Set fields of `settings`, or of an extension's settings, until the test ends.

    The instance is frozen for the service; a test bypasses that, since every module has imported
    this very object.
    """
    for name, value in values.items():
        assert name in type(changed).model_fields
        monkeypatch.setitem(vars(changed), name, value)
