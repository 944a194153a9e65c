"""The ids of the current request and of the running task, for log lines; a request's caller.

A module that imports nothing, so that logging and models can use it.
"""

import re
import secrets
from collections.abc import Mapping
from contextvars import ContextVar, Token
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

REQUEST_ID_HEADER = "X-Request-ID"

# A stranger's id goes into logs and into Celery's headers, so it may only be a short plain word.
_ACCEPTED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

_request_id: ContextVar[str] = ContextVar("request_id", default="")


def get_request_id() -> str:
    """The bound request id; an empty string outside a request and outside a task that one sent."""
    return _request_id.get()


def bind_request_id(request_id: str) -> Token[str]:
    """Bind a request id to the running context; pass the token to `unbind_request_id`."""
    return _request_id.set(request_id)


def unbind_request_id(token: Token[str]) -> None:
    """Restore the request id that was bound before `bind_request_id` returned this token."""
    _request_id.reset(token)


def accepted_request_id(candidate: str | None) -> str:
    """The caller's id where it is a plain word of at most 128 characters, otherwise a new one."""
    if candidate and _ACCEPTED.fullmatch(candidate):
        return candidate
    return secrets.token_hex(16)


PREFIX_LENGTH = 8
"""Characters of a task's id that a log line shows: enough to distinguish the tasks of a day."""

# A tuple, since a task may run another one in place (`apply()`).
_running: ContextVar[tuple[str, ...]] = ContextVar("running_tasks", default=())


def get_task_id() -> str:
    """Prefix for log lines, as `[b83caca6] `; an empty string outside a task."""
    running = _running.get()
    return f"[{running[-1][:PREFIX_LENGTH]}] " if running else ""


def bind_task_id(task_id: str) -> None:
    """Bind the id of a task that begins."""
    _running.set((*_running.get(), task_id))


def unbind_task_id() -> None:
    """Unbind the id of the task that was bound last."""
    _running.set(_running.get()[:-1])


def root_path(scope: Mapping[str, Any]) -> str:
    """The path below which the service is served, as `/shop`; empty where it has a host."""
    # A mounted application's own root is longer.
    return str(scope.get("app_root_path", scope.get("root_path", "")))


VIA = " via "
"""Between a client's address and that of a proxy which reports it and is not named."""


def client_address(scope: Mapping[str, Any]) -> str:
    """The client's address; empty behind a Unix socket.

    Behind a proxy of the private network that is not in `FORWARDED_ALLOW_IPS` it is
    `203.0.113.9 via 10.0.0.7`: not to be relied on, but it tells the proxy's clients apart.
    """
    peer, claimed = scope["client"][0] if scope.get("client") else "", reported_client(scope)
    return f"{claimed}{VIA}{peer}" if claimed and not is_public(peer) else peer


def reported_client(scope: Mapping[str, Any]) -> str | None:
    """The client that a proxy reports which is not in `FORWARDED_ALLOW_IPS`; None without one."""
    values = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    if not values:
        return None
    hosts = [_without_port(each) for each in b",".join(values).decode("latin-1").split(",")]
    # A named proxy's address is not here any more: the server has put one of these in its place.
    if scope.get("client") and scope["client"][0] in hosts:
        return None
    address = _address(hosts[-1])  # the nearest proxy's own; callers make up the others
    return str(address) if address else None


def client_network(address: str) -> str:
    """The network that counts as one client: an IPv4 address, or an IPv6 network of 64 bits.

    One IPv6 subscriber has at least that many addresses to choose from.
    """
    client, via, proxy = address.partition(VIA)
    ip = _address(client)
    if isinstance(ip, IPv6Address):
        client = f"{IPv6Address(int(ip) >> 64 << 64)}/64"
    return f"{ip if isinstance(ip, IPv4Address) else client}{via}{proxy}"


def is_public(address: str) -> bool:
    """Whether anybody on the internet may have this address."""
    ip = _address(address)
    return ip is not None and ip.is_global


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        ip = ip_address(text)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def _without_port(host: str) -> str:
    host = host.strip()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host
