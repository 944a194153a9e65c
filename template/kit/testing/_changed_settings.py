"""Other settings for one test."""

import pytest

from kit.settings import ServiceSettings, settings


def change_settings(
    monkeypatch: pytest.MonkeyPatch, changed: ServiceSettings = settings, /, **values: object
) -> None:
    """Give fields of the one `settings`, or of an extension's, other values until the test ends.

    The instance is frozen for the service; a test reaches behind that, since every module has
    imported this very object.
    """
    for name, value in values.items():
        assert name in type(changed).model_fields
        monkeypatch.setitem(vars(changed), name, value)
