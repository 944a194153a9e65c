"""Which tokens are accepted; each attack here has succeeded against a real service."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.extensions.accounts.access_tokens import (
    AccessTokenVerifier,
    RefusedTokenError,
    make_verifier,
)
from app.extensions.accounts.settings import AccountsSettings
from app.extensions.accounts.tests.supabase_project import (
    USER_ID,
    SigningKey,
    SupabaseProject,
    forge,
    make_key,
)
from kit.testing import change_settings


async def refusal(verifier: AccessTokenVerifier, token: str) -> str:
    """The reason why a token of the project is refused."""
    assert verifier.claims_issuer(token)
    with pytest.raises(RefusedTokenError) as caught:
        await verifier.verify(token)
    return caught.value.reason


def hmac_sha256(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda signed: hmac.new(secret, signed, hashlib.sha256).digest()


def public_key(key: SigningKey, encoding: Encoding) -> bytes:
    return key.private_key.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


class TestWhoseTokenItIs:
    @pytest.mark.parametrize(
        "token",
        ["", "api_abc", "a.b", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "....", "\xe9.\xe9.\xe9"],
    )
    def test_other_tokens_are_not_ours(self, verifier: AccessTokenVerifier, token: str) -> None:
        assert not verifier.claims_issuer(token)

    @pytest.mark.parametrize(
        "issuer", ["supabase", "https://other.supabase.co/auth/v1", "", ["list"], 7]
    )
    def test_another_issuers_is_not_ours(
        self, project: SupabaseProject, verifier: AccessTokenVerifier, issuer: Any
    ) -> None:
        token = forge({"alg": "ES256"}, project.claims(iss=issuer), lambda _: b"")
        assert not verifier.claims_issuer(token)

    def test_what_is_too_long_or_too_deep_is_not_looked_at(
        self, project: SupabaseProject, verifier: AccessTokenVerifier
    ) -> None:
        assert not verifier.claims_issuer(project.token(app_metadata={"text": "x" * 20_000}))
        deep = base64.urlsafe_b64encode(b"[" * 6_000).decode()
        assert not verifier.claims_issuer(f"{deep}.{deep}.c2ln")

    def test_nothing_is_fetched_for_it(
        self, project: SupabaseProject, verifier: AccessTokenVerifier
    ) -> None:
        assert verifier.claims_issuer(project.token())
        assert project.fetches == []


class TestSignature:
    @pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
    @pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
    async def test_the_public_key_is_no_shared_secret(
        self,
        project: SupabaseProject,
        verifier: AccessTokenVerifier,
        algorithm: str,
        encoding: Encoding,
    ) -> None:
        project.keys = [make_key("first", algorithm)]
        sign = hmac_sha256(public_key(project.keys[0], encoding))
        token = forge({"alg": "HS256", "kid": "first"}, project.claims(), sign)
        assert await refusal(verifier, token) == "algorithm"

    async def test_nor_is_its_entry_in_the_key_set(
        self, project: SupabaseProject, verifier: AccessTokenVerifier
    ) -> None:
        sign = hmac_sha256(json.dumps(project.keys[0].entry).encode())
        token = forge({"alg": "HS256", "kid": "first"}, project.claims(), sign)
        assert await refusal(verifier, token) == "algorithm"

    @pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, ["ES256"], "HS512"])
    async def test_none_is_no_algorithm(
        self, project: SupabaseProject, verifier: AccessTokenVerifier, algorithm: Any
    ) -> None:
        header = {"alg": algorithm, "kid": "first"}
        assert await refusal(verifier, forge(header, project.claims(), lambda _: b"")) == (
            "algorithm"
        )

    async def test_a_token_of_the_projects_legacy_secret_fetches_nothing(
        self, project: SupabaseProject, verifier: AccessTokenVerifier
    ) -> None:
        header = {"alg": "HS256", "kid": "legacy", "typ": "JWT"}
        token = forge(header, project.claims(), hmac_sha256(b"shared"))
        assert await refusal(verifier, token) == "algorithm"
        assert project.fetches == []

    async def test_a_token_without_algorithm(
        self, project: SupabaseProject, verifier: AccessTokenVerifier
    ) -> None:
        token = forge({"kid": "first"}, project.claims(), lambda _: b"")
        assert await refusal(verifier, token) == "algorithm"

    @pytest.mark.parametrize(("of_key", "of_token"), [("ES256", "RS256"), ("RS256", "ES256")])
    async def test_the_algorithm_is_the_keys(
        self,
        project: SupabaseProject,
        verifier: AccessTokenVerifier,
        of_key: str,
        of_token: str,
    ) -> None:
        project.keys = [make_key("first", of_key)]
        token = project.token(make_key("first", of_token))
        assert await refusal(verifier, token) == "algorithm"

    @pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"x" * 63])
    async def test_a_signature_that_says_nothing(
        self, project: SupabaseProject, verifier: AccessTokenVerifier, signature: bytes
    ) -> None:
        header = {"alg": "ES256", "kid": "first"}
        token = forge(header, project.claims(), lambda _: signature)
        assert await refusal(verifier, token) == "signature"

    async def test_claims_that_were_changed_afterwards(
        self, project: SupabaseProject, verifier: AccessTokenVerifier
    ) -> None:
        header, _, signature = project.token().split(".")
        _, claims, _ = project.token(role="service_role").split(".")
        assert await refusal(verifier, f"{header}.{claims}.{signature}") == "signature"

    async def test_another_key_of_the_same_name(
        self, project: SupabaseProject, verifier: AccessTokenVerifier
    ) -> None:
        assert await refusal(verifier, project.token(make_key("first"))) == "signature"

    async def test_another_key_of_the_project(
        self, project: SupabaseProject, verifier: AccessTokenVerifier
    ) -> None:
        project.keys.append(make_key("second"))
        token = project.token(headers={"kid": "first"})
        assert await refusal(verifier, token) == "signature"


class TestWhereTheKeyComesFrom:
    """From the configured address, whatever a token's header says."""

    @pytest.fixture
    def attacker(self) -> SigningKey:
        return make_key("attackers")

    async def test_an_unknown_key(
        self, project: SupabaseProject, verifier: AccessTokenVerifier, attacker: SigningKey
    ) -> None:
        assert await refusal(verifier, project.token(attacker)) == "unknown-key"

    async def test_no_key_named_fetches_nothing(
        self, project: SupabaseProject, verifier: AccessTokenVerifier, attacker: SigningKey
    ) -> None:
        token = jwt.encode(project.claims(), attacker.private_key, "ES256")
        assert await refusal(verifier, token) == "unknown-key"
        assert project.fetches == []

    @pytest.mark.parametrize(
        "path", ["/keys.json", "../../../../dev/null", "' OR 1=1 --", "x\r\nHost: evil", "é"]
    )
    async def test_a_key_name_that_points_elsewhere(
        self,
        project: SupabaseProject,
        verifier: AccessTokenVerifier,
        attacker: SigningKey,
        path: str,
    ) -> None:
        with SupabaseProject() as elsewhere:
            elsewhere.keys = [attacker]
            for key_id in (path, f"{elsewhere.url}{path}"):
                token = project.token(attacker, {"kid": key_id})
                assert await refusal(verifier, token) == "unknown-key"
            assert elsewhere.fetches == []
        assert set(project.fetches) == {"/auth/v1/.well-known/jwks.json"}

    @pytest.mark.parametrize("key_id", ["attackers", "first"])
    @pytest.mark.parametrize("header", ["jku", "x5u", "jwk", "x5c"])
    async def test_a_key_that_the_token_brings_along(
        self,
        project: SupabaseProject,
        verifier: AccessTokenVerifier,
        attacker: SigningKey,
        header: str,
        key_id: str,
    ) -> None:
        with SupabaseProject() as elsewhere:
            elsewhere.keys = [attacker]
            certificate = base64.b64encode(public_key(attacker, Encoding.DER)).decode()
            value = {
                "jku": elsewhere.jwks_url,
                "x5u": elsewhere.jwks_url,
                "jwk": attacker.entry,
                "x5c": [certificate],
            }[header]
            token = project.token(attacker, {"kid": key_id, header: value})
            expected = "signature" if key_id == "first" else "unknown-key"
            assert await refusal(verifier, token) == expected
            assert elsewhere.fetches == []


