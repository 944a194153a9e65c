"""Fetches of the project's keys, also while they are unavailable."""

import asyncio
import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler
from queue import Queue

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from app.extensions.accounts import signing_keys
from app.extensions.accounts.signing_keys import (
    SigningKeys,
    SigningKeysUnavailableError,
    UnknownSigningKeyError,
)
from app.extensions.accounts.tests.conftest import Clock
from app.extensions.accounts.tests.supabase_project import (
    Answer,
    SupabaseProject,
    make_key,
    rsa_key,
    send,
)

CACHE_SECONDS = 600
STALE_SECONDS = 3600


def redirect_to(project: SupabaseProject) -> Answer:
    return send(b"", 302, Location=project.jwks_url)


class TestRotation:
    async def test_an_unknown_key_is_asked_for_once(
        self, project: SupabaseProject, keys: SigningKeys
    ) -> None:
        for key_id in ("absent", "absent", "other", "../../keys", "http://127.0.0.1/key", ""):
            with pytest.raises(UnknownSigningKeyError):
                await keys.find(key_id)
        assert project.fetches == ["/auth/v1/.well-known/jwks.json"]

    async def test_unknown_keys_cause_a_fetch_every_half_minute_at_most(
        self, project: SupabaseProject, keys: SigningKeys, clock: Clock
    ) -> None:
        await keys.find("first")
        for second in range(90):
            clock.now = 1000.0 + second
            with pytest.raises(UnknownSigningKeyError):
                await keys.find(f"key-{second}")
        assert len(project.fetches) == 3

    async def test_a_new_key_is_found_while_running(
        self, project: SupabaseProject, keys: SigningKeys, clock: Clock
    ) -> None:
        await keys.find("first")
        project.keys.append(make_key("second"))
        clock.now += 30
        assert (await keys.find("second")).key_id == "second"
        assert len(project.fetches) == 2

    async def test_an_old_key_holds_while_it_is_listed(
        self, project: SupabaseProject, keys: SigningKeys, clock: Clock
    ) -> None:
        project.keys.append(make_key("second", "RS256"))
        assert (await keys.find("second")).algorithm_name == "RS256"
        assert (await keys.find("first")).algorithm_name == "ES256"
        del project.keys[0]
        clock.now += CACHE_SECONDS - 1
        await keys.find("first")
        clock.now += 1
        with pytest.raises(UnknownSigningKeyError):
            await keys.find("first")

    async def test_known_keys_are_fetched_when_they_are_old_and_not_before(
        self, project: SupabaseProject, keys: SigningKeys, clock: Clock
    ) -> None:
        for _ in range(3):
            await keys.find("first")
        assert len(project.fetches) == 1
        clock.now += CACHE_SECONDS
        await keys.find("first")
        assert len(project.fetches) == 2

    async def test_concurrent_requests_share_one_fetch(
        self, project: SupabaseProject, keys: SigningKeys
    ) -> None:
        found = await asyncio.gather(*(keys.find("first") for _ in range(50)))
        assert {key.key_id for key in found} == {"first"}
        assert len(project.fetches) == 1

    async def test_a_request_that_is_cancelled_leaves_the_fetch_to_the_next(
        self, project: SupabaseProject, keys: SigningKeys
    ) -> None:
        with project.answers_held_back():
            leading = asyncio.create_task(keys.find("first"))
            await asyncio.to_thread(project.wait_for_fetches, 1)
            following = asyncio.create_task(keys.find("first"))
            project.answer = None
            leading.cancel()
            assert (await following).key_id == "first"


