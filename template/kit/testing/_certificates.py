"""A certificate for `localhost`, and the authority that signed it, which only tests trust."""

import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with the authority's `ca.crt`, and `localhost.crt` with `localhost.key`."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    request = ("-subj", "/CN=localhost", "-keyout", "localhost.key", "-out", "localhost.csr")
    # Python 3.13 verifies strictly: it asks for `keyUsage` and `authorityKeyIdentifier`.
    (folder / "names").write_text("subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n")
    authority = ("-subj", "/CN=Test CA", "-addext", "keyUsage=critical,keyCertSign")
    openssl("req", "-x509", *key, *authority, "-keyout", "ca.key", "-out", "ca.crt")
    openssl("req", *key, *request)
    signed_by = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    openssl("x509", "-req", "-in", "localhost.csr", *signed_by, "-out", "localhost.crt")
    return folder
