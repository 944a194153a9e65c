import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from kit.settings._base import build_url, postgres_parts, redis_parts

# What a password may hold: anything but the NUL byte, which no server accepts.
passwords = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


DATABASE_URLS = {
    # https://devcenter.heroku.com/articles/heroku-postgresql-credentials
    "Heroku": (
        "postgres://u0a:p4f@c9v.cluster-czrs8kj4.us-east-1.rds.amazonaws.com:5432/d1k",
        {"POSTGRES_HOST": "c9v.cluster-czrs8kj4.us-east-1.rds.amazonaws.com", "POSTGRES_DB": "d1k"},
    ),
    # https://render.com/docs/postgresql-creating-connecting
    "Render, internal": (
        "postgresql://app:pw@dpg-cabc123-a/app_db",
        {"POSTGRES_HOST": "dpg-cabc123-a", "POSTGRES_PORT": 5432, "POSTGRES_DB": "app_db"},
    ),
    # https://docs.railway.com/databases/postgresql
    "Railway": (
        "postgresql://postgres:pw@postgres.railway.internal:5432/railway",
        {"POSTGRES_HOST": "postgres.railway.internal", "POSTGRES_DB": "railway"},
    ),
    # https://fly.io/docs/postgres/connecting/connecting-internal/
    "Fly": (
        "postgres://app:pw@app-db.flycast:5432/app?sslmode=disable",
        {"POSTGRES_HOST": "app-db.flycast", "POSTGRES_SSLMODE": "disable"},
    ),
    # https://neon.com/docs/changelog/2025-06-27
    "Neon": (
        (
            "postgresql://alex:AbC123dEf@ep-cool-darkness-a1b2c3d4-pooler.us-east-2.aws.neon.tech/"
            "dbname?sslmode=require&channel_binding=require"
        ),
        {"POSTGRES_USER": "alex", "POSTGRES_SSLMODE": "require", "POSTGRES_DB": "dbname"},
    ),
    # https://supabase.com/docs/guides/database/prisma
    "Supabase, for Prisma": (
        (
            "postgresql://prisma.abcdefghijklmnopqrst:pw@aws-0-eu-west-1.pooler.supabase.com:6543/"
            "postgres?pgbouncer=true&connection_limit=1&schema=public"
        ),
        {"POSTGRES_PORT": 6543, "POSTGRES_POOLER": "transaction"},
    ),
    # https://vercel.com/marketplace/supabase
    "Supabase, for Vercel": (
        (
            "postgres://postgres.abcdefghijklmnopqrst:pw@aws-0-us-east-1.pooler.supabase.com:6543/"
            "postgres?sslmode=require&supa=base-pooler.x"
        ),
        {"POSTGRES_USER": "postgres.abcdefghijklmnopqrst", "POSTGRES_SSLMODE": "require"},
    ),
    # https://devcenter.heroku.com/articles/connecting-heroku-postgres#connecting-in-node-js
    "node-postgres": (
        "postgres://u:p@h/db?sslmode=no-verify&uselibpqcompat=true",
        {"POSTGRES_SSLMODE": "require"},
    ),
}

REDIS_URLS = {
    # https://devcenter.heroku.com/articles/connecting-heroku-redis
    "Heroku": (
        "rediss://:p4f@ec2-1-2-3-4.compute-1.amazonaws.com:9220",
        {"REDIS_TLS": True, "REDIS_PASSWORD": "p4f", "REDIS_PORT": 9220, "REDIS_DB": 0},
    ),
    # https://render.com/docs/key-value
    "Render, internal": (
        "redis://red-cabc123:6379",
        {"REDIS_HOST": "red-cabc123", "REDIS_TLS": False},
    ),
    # https://upstash.com/docs/redis/integrations/celery
    "Upstash, for Celery": (
        "rediss://default:pw@eu1-big-cat-12345.upstash.io:6379?ssl_cert_reqs=required",
        {"REDIS_HOST": "eu1-big-cat-12345.upstash.io", "REDIS_TLS": True},
    ),
    # https://docs.railway.com/databases/troubleshooting/enotfound-redis-railway-internal
    "Railway": (
        "redis://default:pw@redis.railway.internal:6379?family=0",
        {"REDIS_HOST": "redis.railway.internal", "REDIS_USERNAME": "default"},
    ),
    # https://aiven.io/docs/products/valkey/howto/connect-redis-py
    "Aiven for Valkey": (
        "valkeys://default:pw@valkey-x.aivencloud.com:24660",
        {"REDIS_TLS": True, "REDIS_PORT": 24660},
    ),
    # https://redis.readthedocs.io/en/stable/connections.html#redis.connection.ConnectionPool.from_url
    "redis-py": (
        "rediss://default:pw@h:6379?db=2&ssl_ca_certs=ca.crt&ssl_cert_reqs=CERT_REQUIRED",
        {"REDIS_DB": 2, "REDIS_CA_FILE": "ca.crt"},
    ),
}


@pytest.mark.parametrize(("url", "expected"), DATABASE_URLS.values(), ids=DATABASE_URLS.keys())
def test_database_urls_as_platforms_have_them(url: str, expected: dict[str, object]) -> None:
    assert postgres_parts(url).items() >= expected.items()


@pytest.mark.parametrize(("url", "expected"), REDIS_URLS.values(), ids=REDIS_URLS.keys())
def test_redis_urls_as_platforms_have_them(url: str, expected: dict[str, object]) -> None:
    assert redis_parts(url).items() >= expected.items()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mysql://u:p@h/db", "does not begin with postgresql://"),
        ("postgresql://u:[YOUR-PASSWORD]@h/db", r"still holds \[YOUR-PASSWORD\]"),
        ("postgresql://u:****@h/db", "still holds"),
        ("postgresql://u:p@h:port/db", "cannot be read"),
        ("postgresql://u:p@h/db?jit=off", r"not kept \(jit\): one of the two drivers"),
        ("postgresql://u:p@h/db?schema=shop", r"not kept \(schema\)"),
        ("postgresql://u:p@h/db?sslmode=prefer", "unencrypted without notice"),
    ],
)
def test_refuses_database_url(url: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        postgres_parts(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h", "does not begin with redis://"),
        ("redis://h/first", "not the number of a database"),
        ("rediss://h?ssl_cert_reqs=none", "set REDIS_TLS_VERIFY=false"),
        ("rediss://h?ssl_cert_reqs=CERT_NONE", "set REDIS_TLS_VERIFY=false"),
        ("redis://h?socket_timeout=5", r"not kept \(socket_timeout\): this service has settings"),
    ],
)
def test_refuses_redis_url(url: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        redis_parts(url)


@pytest.mark.parametrize("before", ["hunt#er2", "hunt/er2", "hunt?er2", "12/hunter2", "12?hunter2"])
@pytest.mark.parametrize("after", ["", "[", "#"])
@pytest.mark.parametrize("scheme", ["postgresql", "rediss"])
def test_no_message_holds_a_part_of_the_password(scheme: str, before: str, after: str) -> None:
    take_apart = postgres_parts if scheme == "postgresql" else redis_parts

    with pytest.raises(ValueError, match="percent-encode") as caught:
        take_apart(f"{scheme}://user:{before}{after}@h:1/0")

    assert "hunt" not in str(caught.value)
    assert "er2" not in str(caught.value)


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
