"""Which pages are the gateway's own: they open sockets and are signed in without any shop's having listed them."""

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

_SCHEMES: Final = ("http://", "https://")


class OwnPages:
    """`public_url` is where people reach the api. Where nobody said it, it is `port` of whichever host they asked.

    A browser writes the Host of a request itself, by the address that it connects to, as it writes the Origin by the
    address of the page. So a page whose Origin is the Host that it asks came from here, or from a proxy before us.
    """

    def __init__(self, *, public_url: str | None, port: int) -> None:
        self._public = None if public_url is None else public_url.lower()
        self._port = port

    def include(self, origin: str, *, host: str | None) -> bool:
        if self._public is not None and origin == self._public:
            return True
        scheme = next((each for each in _SCHEMES if origin.startswith(each)), None)
        if scheme is None or not host:
            return False
        asked = host.lower()
        if origin == scheme + asked:
            return True
        name = _name_of(asked)
        return self._public is None and name is not None and origin == f"http://{name}:{self._port}"

    def is_ours(self, host: str | None) -> bool:
        """Whether a Host names us and could not be somebody else's name that was pointed at our address."""
        name = _name_of((host or "").lower())
        if name is None:
            return False
        if self._public is not None and name == _name_of(self._public.partition("://")[2]):
            return True
        if name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


def _name_of(host: str) -> str | None:
    """The host without its port, as it stands in an address."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return None
    return f"[{name}]" if name and ":" in name else name