class TestUsableKeys:
    async def test_what_cannot_verify_a_token_is_passed_over(
        self, project: SupabaseProject, keys: SigningKeys
    ) -> None:
        good = make_key("good").entry
        large_curve = ECAlgorithm.to_jwk(
            ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True
        )
        short = RSAAlgorithm.to_jwk(rsa_key(1024).public_key(), as_dict=True)
        unusable = [
            {"kid": "shared", "kty": "oct", "k": "c2VjcmV0"},
            {"kid": "shared-es256", "kty": "oct", "k": "c2VjcmV0", "alg": "ES256"},
            large_curve | {"kid": "other-curve", "alg": "ES256"},
            large_curve | {"kid": "other-algorithm"},
            short | {"kid": "short", "alg": "RS256"},
            good | {"kid": "hs256", "alg": "HS256"},
            good | {"kid": "none", "alg": "none"},
            good | {"kid": "list", "alg": ["ES256"]},
            good | {"kid": "encryption", "use": "enc"},
            good | {"kid": "no-point", "x": 7},
            good | {"kid": "off-curve", "x": good["y"]},
            good | {"kid": 7},
            good | {"kid": "no-type", "kty": None},
            "text",
            None,
        ]
        project.answer = send(json.dumps({"keys": [*unusable, good]}).encode())
        assert (await keys.find("good")).algorithm_name == "ES256"
        assert list(keys._keys) == ["good"]

    @pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
    async def test_the_algorithm_follows_from_the_key_where_none_is_named(
        self, project: SupabaseProject, keys: SigningKeys, algorithm: str
    ) -> None:
        entry = make_key("plain", algorithm).entry
        del entry["alg"], entry["use"]
        project.answer = send(json.dumps({"keys": [entry]}).encode())
        assert (await keys.find("plain")).algorithm_name == algorithm

    async def test_a_project_without_such_keys_is_logged(
        self, project: SupabaseProject, keys: SigningKeys, caplog: pytest.LogCaptureFixture
    ) -> None:
        project.keys.clear()
        with pytest.raises(UnknownSigningKeyError):
            await keys.find("first")
        assert "does the project still sign with its legacy JWT secret?" in caplog.text


