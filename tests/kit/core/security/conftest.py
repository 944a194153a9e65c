from collections.abc import Iterator

import pytest

from kit.security import _api_tokens as api_tokens
from kit.security._token_uses import TokenUses


@pytest.fixture
def token_sessions(session_makers: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Looks tokens up, and writes their uses, inside of the test's transaction."""
    # The timer of uses noted here must not write after the test.
    monkeypatch.setattr(api_tokens, "token_uses", TokenUses(seconds=3600))
    api_tokens.forget_known_tokens()
    yield
    api_tokens.forget_known_tokens()
