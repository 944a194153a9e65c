from collections.abc import Iterator

import pytest

from kit.security import _credentials as credentials


@pytest.fixture
def token_sessions(session_makers: None) -> Iterator[None]:
    """Looks tokens up inside of the test's transaction."""
    credentials.forget_known_tokens()
    yield
    credentials.forget_known_tokens()
