"""The settings: read once from flags, the environment and a `.env` file, checked, then frozen.

Here: names, defaults, bounds, meanings, and where each value came from. Only the commands and the assembler see
this module; everyone else is handed plain values.
"""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.admission.addresses import Addresses
from gateway.errors import SettingsError

PREFIX: Final = "PEAKGATE_"
ENV_FILE: Final = ".env"
MASK: Final = "***"

Source = Literal["default", "env", ".env", "flag"]

# Names without our prefix, because shops and platforms already set them so.
_URL_NAMES: Final = {
    "valkey_url": "VALKEY_URL",
    "rooms_valkey_url": "ROOMS_VALKEY_URL",
    "database_url": "DATABASE_URL",
}


def name_of(field: str) -> str:
    """How a setting is called in the environment."""
    return _URL_NAMES.get(field, PREFIX + field.upper())


def _valkey_url(url: str) -> str:
    return _url_with_scheme(url, ("redis", "rediss", "valkey", "valkeys", "unix"))


def _postgres_url(url: str) -> str:
    return _url_with_scheme(url, ("postgresql", "postgres"))


def _networks(networks: str) -> str:
    try:
        Addresses.parse(networks)
    except ValueError:
        raise ValueError("networks with commas between them, such as 10.0.0.0/8,127.0.0.1") from None
    return networks


def _url_with_scheme(url: str, schemes: tuple[str, ...]) -> str:
    allowed = f"a URL that begins with {', '.join(f'{scheme}://' for scheme in schemes)}"
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(allowed) from None
    if parts.scheme not in schemes or not (parts.netloc or parts.path):
        raise ValueError(allowed)
    return url


