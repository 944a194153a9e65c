import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from kit.settings._connection_urls import build_url, postgres_parts, redis_parts

# What a password may hold: anything but the NUL byte, which no server accepts.
passwords = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mysql://u:p@h/db", "begins with mysql://"),
        ("postgresql+psycopg://u:p@h/db", r"begins with postgresql\+psycopg:"),
        ("postgresql://u:[YOUR-PASSWORD]@h/db", "still holds"),
        ("postgresql://u:a#b@h/db", "cannot be read|bare #"),
        ("postgresql://u:p@h:port/db", "cannot be read"),
        ("postgresql://u:p@h/db?jit=off", r"unsupported parameters \(jit\)"),
    ],
)
def test_refuses_database_url(url: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        postgres_parts(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h", "begins with http://"),
        ("redis://h/first", "expected the number"),
        ("rediss://h?ssl_cert_reqs=none", r"unsupported parameters \(ssl_cert_reqs\)"),
    ],
)
def test_refuses_redis_url(url: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        redis_parts(url)


@given(username=passwords, password=passwords, database=passwords)
def test_any_text_survives_a_database_url(username: str, password: str, database: str) -> None:
    url = build_url(
        "postgresql+asyncpg",
        username=username,
        password=password,
        host="db.example.com",
        port=6543,
        path=database,
    )

    parsed = make_url(url)
    assert (parsed.username, parsed.password) == (username, password)
    parts = postgres_parts(url)
    assert parts["POSTGRES_USER"] == username
    assert parts["POSTGRES_PASSWORD"] == password
    assert parts["POSTGRES_DB"] == database
    assert (parts["POSTGRES_HOST"], parts["POSTGRES_PORT"]) == ("db.example.com", 6543)


@given(password=passwords)
def test_any_password_survives_a_redis_url(password: str) -> None:
    url = build_url("rediss", username="default", password=password, host="h", port=6379, path="0")

    assert redis_parts(url)["REDIS_PASSWORD"] == password
    assert redis_parts(url)["REDIS_TLS"] is True


def test_unix_socket_and_ipv6() -> None:
    socket = build_url(
        "postgresql+psycopg2", username="u", password=None, host="/run/pg", port=5432, path="db"
    )
    assert postgres_parts(socket)["POSTGRES_HOST"] == "/run/pg"
    assert "[::1]:5432" in build_url(
        "postgresql", username="u", password=None, host="::1", port=5432, path="db"
    )
