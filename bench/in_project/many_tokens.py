"""Makes tokens, and writes them into a file: `many_tokens.py FILE COUNT`."""

import sys
from pathlib import Path

from app.core.database import sync_session_maker
from kit.models import ApiToken
from kit.security._credentials import HINT_LENGTH, TOKEN_PREFIX, hash_token
from sqlalchemy import insert

tokens = [f"{TOKEN_PREFIX}rotation-{number}" for number in range(int(sys.argv[2]))]
rows = [
    {"name": token, "token_hash": hash_token(token), "hint": token[:HINT_LENGTH], "scopes": ["*"]}
    for token in tokens
]
with sync_session_maker.begin() as session:
    session.execute(insert(ApiToken), rows)
Path(sys.argv[1]).write_text("\n".join(tokens), encoding="utf-8")