ValkeyUrl = Annotated[str, AfterValidator(_valkey_url)]
PostgresUrl = Annotated[str, AfterValidator(_postgres_url)]
Port = Annotated[int, Field(ge=1, le=65535)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingLine:
    """One setting as `peakgate config` shows it; a secret is masked already."""

    name: str
    value: str
    source: Source
    meaning: str


class Settings(BaseSettings):
    """Every value is checked and final. `read_settings` builds it and turns what is wrong into one clear error."""

    model_config = SettingsConfigDict(
        alias_generator=name_of,
        env_file=ENV_FILE,
        env_ignore_empty=True,
        case_sensitive=True,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    valkey_url: ValkeyUrl | None = Field(
        default=None,
        description="the Valkey that holds stock and the order stream; without URLs an embedded one is started",
    )
    rooms_valkey_url: ValkeyUrl | None = Field(
        default=None,
        description="the Valkey that holds rooms; nothing in it needs to survive",
    )
    database_url: PostgresUrl | None = Field(
        default=None,
        description="the PostgreSQL that is the ledger",
    )
    host: str = Field(default="127.0.0.1", min_length=1, description="address that api and live listen on")
    port: Port = Field(default=8080, description="port of the HTTP api")
    live_port: Port = Field(
        default_factory=lambda values: values.get("port", 8080) + 1,
        description="port of the live sockets; by default the one after the api's",
    )
    live_url: str | None = Field(
        default=None,
        pattern=r"^wss?://[^/?#]+$",
        description="where viewers reach the sockets, such as wss://live.example.com; by default host and live port",
    )
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[a-z0-9.:\[\]-]+$",
        description="where pages are opened, such as https://shop.example.com; by default the api's port of any host",
    )
    admin_host: str = Field(default="127.0.0.1", min_length=1, description="address of metrics and health")
    admin_port: Port = Field(
        default_factory=lambda values: values.get("port", 8080) + 2,
        description="port of metrics and health; by default the second after the api's",
    )
    admin_socket: Path | None = Field(
        default=None, description="path to serve metrics and health on instead of the port; set by `peakgate up`"
    )
    surface: Literal["all", "public", "control"] = Field(
        default="all", description="which HTTP the api serves: viewers' (public), the hosts' (control) or both"
    )
    workers: int = Field(default=1, ge=1, le=256, description="live processes")
    data: Path = Field(
        default=Path(".peakgate"), description="folder of the embedded servers' data, of secrets and of the lock"
    )
    dev: bool = Field(default=False, description="development: short payment terms and the like are allowed")
    sandbox: Literal["off", "page", "auto"] = Field(
        default_factory=lambda values: "page" if values.get("dev") and values.get("surface") == "all" else "off",
        description="payments are played, only in development: on a page (its default there), or by itself (auto)",
    )
    webhook_private: bool = Field(
        default_factory=lambda values: bool(values.get("dev")),
        description="shops' webhooks may be in private networks; by default only in development",
    )
    drain_s: float = Field(default=10.0, gt=0, le=600, description="seconds a stop may take until it is forced")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least level logged")
    log_format: Literal["json", "text"] = Field(default="json", description="form of the log lines on stderr")
    log_key: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="key that turns viewers into hashes in logs; by default one of the data folder",
    )
    allow_volatile_valkey: bool = Field(
        default=False, description="accept a VALKEY_URL whose server may lose what it answered (not durable)"
    )
    max_sockets: int = Field(default=50_000, ge=1, le=1_000_000, description="sockets a live process holds at most")
    tick_ms: int = Field(default=100, ge=20, le=1000, description="milliseconds between two ticks of a room at least")
    reading_rate: float = Field(
        default=20.0, ge=0, le=10_000, description="comments a second shown in a room; 0: all, however many"
    )
    comment_rate: float = Field(
        default=1.0, gt=0, le=1000, description="comments a second a viewer may post on a process; beyond: too_fast"
    )
    comment_burst: int = Field(
        default=5, ge=1, le=1000, description="comments a viewer may post at once before the rate counts"
    )
    join_rate: float = Field(
        default=1500.0,
        ge=1,
        le=100_000,
        description="viewers a second a live process welcomes; beyond: come back later",
    )
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = Field(
        default="", description="networks of proxies whose X-Forwarded-For is believed, such as 10.0.0.0/8,127.0.0.1"
    )
    sockets_per_address: int = Field(
        default=1_000, ge=1, le=1_000_000, description="sockets without a viewer's token an address may hold at once"
    )
    max_ungreeted: int = Field(
        default=5_000, ge=1, le=1_000_000, description="sockets without a viewer's token a live process holds at once"
    )
    max_backlog: int = Field(
        default=200_000, ge=1, le=10_000_000, description="reserved orders not yet in the ledger; beyond it: refused"
    )
    # One script call of 256 orders takes about 4 ms, near the 5 ms that a call may hold Valkey.
    group_max: int = Field(default=256, ge=1, le=1024, description="requests decided in one script call at most")
    order_rate: float = Field(
        default=5.0, gt=0, le=10_000, description="orders a second a viewer may try on a process; beyond: too_fast"
    )
    order_burst: int = Field(
        default=20, ge=1, le=10_000, description="orders a viewer may try at once before the rate counts"
    )
    order_queue: int = Field(
        default=20_000, ge=1, le=1_000_000, description="orders of a sale that may wait in a process; beyond: refused"
    )
    writer_batch_max: int = Field(
        default=1000, ge=1, le=10_000, description="orders the writer puts into one transaction at most"
    )
    shards: int = Field(default=1, ge=1, le=64, description="order shards; fixed once the first shop exists")
    database_pool: int = Field(default=8, ge=1, le=200, description="connections to PostgreSQL a process opens at most")
    valkey_pool: int = Field(
        default=16, ge=2, le=1000, description="connections to each Valkey a process opens at most"
    )
    max_body_bytes: int = Field(default=65_536, ge=1024, le=10_000_000, description="size of an HTTP body at most")
    retire_after_s: float = Field(
        default=900.0,
        ge=1,
        le=2_592_000,
        description="seconds an ended sale, all of it paid, expired or refunded, stays in Valkey",
    )
    audit_every_s: float = Field(
        default=60.0, ge=0, le=86_400, description="seconds between the keeper's audits of what runs; 0: it makes none"
    )
    on_violation: Literal["close", "pause", "report"] = Field(
        default="close", description="what the keeper does to a sale of which two audits found an invariant broken"
    )
    rewrite_ceiling_bytes: int = Field(
        default=8 * 1024**3,
        ge=1024**2,
        description="size of the orders Valkey's file at which it is rewritten even in a peak; before: in quiet times",
    )
    fault_points: Path | None = Field(
        default=None, description="for tests only: folder in which labelled points of the code are armed"
    )

    _sources: Mapping[str, Source] = PrivateAttr(default_factory=lambda: MappingProxyType({}))

    _embedded: bool = PrivateAttr(default=False)

    secret_names: ClassVar[frozenset[str]] = frozenset({"log_key"})

    @property
    def embedded(self) -> bool:
        """The servers are, or are to be, a gateway's own: no URL is set, or they were found in a data folder."""
        return self._embedded or self.database_url is None

    def source_of(self, field: str) -> Source:
        return self._sources.get(field, "default")

    def lines(self) -> list[SettingLine]:
        return [
            SettingLine(
                name=name_of(field),
                value=_shown(field, getattr(self, field)),
                source=self.source_of(field),
                meaning=info.description or "",
            )
            for field, info in type(self).model_fields.items()
        ]

    def as_environment(self) -> dict[str, str]:
        """What a child process needs in its environment to read the same settings; defaults are left out."""
        return {
            name_of(field): _plain(getattr(self, field))
            for field in type(self).model_fields
            if self.source_of(field) != "default" and getattr(self, field) is not None
        }

    def with_urls(self, *, valkey_url: str, rooms_valkey_url: str, database_url: str, embedded: bool) -> Self:
        """The same settings on servers that were found or started; `embedded` when they are a gateway's own."""
        urls = {"valkey_url": valkey_url, "rooms_valkey_url": rooms_valkey_url, "database_url": database_url}
        changed = self.model_copy(update=urls)
        changed._sources = self._sources
        changed._embedded = embedded
        return changed


