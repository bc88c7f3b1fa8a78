"""Whether the orders Valkey keeps what it answered: asked at start, because `reserved` is said on its word."""

from redis.exceptions import ResponseError

from gateway.errors import SettingsError
from gateway.hot.connect import Client, hot_errors

_WANTED = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


async def require_durable(client: Client, *, allow_volatile: bool) -> list[str]:
    """What the server lacks; raises SettingsError for it unless that is allowed. Servers that tell nothing lack all."""
    lacks: list[str] = []
    with hot_errors():
        for name, wanted in _WANTED.items():
            try:
                found = await client.config_get(name)
            except ResponseError:
                found = {}  # a managed server may not let its clients ask
            values = {_text(key): _text(value) for key, value in found.items()}
            if values.get(name) != wanted:
                lacks.append(f"{name} is {values.get(name, 'not told')}, wanted is {wanted}")
    if lacks and not allow_volatile:
        raise SettingsError(
            "VALKEY_URL: this server may lose orders it has answered: "
            + "; ".join(lacks)
            + ". Change the server, or set PEAKGATE_ALLOW_VOLATILE_VALKEY=true where losing them is allowed.",
            param="VALKEY_URL",
        )
    return lacks


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
