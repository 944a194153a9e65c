"""The requests to the bucket, and the late import of boto3."""

import subprocess
import sys

import pytest

from app.core.config import BASE_DIR
from app.extensions.storage.bucket import content_disposition


@pytest.mark.parametrize(
    ("filename", "header"),
    [
        ("a.pdf", "attachment; filename=\"a.pdf\"; filename*=UTF-8''a.pdf"),
        ('a"b%.pdf', "attachment; filename=\"a_b_.pdf\"; filename*=UTF-8''a%22b%25.pdf"),
        ("Ü 1.pdf", "attachment; filename=\"_ 1.pdf\"; filename*=UTF-8''%C3%9C%201.pdf"),
    ],
)
def test_a_name_cannot_leave_its_header(filename: str, header: str) -> None:
    assert content_disposition(filename) == header


@pytest.mark.slow
def test_boto3_is_imported_when_it_is_needed() -> None:
    """It takes half a second, in each process."""
    code = "import app.main, app.core.celery, sys; print('boto3' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stdout.splitlines()[-1] == "False"
