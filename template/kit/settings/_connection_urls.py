"""Connection URLs: split into parts, and built from parts.

Every part is percent-encoded on its own, so any password works: `@ : / # ? % +`, spaces and
non-ASCII included (RFC 3986, section 2.1).
"""

from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

POSTGRES_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg2")
REDIS_SCHEMES = ("redis", "rediss")
PASSWORD_PLACEHOLDER = "[YOUR-PASSWORD]"  # noqa: S105 (what Supabase's dashboard shows)


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
    split = _split(url, "DATABASE_URL", POSTGRES_SCHEMES, "postgresql://user:password@host:5432/db")
    query = dict(parse_qsl(split.query, keep_blank_values=True))
    parts: dict[str, object] = {
        "POSTGRES_HOST": split.hostname or query.pop("host", "") or "localhost",
        "POSTGRES_PORT": split.port or int(query.pop("port", 0)) or 5432,
        "POSTGRES_DB": unquote(split.path.removeprefix("/")) or "postgres",
        "POSTGRES_USER": unquote(split.username or "postgres"),
        "POSTGRES_PASSWORD": _password(split),
        "POSTGRES_SSLMODE": query.pop("sslmode", query.pop("ssl", None)),
        "POSTGRES_CA_FILE": query.pop("sslrootcert", None),
    }
    _refuse_parameters(query, "DATABASE_URL", "sslmode, sslrootcert, host and port")
    return {name: value for name, value in parts.items() if value is not None}


def redis_parts(url: str) -> dict[str, object]:
    """Split a Redis URL into `REDIS_…` settings.

    Raises:
        ValueError: when the URL is of another kind, still holds a placeholder for the password or
            has parameters.
    """
    split = _split(url, "REDIS_URL", REDIS_SCHEMES, "rediss://default:password@host:6379/0")
    _refuse_parameters(dict(parse_qsl(split.query)), "REDIS_URL", "none")
    database = split.path.removeprefix("/") or "0"
    if not database.isdecimal():
        raise ValueError(f"REDIS_URL ends in /{database}, expected the number of a database, as /0")
    parts: dict[str, object] = {
        "REDIS_HOST": split.hostname or "localhost",
        "REDIS_PORT": split.port or 6379,
        "REDIS_DB": int(database),
        "REDIS_USERNAME": unquote(split.username) if split.username else None,
        "REDIS_PASSWORD": _password(split),
        "REDIS_TLS": split.scheme == "rediss",
    }
    return {name: value for name, value in parts.items() if value is not None}


def _split(url: str, name: str, schemes: tuple[str, ...], example: str) -> SplitResult:
    if PASSWORD_PLACEHOLDER in url:
        raise ValueError(f"{name} still holds {PASSWORD_PLACEHOLDER}; replace it with the password")
    try:
        split = urlsplit(url)
        _ = split.port
    except ValueError as error:
        raise ValueError(
            f"{name} cannot be read ({error}), expected {example}; "
            "percent-encode special characters of the password, or set the parts instead"
        ) from None
    if split.scheme not in schemes:
        raise ValueError(f"{name} begins with {split.scheme or 'nothing'}://, expected {example}")
    if split.fragment:
        raise ValueError(
            f"{name} holds a bare #, which ends a URL; percent-encode it as %23, "
            "or set the parts instead"
        )
    return split


def _password(split: SplitResult) -> str | None:
    if split.password is None:
        return None
    return unquote(split.password)


def _refuse_parameters(query: Mapping[str, str], name: str, honoured: str) -> None:
    if query:
        raise ValueError(
            f"{name} has unsupported parameters ({', '.join(sorted(query))}); remove them from the "
            f"URL. Supported parameters: {honoured}"
        )
