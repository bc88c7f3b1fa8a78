from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.settings import Settings, mask_url, read_settings


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_without_anything_set_the_defaults_hold_and_servers_are_embedded() -> None:
    settings = read_settings()
    assert (settings.host, settings.port, settings.live_port, settings.admin_port) == ("127.0.0.1", 8080, 8081, 8082)
    assert settings.embedded
    assert settings.data == Path(".peakgate")
    assert {line.source for line in settings.lines()} == {"default"}


def test_a_flag_beats_the_environment_which_beats_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PEAKGATE_PORT=1001\nPEAKGATE_WORKERS=2\nPEAKGATE_DRAIN_S=3\n")
    monkeypatch.setenv("PEAKGATE_PORT", "2001")
    monkeypatch.setenv("PEAKGATE_WORKERS", "4")
    settings = read_settings(port=3001, host=None)
    assert (settings.port, settings.workers, settings.drain_s) == (3001, 4, 3.0)
    sources = {line.name: line.source for line in settings.lines()}
    assert sources["PEAKGATE_PORT"] == "flag"
    assert sources["PEAKGATE_WORKERS"] == "env"
    assert sources["PEAKGATE_DRAIN_S"] == ".env"
    assert sources["PEAKGATE_HOST"] == "default"


def test_the_other_ports_follow_the_first_one_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEAKGATE_LIVE_PORT", "7000")
    settings = read_settings(port=9000)
    assert (settings.live_port, settings.admin_port) == (7000, 9002)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PEAKGATE_PORT", "ab", ["PEAKGATE_PORT", "'ab'", "a whole number"]),
        ("PEAKGATE_PORT", "0", ["PEAKGATE_PORT", "'0'", "at least 1"]),
        ("PEAKGATE_WORKERS", "9999", ["PEAKGATE_WORKERS", "'9999'", "at most 256"]),
        ("PEAKGATE_DEV", "maybe", ["PEAKGATE_DEV", "'maybe'", "true or false"]),
        ("PEAKGATE_DRAIN_S", "0", ["PEAKGATE_DRAIN_S", "more than 0"]),
        ("PEAKGATE_LOG_LEVEL", "loud", ["PEAKGATE_LOG_LEVEL", "'loud'", "'debug'"]),
        ("DATABASE_URL", "mysql://a:hush@h/d", ["DATABASE_URL", "postgresql://"]),
        ("VALKEY_URL", "not a url", ["VALKEY_URL", "redis://"]),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: list[str]
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert all(part in caught.value.message for part in said)
    assert caught.value.param == name
    assert "hush" not in caught.value.message


def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEAKGATE_LOG_KEY", "hush")
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert "hush" not in caught.value.message
    monkeypatch.setenv("PEAKGATE_LOG_KEY", "hush-hush-hush-hush")
    settings = read_settings()
    assert "hush" not in str(settings.lines()) and "hush" not in repr(settings)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:hush@db:5432/p", "postgresql://u:***@db:5432/p"),
        ("redis://:hush@h:6379/0", "redis://:***@h:6379/0"),
        ("unix:///run/orders.sock", "unix:///run/orders.sock"),
        ("postgresql://u@/p?host=/run&password=hush", "postgresql://u@/p?host=/run&password=***"),
        ("postgresql://u:hu@sh@db/p", "postgresql://u:***@db/p"),
    ],
)
def test_a_password_in_a_url_is_masked_wherever_it_stands(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("PEAKGATE_PROT", "did you mean PEAKGATE_PORT?"),
        ("peakgate_workers", "did you mean PEAKGATE_WORKERS?"),
        ("PEAKGATE_XYZZY", "`peakgate config`"),
    ],
)
def test_an_unknown_setting_is_an_error_with_a_hint(monkeypatch: pytest.MonkeyPatch, name: str, hint: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert name in caught.value.message and hint in caught.value.message


def test_an_unknown_setting_in_the_file_is_found_too() -> None:
    Path(".env").write_text("PEAKGATE_GROUP_MAXX=1\nSOMETHING_ELSE=1\n")
    with pytest.raises(SettingsError, match="PEAKGATE_GROUP_MAX\\?"):
        read_settings()


def test_some_urls_without_the_others_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@db/p")
    with pytest.raises(SettingsError, match="VALKEY_URL and ROOMS_VALKEY_URL not set"):
        read_settings()


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PEAKGATE_PORT", "DATABASE_URL"):
        monkeypatch.setenv(name, "")
    settings = read_settings()
    assert settings.port == 8080 and settings.embedded


@pytest.mark.parametrize("flags", [{"port": 65535}, {"port": 8000, "live_port": 8000}, {"admin_port": 8081}])
def test_ports_must_exist_and_differ(flags: dict[str, int]) -> None:
    with pytest.raises(SettingsError):
        read_settings(**flags)


def test_a_child_reads_the_same_settings_from_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEAKGATE_LIVE_URL", "wss://live.example.com")
    parent = read_settings(port=9000, dev=True, drain_s=2.5)
    for name, value in parent.as_environment().items():
        monkeypatch.setenv(name, value)
    child = read_settings()
    fields = Settings.model_fields
    assert {field: getattr(child, field) for field in fields} == {field: getattr(parent, field) for field in fields}


def test_settings_are_frozen_and_each_has_a_meaning() -> None:
    settings = read_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]
    assert all(line.meaning for line in settings.lines())


def test_payments_are_played_in_development_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings().sandbox == "off"
    assert read_settings(dev=True).sandbox == "page"
    assert read_settings(dev=True, surface="public").sandbox == "off"
    monkeypatch.setenv("PEAKGATE_SANDBOX", "auto")
    assert read_settings(dev=True).sandbox == "auto"
    with pytest.raises(SettingsError) as caught:
        read_settings(dev=True, surface="control")
    assert caught.value.param == "PEAKGATE_SANDBOX"


@pytest.mark.parametrize("mode", ["page", "auto"])
def test_payments_that_are_played_outside_of_development_are_refused(
    monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("PEAKGATE_SANDBOX", mode)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert caught.value.param == "PEAKGATE_SANDBOX"
    assert caught.value.message == f"PEAKGATE_SANDBOX is {mode}; allowed is: off, unless PEAKGATE_DEV is true"
    monkeypatch.setenv("PEAKGATE_DEV", "true")
    assert read_settings().sandbox == mode
    monkeypatch.setenv("PEAKGATE_SANDBOX", "off")
    monkeypatch.delenv("PEAKGATE_DEV")
    assert read_settings().sandbox == "off"


def test_where_pages_are_is_an_origin() -> None:
    assert read_settings(public_url="https://shop.example.com:8443").public_url == "https://shop.example.com:8443"
    for wrong in (
        "https://shop.example.com/",
        "shop.example.com",
        "wss://shop.example.com",
        "https://Shop.example.com",
    ):
        with pytest.raises(SettingsError):
            read_settings(public_url=wrong)
