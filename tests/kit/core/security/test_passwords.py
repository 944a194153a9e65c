import time
from concurrent.futures import ThreadPoolExecutor

import psutil  # type: ignore[import-untyped]
import pytest
from pwdlib import PasswordHash

from kit.security import _credentials as credentials
from kit.security import generate_password, hash_password, verify_password


class TestVerifyPassword:
    def test_refuses_a_wrong_password(self) -> None:
        assert not verify_password("wrong", hash_password("right"))

    def test_refuses_the_empty_password(self) -> None:
        assert not verify_password("", hash_password("right"))

    def test_refuses_without_a_hash_after_the_same_work(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stored = hash_password("right")
        verified: list[str] = []

        class CountingHasher:
            def verify(self, password: str, password_hash: str) -> bool:
                verified.append(password_hash.rsplit("$", 2)[0])  # algorithm and parameters
                return True

        credentials._dummy_hash()
        monkeypatch.setattr(credentials, "_hasher", CountingHasher())
        assert not verify_password("right", None)
        assert verify_password("right", stored)
        assert len(verified) == 2
        assert verified[0] == verified[1]

    def test_refuses_an_endless_password_without_hashing_it(self) -> None:
        hashed = hash_password("right")
        assert not verify_password("right" + "x" * 1_000_000, hashed)

    def test_accepts_the_password(self) -> None:
        password = "pässword @:/#?%+ \u00e9 with spaces"
        assert verify_password(password, hash_password(password))


class TestHashPassword:
    @pytest.mark.parametrize("password", ["", "x" * 257])
    def test_refuses_empty_and_endless(self, password: str) -> None:
        with pytest.raises(ValueError, match="1 to 256 characters"):
            hash_password(password)

    def test_is_argon2id_with_a_salt(self) -> None:
        first, second = hash_password("same"), hash_password("same")
        assert first.startswith("$argon2id$")
        assert first != second


def test_generated_passwords_differ_and_are_long() -> None:
    assert len({generate_password() for _ in range(50)}) == 50
    assert len(generate_password()) == 24


def test_many_at_once_take_the_memory_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """A public log-in must not fill a small server: forty at once would take 2.5 GB."""
    monkeypatch.setattr(credentials, "_hasher", PasswordHash.recommended())  # else a cheap one
    megabytes = [0.0]
    process, hashed = psutil.Process(), hash_password("right")
    with ThreadPoolExecutor(16) as pool:
        before = process.memory_info().rss
        found = [pool.submit(verify_password, "wrong", hashed) for _ in range(32)]
        while not all(each.done() for each in found):
            megabytes.append((process.memory_info().rss - before) / 2**20)
            time.sleep(0.002)
    assert not any(each.result() for each in found)
    assert 32 < max(megabytes) < 3 * 64