class TestClaims:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"aud": "anon"}, "audience"),
            ({"aud": ["anon", "other"]}, "audience"),
            ({"aud": {"authenticated": 1}}, "audience"),
            ({"aud": None}, "malformed"),
            ({"aud": []}, "malformed"),
            ({"exp": None}, "malformed"),
            ({"exp": "tomorrow"}, "malformed"),
            ({"exp": float("inf")}, "malformed"),
            ({"iat": None}, "malformed"),
            ({"sub": None}, "malformed"),
            ({"sub": "ada"}, "malformed"),
            ({"sub": 7}, "malformed"),
            ({"role": None}, "malformed"),
            ({"role": ""}, "malformed"),
            ({"email": "x" * 321}, "malformed"),
            ({"email": ["ada@example.com"]}, "malformed"),
            ({"is_anonymous": "maybe"}, "malformed"),
        ],
    )
    async def test_what_a_token_has_to_say(
        self,
        project: SupabaseProject,
        verifier: AccessTokenVerifier,
        changes: dict[str, Any],
        reason: str,
    ) -> None:
        assert await refusal(verifier, project.token(**changes)) == reason

    @pytest.mark.parametrize(
        ("claim", "seconds", "reason"),
        [("exp", -31, "expired"), ("nbf", 60, "not-yet-valid"), ("iat", 60, "not-yet-valid")],
    )
    async def test_clocks_may_be_half_a_minute_apart(
        self,
        project: SupabaseProject,
        verifier: AccessTokenVerifier,
        claim: str,
        seconds: int,
        reason: str,
    ) -> None:
        now = int(time.time())
        beyond: dict[str, Any] = {claim: now + seconds}
        within: dict[str, Any] = {claim: now + seconds // 3}
        assert await refusal(verifier, project.token(**beyond)) == reason
        user, _ = await verifier.verify(project.token(**within))
        assert user.id == USER_ID

    async def test_another_issuer(
        self, project: SupabaseProject, verifier: AccessTokenVerifier
    ) -> None:
        """Nothing but the project's own is verified, whoever asks for it."""
        with pytest.raises(RefusedTokenError):
            await verifier.verify(project.token(iss=f"{project.issuer}/"))

    async def test_an_extension_that_must_be_understood(
        self, project: SupabaseProject, verifier: AccessTokenVerifier
    ) -> None:
        token = project.token(headers={"crit": ["exp"], "exp": 0})
        assert not verifier.claims_issuer(token)
        with pytest.raises(RefusedTokenError):
            await verifier.verify(token)

    async def test_an_oauth_client_needs_to_be_listed(
        self, project: SupabaseProject, verifier: AccessTokenVerifier
    ) -> None:
        token = project.token(client_id="9a8b7c6d")
        assert await refusal(verifier, token) == "client"
        user, _ = await replace(verifier, oauth_clients={"9a8b7c6d"}).verify(token)
        assert user.client_id == "9a8b7c6d"


class TestValidToken:
    @pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
    async def test_returns_the_user(
        self, project: SupabaseProject, verifier: AccessTokenVerifier, algorithm: str
    ) -> None:
        project.keys = [make_key("current", algorithm)]
        user, claims = await verifier.verify(project.token(aal="aal2"))
        assert (user.id, user.email, user.role) == (USER_ID, "ada@example.com", "authenticated")
        assert (user.aal, user.is_anonymous) == ("aal2", False)
        assert claims["user_metadata"] == {"name": "Ada"}

    async def test_audiences_may_be_several(
        self, project: SupabaseProject, verifier: AccessTokenVerifier
    ) -> None:
        user, _ = await verifier.verify(project.token(aud=["other", "authenticated"]))
        assert user.id == USER_ID

    @pytest.mark.parametrize("email", ["", None])
    async def test_a_user_without_address(
        self, project: SupabaseProject, verifier: AccessTokenVerifier, email: str | None
    ) -> None:
        user, _ = await verifier.verify(project.token(email=email, is_anonymous=True))
        assert (user.email, user.is_anonymous) == (None, True)

    async def test_no_claim_takes_the_place_of_the_users_id(
        self, project: SupabaseProject, verifier: AccessTokenVerifier
    ) -> None:
        user, _ = await verifier.verify(project.token(id="00000000-0000-0000-0000-000000000000"))
        assert user.id == USER_ID


class TestMakeVerifier:
    def test_none_without_a_project(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change_settings(monkeypatch, POSTGRES_USER="postgres")
        assert make_verifier(AccountsSettings(SUPABASE_URL=None, JWKS_URL=None)) is None

    async def test_takes_what_is_configured(self, project: SupabaseProject) -> None:
        verifier = make_verifier(
            AccountsSettings(
                SUPABASE_URL="https://abcdefghijklmnopqrst.supabase.co",
                JWKS_URL=project.jwks_url,
                AUDIENCE="my-api",
                OAUTH_CLIENTS=["9a8b7c6d"],
            )
        )
        assert verifier is not None
        issuer = "https://abcdefghijklmnopqrst.supabase.co/auth/v1"
        token = project.token(iss=issuer, aud="my-api", client_id="9a8b7c6d")
        assert verifier.claims_issuer(token)
        user, _ = await verifier.verify(token)
        assert user.id == USER_ID