def read_settings(**flags: object) -> Settings:
    """Flags before environment before `.env` before defaults. A flag that is `None` was not given.

    Raises `SettingsError` with the setting's name, its value (a secret is masked) and what is allowed.
    """
    given = {field: value for field, value in flags.items() if value is not None}
    from_file = _read_env_file()
    _refuse_unknown(os.environ, "the environment")
    _refuse_unknown(from_file, ENV_FILE)
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        raise _explained(error.errors()[0], given, from_file) from None
    settings._sources = MappingProxyType(
        {field: _source(field, given, from_file) for field in type(settings).model_fields}
    )
    _check_together(settings)
    return settings


def mask_url(url: str) -> str:
    """The URL without its password, also where it stands in the query."""
    parts = urlsplit(url)
    netloc = parts.netloc
    if "@" in netloc:
        user_info, _, host = netloc.rpartition("@")
        user, colon, _ = user_info.partition(":")
        netloc = f"{user}{colon}{MASK if colon else ''}@{host}"
    query = "&".join(
        f"{part.partition('=')[0]}={MASK}" if "password" in part.partition("=")[0].lower() else part
        for part in parts.query.split("&")
    )
    return f"{parts.scheme}://{netloc}{parts.path}{'?' if query else ''}{query}"


def _read_env_file() -> dict[str, str]:
    try:
        return {name: value or "" for name, value in dotenv_values(ENV_FILE).items()}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{ENV_FILE} cannot be read: {error}") from error


def _refuse_unknown(environment: Mapping[str, str], place: str) -> None:
    known = {name_of(field) for field in Settings.model_fields}
    bare = sorted(name.removeprefix(PREFIX) for name in known - set(_URL_NAMES.values()))
    for name in sorted(environment):
        if not name.upper().startswith(PREFIX) or name in known:
            continue
        # Without the prefix, which all have in common and which would make everything look alike.
        near = difflib.get_close_matches(name.upper().removeprefix(PREFIX), bare, n=1)
        hint = f"; did you mean {PREFIX}{near[0]}?" if near else "; `peakgate config` lists the settings there are"
        raise SettingsError(f"{name} in {place} is no setting{hint}", param=name)


