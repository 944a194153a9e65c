"""A fake Supabase project: it signs access tokens, and serves its JWKS on loopback."""

import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

USER_ID = UUID("5d2f7a1e-8c43-4b7e-9d6a-1f0b3c5e7a90")

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class SigningKey:
    """A private key, and its public key as an entry of a JWKS."""

    key_id: str
    algorithm: str
    private_key: PrivateKey
    entry: dict[str, Any]


def make_key(key_id: str, algorithm: str = "ES256") -> SigningKey:
    """Make a key of one of Supabase's kinds; RSA keys are slow to make and made once."""
    private_key, public = _generate(algorithm)
    entry = public | {"kid": key_id, "alg": algorithm, "use": "sig", "key_ops": ["verify"]}
    return SigningKey(key_id, algorithm, private_key, entry)


def forge(header: dict[str, Any], claims: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """Make a token with any header and signature, also one that no library would make."""
    parts = [json.dumps(part).encode() for part in (header, claims)]
    signed = b".".join(_encoded(part) for part in parts)
    return b".".join([signed, _encoded(sign(signed))]).decode()


class SupabaseProject:
    """One project, for a `with` block.

    Attributes:
        keys: the keys in the JWKS.
        fetches: the requested paths.
        answer: an answer instead of the JWKS.
    """

    def __init__(self) -> None:
        self.keys = [make_key("first")]
        self.fetches: list[str] = []
        self.answer: Answer | None = None
        self._fetched = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.issuer = f"{self.url}/auth/v1"
        self.jwks_url = f"{self.issuer}/.well-known/jwks.json"

    def __enter__(self) -> "SupabaseProject":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop serving: further connections are refused."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait_for_fetches(self, count: int) -> None:
        """Wait for this number of fetches; for a thread, since it blocks."""
        with self._fetched:
            assert self._fetched.wait_for(lambda: len(self.fetches) >= count, timeout=10)

    def send_keys(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer with the JWKS."""
        keys = {"keys": [key.entry for key in self.keys]}
        send(json.dumps(keys).encode())(handler)

    @contextlib.contextmanager
    def answers_held_back(self) -> Iterator[None]:
        """Delay all answers until the block ends."""
        released = threading.Event()

        def wait(handler: BaseHTTPRequestHandler) -> None:
            released.wait(30)
            self.send_keys(handler)

        self.answer = wait
        try:
            yield
        finally:
            released.set()
            self.answer = None

    def claims(self, **changes: object) -> dict[str, Any]:
        """Claims of an access token, as Supabase documents them; one that is None is left out."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": "authenticated",
            "exp": now + 3600,
            "iat": now,
            "sub": str(USER_ID),
            "email": "ada@example.com",
            "phone": "",
            "app_metadata": {"provider": "email", "providers": ["email"]},
            "user_metadata": {"name": "Ada"},
            "role": "authenticated",
            "aal": "aal1",
            "amr": [{"method": "password", "timestamp": now}],
            "session_id": "0b8a9a0e-51d5-4a3e-9f6e-0a4f6f4f1c11",
            "is_anonymous": False,
        }
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def token(
        self,
        key: SigningKey | None = None,
        headers: dict[str, Any] | None = None,
        **changes: object,
    ) -> str:
        """Make a signed access token, with the last key unless another is passed."""
        key = key or self.keys[-1]
        headers = {"kid": key.key_id} | (headers or {})
        return jwt.encode(self.claims(**changes), key.private_key, key.algorithm, headers)

    def _note(self, path: str) -> None:
        with self._fetched:
            self.fetches.append(path)
            self._fetched.notify_all()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        project = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = project.answer or project.send_keys
                project._note(self.path)
                with contextlib.suppress(OSError):  # the caller may have left
                    answer(self)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def send(body: bytes, status: int = 200, **headers: str) -> Answer:
    """Make an answer with this body."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def _encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


def _generate(algorithm: str) -> tuple[PrivateKey, dict[str, Any]]:
    if algorithm == "ES256":
        elliptic = ec.generate_private_key(ec.SECP256R1())
        return elliptic, ECAlgorithm.to_jwk(elliptic.public_key(), as_dict=True)
    if algorithm == "EdDSA":
        edwards = ed25519.Ed25519PrivateKey.generate()
        return edwards, OKPAlgorithm.to_jwk(edwards.public_key(), as_dict=True)
    key = rsa_key()
    return key, RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)


@cache
def rsa_key(size: int = 2048) -> rsa.RSAPrivateKey:
    """An RSA key of so many bits, the same for all tests of a process."""
    return rsa.generate_private_key(public_exponent=65537, key_size=size)
