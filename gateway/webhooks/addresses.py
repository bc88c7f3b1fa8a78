"""Where events may go: a shop names the address, so it must not lead into the network the gateway stands in.

The name is judged when it is given, the very address at every connection, so that a name that resolves to something
else the next time, or to several addresses, helps nobody.
"""

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.errors import Invalid

MAX_URL_LENGTH: Final = 2000

# IANA's special-purpose registries, and what else no server of a shop has on the internet.
_NOWHERE: Final = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "169.254.0.0/16",  # link-local; the metadata servers of clouds
        "100.100.100.200/32",  # the same of clouds that have theirs elsewhere: Alibaba,
        "168.63.129.16/32",  # Azure,
        "fd00:ec2::254/128",  # Amazon,
        "fd20:ce::254/128",  # Google
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "64:ff9b:1::/48",
        "100::/64",
        "100:0:0:1::/64",
        "2001::/23",  # Teredo, ORCHID and their like
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
# Of one's own: allowed where the setting says that a shop's backend may be there.
_PRIVATE: Final = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",
        "100.64.0.0/10",  # between a carrier and its customers
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
    )
)
_GLOBAL_V6: Final = ip_network("2000::/3")
# Addresses of version 6 that carry one of version 4 in their last four bytes; to the other one they would lead there.
_CARRIERS: Final = tuple(ip_network(text) for text in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"))
_SIX_TO_FOUR: Final = ip_network("2002::/16")
_LOCAL_NAMES: Final = (".localhost", ".local", ".internal", ".home.arpa")

AddrInfo = tuple[Any, Any, int, str, Any]


class AddressRefused(OSError):
    """Events may not go to this address."""


def allows(address: str, *, private: bool) -> bool:
    """Whether a connection to an address may be made, `private`: also to one's own networks; never to what is none."""
    try:
        read = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(read, IPv6Address):
        carried = _carried(read)
        if carried is not None:
            read = carried
    if any(read in network for network in _NOWHERE):
        return False
    if any(read in network for network in _PRIVATE):
        return private
    return isinstance(read, IPv4Address) or read in _GLOBAL_V6


def is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _carried(address: IPv6Address) -> IPv4Address | None:
    if int(address) <= 1:
        return None  # nothing, and loopback
    if address in _SIX_TO_FOUR:
        return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    if any(address in network for network in _CARRIERS):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def guarded(allowed: Callable[[str], bool]) -> Callable[[AddrInfo], socket.socket]:
    """What makes the socket of every connection of a client: it is asked with the address that is connected to, after
    DNS and for each address of a name anew."""

    def make(info: AddrInfo) -> socket.socket:
        family, kind, proto, _, address = info
        if not allowed(str(address[0])):
            raise AddressRefused(f"events may not go to {address[0]}")
        return socket.socket(family=family, type=kind, proto=proto)

    return make


def checked_url(url: str, *, dev: bool, private: bool) -> str:
    """The address of a webhook. Raises Invalid for one that no event would be sent to."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _invalid("That is no address.") from None
    host = (parts.hostname or "").rstrip(".")
    if len(url) > MAX_URL_LENGTH or not url.isascii() or not url.isprintable() or " " in url:
        raise _invalid(f"An address has at most {MAX_URL_LENGTH} printable characters of ASCII.")
    if parts.scheme not in ("https", "http") or not host:
        raise _invalid("A webhook is an address with https://.")
    if parts.scheme == "http" and not (dev and (is_loopback(host) or host == "localhost")):
        raise _invalid("A webhook is an address with https://; http:// is for development on this machine.")
    if "@" in parts.netloc:
        raise _invalid("An address names no user and no password; events are signed.")
    if parts.fragment:
        raise _invalid("An address has no fragment.")
    # Below 1024 stand the ports of other protocols, which must not be spoken to in the gateway's name.
    if port is not None and port < 1024 and port not in (80, 443):
        raise _invalid("The port is 443, or 1024 and above.")
    if not private and (host == "localhost" or host.endswith(_LOCAL_NAMES) or ("." not in host and ":" not in host)):
        raise _invalid("The name leads into a private network.")
    if _is_address(host) and not allows(host, private=private):
        raise _invalid("The address is of a private or reserved network.")
    return url


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _invalid(message: str) -> Invalid:
    return Invalid(message, param="url")