def _source(field: str, given: Mapping[str, object], from_file: Mapping[str, str]) -> Source:
    name = name_of(field)
    if field in given:
        return "flag"
    if os.environ.get(name):
        return "env"
    return ".env" if from_file.get(name) else "default"


def _explained(detail: ErrorDetails, given: Mapping[str, object], from_file: Mapping[str, str]) -> SettingsError:
    place = str(detail["loc"][0])
    field = next((field for field in Settings.model_fields if place in (field, name_of(field))), place)
    name = name_of(field)
    source = _source(field, given, from_file)
    # A default that follows from another setting, such as the port after the last one, can be wrong too.
    value = {
        "flag": given.get(field),
        "env": os.environ.get(name),
        ".env": from_file.get(name),
        "default": detail["input"],
    }[source]
    where = "" if source == "default" else f" ({source})"
    return SettingsError(f"{name} is {_shown(field, value)!r}{where}; allowed is: {_allowed(detail)}", param=name)


def _allowed(detail: ErrorDetails) -> str:
    bounds = detail.get("ctx", {})
    match detail["type"]:
        case "int_parsing" | "int_type":
            return "a whole number"
        case "float_parsing" | "float_type":
            return "a number"
        case "bool_parsing" | "bool_type":
            return "true or false"
        case "greater_than_equal":
            return f"at least {bounds['ge']}"
        case "greater_than":
            return f"more than {bounds['gt']}"
        case "less_than_equal":
            return f"at most {bounds['le']}"
        case "too_short" | "string_too_short":
            return f"at least {bounds['min_length']} characters"
        case _:
            return detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


def _check_together(settings: Settings) -> None:
    urls = {field: getattr(settings, field) for field in _URL_NAMES}
    missing = [name_of(field) for field, url in urls.items() if url is None]
    if 0 < len(missing) < len(urls):
        # Half of one's own servers and half embedded ones would lose data without a word.
        raise SettingsError(
            f"{' and '.join(missing)} not set; allowed is: all of {', '.join(_URL_NAMES.values())}, or none of them",
            param=missing[0],
        )
    if settings.sandbox != "off" and settings.surface != "all":
        # It tells of its payments where the other surface listens.
        raise SettingsError(
            f"{name_of('sandbox')} is {settings.sandbox}; allowed is: off, while {name_of('surface')} is not all",
            param=name_of("sandbox"),
        )
    if settings.sandbox != "off" and not settings.dev:
        # Whoever has the address of its page pays without money.
        raise SettingsError(
            f"{name_of('sandbox')} is {settings.sandbox}; allowed is: off, unless {name_of('dev')} is true",
            param=name_of("sandbox"),
        )
    ports = {"port": settings.port, "live_port": settings.live_port, "admin_port": settings.admin_port}
    for field, port in ports.items():
        if port > 65535:
            raise SettingsError(f"{name_of(field)} would be {port}; allowed is: at most 65535", param=name_of(field))
        other = next((name for name, value in ports.items() if value == port and name != field), None)
        if other is not None:
            raise SettingsError(
                f"{name_of(other)} is {port}, the same as {name_of(field)}; allowed is: a port of its own",
                param=name_of(other),
            )


def _shown(field: str, value: object) -> str:
    if value is None:
        return ""
    if field in Settings.secret_names:
        return MASK
    if field in _URL_NAMES:
        try:
            return mask_url(str(value))
        except ValueError:
            # It cannot be taken apart, so it cannot be shown without its password either.
            return MASK
    return _plain(value)


def _plain(value: Any) -> str:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case bool():
            return "true" if value else "false"
        case tuple():
            return ",".join(str(part) for part in value)
        case _:
            return str(value)
