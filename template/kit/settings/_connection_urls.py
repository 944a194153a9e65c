"""Connection URLs: split into parts, and built from parts.

Every part is percent-encoded on its own, so any password works: `@ : / # ? % +`, spaces and
non-ASCII included (RFC 3986, section 2.1).
"""

import re
from collections.abc import Collection
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

POSTGRES_SCHEMES = (
    "postgresql",
    "postgres",
    "postgresql+asyncpg",
    "postgresql+psycopg2",
    "postgresql+psycopg",
)
POSTGRES_EXAMPLE = "postgresql://user:password@host:5432/db"
REDIS_SCHEMES = ("redis", "rediss", "valkey", "valkeys")
REDIS_EXAMPLE = "rediss://default:password@host:6379/0"

POSTGRES_WITHOUT_EFFECT = frozenset(
    {
        "application_name",  # each connection has a name of its own, see `make connections`
        "channel_binding",  # asyncpg has none; sslmode is kept
        "connect_timeout",
        "connection_limit",  # Prisma's name of POSTGRES_POOL_SIZE
        "pool_timeout",
        "supa",  # marks the integration that made the URL
        "uselibpqcompat",  # what sslmode means to node-postgres; it is libpq's meaning here
    }
)
"""Parameters that platforms add for other clients; nothing that was asked for is lost."""

REDIS_WITHOUT_EFFECT = frozenset({"family"})  # ioredis's; both families are tried here

NOT_VERIFIED = "no-verify"
"""node-postgres's name of libpq's `require`: encrypted, the certificate not verified."""

_PLACEHOLDER = re.compile(r":(\[YOUR[-_]PASSWORD\]|<password>|\*+)@")
"""Shown by the dashboards of Supabase, Redis and Neon in the password's place."""


def build_url(
    scheme: str,
    *,
    username: str | None,
    password: str | None,
    host: str,
    port: int,
    path: str,
) -> str:
    """Build a URL, each part percent-encoded; a host that is a path is a Unix socket."""
    login = ""
    if username or password:
        login = quote(username or "", safe="")
        login += f":{quote(password, safe='')}" if password else ""
        login += "@"
    if host.startswith("/"):
        query = urlencode({"host": host, "port": port})
        return f"{scheme}://{login}/{quote(path, safe='')}?{query}"
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{login}{host}:{port}/{quote(path, safe='')}"


def postgres_parts(url: str) -> dict[str, object]:
    """Split a database URL into `POSTGRES_…` settings.

    Raises:
        ValueError: when the URL is of another kind, still holds a placeholder for the password or
            has a parameter that one of the two drivers would ignore.
    """
    split = _split(url, POSTGRES_SCHEMES, POSTGRES_EXAMPLE)
    query = dict(parse_qsl(split.query, keep_blank_values=True))
    sslmode = query.pop("sslmode", query.pop("ssl", None))
    if sslmode in ("allow", "prefer"):
        raise ValueError(
            f"with sslmode={sslmode} a connection can be unencrypted without notice; write "
            "sslmode=require, or sslmode=disable in a trusted network"
        )
    parts: dict[str, object] = {
        "POSTGRES_HOST": split.hostname or query.pop("host", "") or "localhost",
        "POSTGRES_PORT": split.port or query.pop("port", "") or 5432,
        "POSTGRES_DB": unquote(split.path.removeprefix("/")) or "postgres",
        "POSTGRES_USER": unquote(split.username or "postgres"),
        "POSTGRES_PASSWORD": _password(split),
        "POSTGRES_SSLMODE": "require" if sslmode == NOT_VERIFIED else sslmode,
        "POSTGRES_CA_FILE": query.pop("sslrootcert", None),
        # Prisma's sign of a pooler in transaction mode; Supabase gives its URLs with it.
        "POSTGRES_POOLER": {"true": "transaction"}.get(query.pop("pgbouncer", "")),
    }
    if query.get("schema") == "public":  # Prisma's, and the default of PostgreSQL
        del query["schema"]
    _refuse_parameters(
        query.keys() - POSTGRES_WITHOUT_EFFECT,
        "one of the two drivers would ignore them. Remove them from the URL. Those with an effect "
        "are sslmode, sslrootcert, host, port and pgbouncer",
    )
    return {name: value for name, value in parts.items() if value is not None}


def redis_parts(url: str) -> dict[str, object]:
    """Split a Redis URL into `REDIS_…` settings.

    Raises:
        ValueError: when the URL is of another kind, still holds a placeholder for the password or
            has a parameter that cannot be kept.
    """
    split = _split(url, REDIS_SCHEMES, REDIS_EXAMPLE)
    query = dict(parse_qsl(split.query))
    verification = query.pop("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if verification != "required":
        raise ValueError(
            "remove ssl_cert_reqs, which turns the verification of the certificate off. Name the "
            "server's certificate in REDIS_CA_FILE or, where the provider has none to download, "
            "set REDIS_TLS_VERIFY=false"
        )
    database = split.path.removeprefix("/") or query.pop("db", "0")
    if not database.isdecimal():
        raise ValueError(f"the path is not the number of a database, expected {REDIS_EXAMPLE}")
    parts: dict[str, object] = {
        "REDIS_HOST": split.hostname or "localhost",
        "REDIS_PORT": split.port or 6379,
        "REDIS_DB": int(database),
        "REDIS_USERNAME": unquote(split.username) if split.username else None,
        "REDIS_PASSWORD": _password(split),
        "REDIS_TLS": split.scheme in ("rediss", "valkeys"),
        "REDIS_CA_FILE": query.pop("ssl_ca_certs", None),
    }
    _refuse_parameters(
        query.keys() - REDIS_WITHOUT_EFFECT,
        "this service has settings of its own in their place. Remove them from the URL. Those with "
        "an effect are db, ssl_ca_certs and ssl_cert_reqs",
    )
    return {name: value for name, value in parts.items() if value is not None}


def _split(url: str, schemes: tuple[str, ...], example: str) -> SplitResult:
    """Split a URL. No message holds a part of it, since each may be one of the password."""
    if found := _PLACEHOLDER.search(url):
        raise ValueError(f"still holds {found[1]}; replace it with the password")
    encoded = (
        "percent-encode special characters of the password, as %23 for #, %2F for / and %3F for ?, "
        "or set the parts instead"
    )
    try:
        split = urlsplit(url.strip())
        _ = split.port
    except ValueError:
        raise ValueError(f"cannot be read, expected {example}; {encoded}") from None
    if split.scheme not in schemes:
        raise ValueError(f"does not begin with {schemes[0]}://, expected {example}")
    if split.fragment or "@" in split.path + split.query:
        raise ValueError(f"holds a bare #, / or ? before its @; {encoded}")
    return split


def _password(split: SplitResult) -> str | None:
    if split.password is None:
        return None
    return unquote(split.password)


def _refuse_parameters(names: Collection[str], reason: str) -> None:
    if names:
        raise ValueError(f"has parameters that are not kept ({', '.join(sorted(names))}): {reason}")