class TestUnreachable:
    async def test_without_any_keys_nothing_can_be_said(
        self, project: SupabaseProject, keys: SigningKeys, caplog: pytest.LogCaptureFixture
    ) -> None:
        project.stop()
        with pytest.raises(SigningKeysUnavailableError):
            await keys.find("first")
        assert f"no signing keys from {project.jwks_url}: ConnectError" in caplog.text

    async def test_fresh_keys_need_no_fetch(
        self, project: SupabaseProject, keys: SigningKeys, clock: Clock
    ) -> None:
        await keys.find("first")
        project.answer = send(b"", 503)
        clock.now += CACHE_SECONDS - 1
        await keys.find("first")
        assert len(project.fetches) == 1

    async def test_of_an_unknown_key_nothing_can_be_said(
        self, project: SupabaseProject, keys: SigningKeys, clock: Clock
    ) -> None:
        await keys.find("first")
        project.answer = send(b"", 503)
        clock.now += 30
        with pytest.raises(SigningKeysUnavailableError):
            await keys.find("second")
        await keys.find("first")

    async def test_known_keys_hold_for_a_while_longer_and_no_more(
        self, project: SupabaseProject, keys: SigningKeys, clock: Clock
    ) -> None:
        await keys.find("first")
        project.answer = send(b"", 503)
        clock.now += CACHE_SECONDS + STALE_SECONDS - 1
        await keys.find("first")
        clock.now += 1
        with pytest.raises(SigningKeysUnavailableError):
            await keys.find("first")

    async def test_it_is_asked_again_every_five_seconds_at_most(
        self, project: SupabaseProject, keys: SigningKeys, clock: Clock
    ) -> None:
        project.answer = send(b"", 503)
        for _ in range(10):
            with pytest.raises(SigningKeysUnavailableError):
                await keys.find("first")
            clock.now += 1
        assert len(project.fetches) == 2

    async def test_it_comes_back(
        self, project: SupabaseProject, keys: SigningKeys, clock: Clock
    ) -> None:
        project.answer = send(b"", 503)
        with pytest.raises(SigningKeysUnavailableError):
            await keys.find("first")
        project.answer = None
        clock.now += 5
        await keys.find("first")

    @pytest.mark.parametrize(
        "answer",
        [
            send(b'{"keys": []}', 302),
            send(b'{"keys": []}', 404),
            send(b'{"keys": []}', 500),
            send(b"<html>"),
            send(b"{}"),
            send(b"[]"),
            send(b'{"keys": {}}'),
            send(b"\xff\xfe"),
            send(b'{"keys": ' + b"[" * 60_000),
            send(b'{"keys": [' + b" " * 70_000 + b"]}"),
            send(gzip.compress(b'{"keys": []}'), Content_Encoding="gzip"),
            lambda handler: handler.wfile.write(b"\0\0\0"),
        ],
        ids=[
            *("moved", "missing", "broken", "page", "object", "list", "keys-object"),
            *("binary", "deep", "large", "compressed", "no-http"),
        ],
    )
    async def test_whatever_is_no_key_set_changes_nothing(
        self, project: SupabaseProject, keys: SigningKeys, clock: Clock, answer: Answer
    ) -> None:
        await keys.find("first")
        project.answer = answer
        clock.now += CACHE_SECONDS
        assert (await keys.find("first")).key_id == "first"
        with pytest.raises(SigningKeysUnavailableError):
            await keys.find("second")

    async def test_redirects_lead_nowhere(
        self, project: SupabaseProject, keys: SigningKeys
    ) -> None:
        with SupabaseProject() as elsewhere:
            project.answer = redirect_to(elsewhere)
            with pytest.raises(SigningKeysUnavailableError):
                await keys.find("first")
            assert elsewhere.fetches == []

    async def test_no_more_is_read_than_a_key_set_may_have(
        self, project: SupabaseProject, keys: SigningKeys
    ) -> None:
        ended: Queue[bool] = Queue()

        def pour(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            try:
                handler.wfile.write(b" " * 200_000_000)  # far more than the kernel would buffer
            except OSError:
                ended.put(False)
            else:
                ended.put(True)

        project.answer = pour
        with pytest.raises(SigningKeysUnavailableError):
            await keys.find("first")
        was_read_to_the_end = ended.get(timeout=10)
        assert not was_read_to_the_end


class TestSlow:
    """A slow server delays only requests that need it, and by a bounded time."""

    @pytest.fixture
    def half_a_second(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(signing_keys, "FETCH_SECONDS", 0.5)

    @pytest.mark.usefixtures("half_a_second")
    async def test_silence_has_an_end(self, project: SupabaseProject, keys: SigningKeys) -> None:
        with project.answers_held_back(), pytest.raises(SigningKeysUnavailableError):
            await keys.find("first")

    @pytest.mark.usefixtures("half_a_second")
    async def test_so_has_an_answer_that_never_ends(
        self, project: SupabaseProject, keys: SigningKeys
    ) -> None:
        gone = threading.Event()

        def drip(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            while not gone.wait(0.02):
                handler.wfile.write(b" ")

        project.answer = drip
        with pytest.raises(SigningKeysUnavailableError):
            await keys.find("first")
        gone.set()

    @pytest.mark.usefixtures("half_a_second")
    async def test_who_waited_for_it_does_not_ask_again(
        self, project: SupabaseProject, keys: SigningKeys
    ) -> None:
        with project.answers_held_back():
            outcomes = await asyncio.gather(
                *(keys.find("first") for _ in range(20)), return_exceptions=True
            )
        assert {type(outcome) for outcome in outcomes} == {SigningKeysUnavailableError}
        assert len(project.fetches) == 1

    async def test_the_event_loop_goes_on(
        self, project: SupabaseProject, keys: SigningKeys
    ) -> None:
        with project.answers_held_back():
            finding = asyncio.create_task(keys.find("first"))
            await asyncio.to_thread(project.wait_for_fetches, 1)
            for _ in range(100):
                await asyncio.sleep(0)
            assert not finding.done()
        assert (await finding).key_id == "first"

    async def test_known_keys_are_found_meanwhile(
        self, project: SupabaseProject, keys: SigningKeys, clock: Clock
    ) -> None:
        await keys.find("first")
        clock.now += 30
        with project.answers_held_back():
            asking = asyncio.create_task(keys.find("second"))
            await asyncio.to_thread(project.wait_for_fetches, 2)
            await keys.find("first")
            assert not asking.done()
        with pytest.raises(UnknownSigningKeyError):
            await asking

    async def test_one_request_tries_again_and_the_others_do_not_wait(
        self, project: SupabaseProject, keys: SigningKeys, clock: Clock
    ) -> None:
        await keys.find("first")
        clock.now += CACHE_SECONDS
        project.answer = send(b"", 503)
        await keys.find("first")
        clock.now += 5
        with project.answers_held_back():
            trying = asyncio.create_task(keys.find("first"))
            await asyncio.to_thread(project.wait_for_fetches, 3)
            await keys.find("first")
            project.keys.append(make_key("second"))
            asking_for_another = asyncio.create_task(keys.find("second"))
            await asyncio.sleep(0)
            assert not trying.done()
        await trying
        assert (await asking_for_another).key_id == "second"

    async def test_unless_it_has_failed_all_wait_to_hear_what_was_revoked(
        self, project: SupabaseProject, keys: SigningKeys, clock: Clock
    ) -> None:
        await keys.find("first")
        clock.now += CACHE_SECONDS
        project.keys = [make_key("second")]
        with project.answers_held_back():
            leading = asyncio.create_task(keys.find("first"))
            await asyncio.to_thread(project.wait_for_fetches, 2)
            following = asyncio.create_task(keys.find("first"))
            await asyncio.sleep(0)
        for waiting in (leading, following):
            with pytest.raises(UnknownSigningKeyError):
                await waiting
