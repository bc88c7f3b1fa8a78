"""Whose connection it is, seen through the proxies that are trusted."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

# A home or a phone has a whole /64 to itself and may call from each address of it.
_IPV6_PREFIX = 64
_LOCAL = "local"


class Addresses:
    """What `of` returns is for counting: one string for all that one subscriber can call from."""

    __slots__ = ("_trusted",)

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)

    @classmethod
    def parse(cls, networks: str) -> "Addresses":
        """Of a list such as `10.0.0.0/8, 127.0.0.1`. Raises ValueError, which names the wrong one."""
        return cls([_network(word.strip()) for word in networks.split(",") if word.strip()])

    def trusts(self, peer: str) -> bool:
        address = _address(peer)
        return address is None or self._is_trusted(address)

    def of(self, peer: str, forwarded: Iterable[str]) -> str:
        """The right-most address that no trusted proxy has; `forwarded` are the X-Forwarded-For of the request.

        What stands left of it was written by whoever it is and proves nothing. An empty `peer` is a Unix socket, so it
        is a proxy of this machine.
        """
        address = _address(peer)
        chain = [word.strip() for line in forwarded for word in line.split(",")]
        while chain and (address is None or self._is_trusted(address)):
            before = _address(chain.pop())
            if before is None:
                break
            address = before
        return _key(address)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _network(word: str) -> Network:
    try:
        return ip_network(word, strict=False)
    except ValueError:
        raise ValueError(f"{word!r} is no network such as 10.0.0.0/8") from None


def _address(word: str) -> Address | None:
    """Some proxies write the port too."""
    if word.startswith("["):
        word = word[1:].partition("]")[0]
    elif word.count(":") == 1:
        word = word.partition(":")[0]
    try:
        address = ip_address(word)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _key(address: Address | None) -> str:
    if address is None:
        return _LOCAL
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), _IPV6_PREFIX), strict=False))
    return str(address)
