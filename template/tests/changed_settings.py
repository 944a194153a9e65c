"""Other settings for one test."""

import pytest

from app.core.config import settings


def change_settings(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    """Give fields of the one `settings` other values until the test ends.

    The instance is frozen for the service; a test reaches behind that, since every module has
    imported this very object.
    """
    for name, value in values.items():
        assert name in type(settings).model_fields
        monkeypatch.setitem(vars(settings), name, value)
