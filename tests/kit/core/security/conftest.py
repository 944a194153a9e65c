from collections.abc import Iterator

import pytest

from kit.security import _api_tokens as api_tokens


@pytest.fixture
def token_sessions(session_makers: None) -> Iterator[None]:
    """Looks tokens up inside of the test's transaction."""
    api_tokens.forget_known_tokens()
    yield
    api_tokens.forget_known_tokens()
