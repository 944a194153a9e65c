"""Which addresses webhooks may be sent to.

Whoever may subscribe chooses the URL, and the request to it comes from inside our network. Left
unchecked it could reach what only that network reaches, such as a database's port or the cloud's
metadata service (server-side request forgery). A URL is checked when it is entered, and what its
host's name stands for whenever a connection is made: `client.py` connects to the very address
that was checked here, so a name that changes in between (DNS rebinding) gains nothing.
"""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from pydantic_core import Url, ValidationError

from app.extensions.webhooks.settings import webhooks_settings

LONGEST_URL = 2000

# What Python's `is_global` holds for special differs between its versions, so it stands here.
# https://www.iana.org/assignments/iana-ipv4-special-registry
# https://www.iana.org/assignments/iana-ipv6-special-registry
_PRIVATE_IPV4 = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' own; 100.100.100.200 is Alibaba Cloud's metadata service
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's metadata service, although the address is a public one
        "169.254.0.0/16",  # link-local; 169.254.169.254 is most clouds' metadata service
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_PUBLIC_IPV6 = ip_network("2000::/3")
"""All that is given out so far; loopback, link-local, private and mapped addresses lie outside."""
_PRIVATE_IPV6 = tuple(
    ip_network(network)
    for network in (
        "2001::/23",  # protocols' own; 2001::/32 is Teredo, which carries an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which carries an IPv4 address
        "3fff::/20",  # documentation
    )
)
_NAT64 = ip_network("64:ff9b::/96")
"""How a network without IPv4 reaches it: the last 32 bits are the IPv4 address (RFC 6052)."""


class TargetRefusedError(ValueError):
    """Nothing is sent to this URL or host; the message says why, and what would be right."""


def check_url(url: str) -> str:
    """A receiver's URL as it is stored: normal form, the host in lower case and in ASCII.

    Raises:
        TargetRefusedError: when webhooks are not sent there.
    """
    try:
        parsed = Url(url)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise TargetRefusedError(f"{reason}; expected https://host/path") from None
    schemes = ("https", "http") if webhooks_settings.ALLOW_PRIVATE_TARGETS else ("https",)
    if parsed.scheme not in schemes:
        expected = " or ".join(f"{scheme}://" for scheme in schemes)
        raise TargetRefusedError(f"the URL begins with {parsed.scheme}://, expected {expected}")
    if parsed.username or parsed.password:
        raise TargetRefusedError("the URL holds a username or password; leave them out")
    if parsed.fragment is not None:
        raise TargetRefusedError("the URL ends in a #fragment, which no server sees; leave it out")
    if len(str(parsed)) > LONGEST_URL:
        raise TargetRefusedError(f"the URL is longer than {LONGEST_URL} characters")
    host = (parsed.host or "").strip("[]").rstrip(".")
    if not webhooks_settings.ALLOW_PRIVATE_TARGETS and _is_known_as_private(host):
        raise TargetRefusedError(f"{host} is no public address")
    return str(parsed)


def resolve(host: str, port: int) -> list[str]:
    """The addresses that a host's name stands for now, each of them checked.

    How long that takes is up to the system's resolver.

    Raises:
        TargetRefusedError: when one of them is no public address.
        OSError: when the name is unknown.
    """
    # As bytes, because as text Python's own codec would refuse names that the resolver knows.
    found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    for address in addresses:
        if not webhooks_settings.ALLOW_PRIVATE_TARGETS and not is_public(address):
            raise TargetRefusedError(f"{host} stands for {address}, which is no public address")
    return addresses


def is_public(address: str) -> bool:
    """Whether an IP address belongs to a host on the internet, as any other network sees it."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address) and parsed in _NAT64:
        parsed = IPv4Address(int(parsed) & 0xFFFFFFFF)
    if isinstance(parsed, IPv4Address):
        return not any(parsed in network for network in _PRIVATE_IPV4)
    return parsed in _PUBLIC_IPV6 and not any(parsed in network for network in _PRIVATE_IPV6)


def _is_known_as_private(host: str) -> bool:
    """Whether that can be told without looking the name up."""
    try:
        return not is_public(host)
    except ValueError:  # a name
        return host == "localhost" or host.endswith(".localhost")
