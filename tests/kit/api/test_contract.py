"""The API of every extension, as in production, held against its schema: thousands of calls."""

import os
import re
import subprocess
import sys

import pytest

from app.core.config import BASE_DIR, settings
from kit.testing._processes import QueueProcess, broken_contract, own_database, run_api

PRODUCTION = {
    "ENVIRONMENT": "staging",  # production hides the schema
    "SECRET_KEY": "Zk3vQ8wN1xT6yB4mR9cL2pH7sD5fG0jA",
    "FLOWER_PASSWORD": "Vt5-Wq8-Kc2-Xn7",
    "CORS_ORIGINS": "none",
}
OF_EXTENSIONS = {
    "ACCOUNTS_SUPABASE_URL": "https://abcdefghijklmnopqrst.supabase.co",
    "MAIL_SMTP_HOST": "127.0.0.1",
    "MAIL_SMTP_TLS": "none",
    "MAIL_FROM": "service@example.com",
    "MESSENGER_APP_SECRET": "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "MESSENGER_VERIFY_TOKEN": "Lm4-Rt9-Pz2-Qy6",
    "MESSENGER_PAGE_TOKEN": "EAAB4c7d1e9f3a5b8c2d6e0f",
    "STORAGE_ENDPOINT_URL": "https://abcdefghijklmnopqrst.storage.supabase.co/storage/v1/s3",
    "STORAGE_REGION": "eu-central-1",
    "STORAGE_BUCKET": "files",
    "STORAGE_ACCESS_KEY_ID": "9b8a7c6d5e4f30211203f4e5d6c7a8b9",
    "STORAGE_SECRET_ACCESS_KEY": "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f809",
}
"""Settings that the extensions want outside of development; nothing is behind the addresses."""


@pytest.mark.slow
@pytest.mark.load
@pytest.mark.timeout(1500)
def test_keeps_its_contract() -> None:
    enabled = tuple(f"{name.upper()}_" for name in settings.ENABLED_EXTENSIONS)
    further = {name: value for name, value in OF_EXTENSIONS.items() if name.startswith(enabled)}
    with own_database() as database:
        environment = os.environ | database | PRODUCTION | further
        run("alembic", "upgrade", "heads", environment=environment)
        made = run("kit.commands.token", "create", "fuzzer", environment=environment)
        token = re.search(r"api_\S+", made)
        assert token
        with run_api(environment) as address, QueueProcess("worker", **environment):
            report = broken_contract(address, examples=200, token=token[0])
            assert not report, report


def run(module: str, *arguments: str, environment: dict[str, str]) -> str:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=BASE_DIR,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
