import pytest

from gateway.admission.addresses import Addresses

PROXIES = "10.0.0.0/8, 127.0.0.1, fd00::/8"


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("10.1.2.3", ["203.0.113.7"], "203.0.113.7"),
        ("10.1.2.3", ["198.51.100.9, 203.0.113.7"], "203.0.113.7"),
        ("10.1.2.3", ["198.51.100.9, 203.0.113.7, 10.9.9.9"], "203.0.113.7"),
        ("10.1.2.3", ["198.51.100.9", "203.0.113.7"], "203.0.113.7"),
        ("10.1.2.3", ["203.0.113.7:4711"], "203.0.113.7"),
        ("10.1.2.3", ["[2001:db8:1:2:3:4:5:6]:4711"], "2001:db8:1:2::/64"),
        ("::ffff:10.1.2.3", ["203.0.113.7"], "203.0.113.7"),
        ("fd00::1", ["203.0.113.7"], "203.0.113.7"),
        ("", ["203.0.113.7"], "203.0.113.7"),
        ("", [], "local"),
    ],
)
def test_the_right_most_address_that_is_no_trusted_proxys_is_whose_connection_it_is(
    peer: str, forwarded: list[str], address: str
) -> None:
    assert Addresses.parse(PROXIES).of(peer, forwarded) == address


def test_what_a_stranger_says_of_itself_is_not_believed() -> None:
    assert Addresses.parse(PROXIES).of("203.0.113.7", ["198.51.100.9"]) == "203.0.113.7"
    assert Addresses().of("10.1.2.3", ["198.51.100.9"]) == "10.1.2.3"


def test_a_word_that_is_no_address_ends_the_search_at_the_proxy_that_wrote_it() -> None:
    assert Addresses.parse(PROXIES).of("10.1.2.3", ["203.0.113.7, unknown"]) == "10.1.2.3"
    assert Addresses.parse(PROXIES).of("10.1.2.3", [""]) == "10.1.2.3"


def test_all_addresses_of_one_home_count_as_one() -> None:
    addresses = Addresses()
    assert addresses.of("2001:db8:1:2::1", []) == addresses.of("2001:db8:1:2:ffff::9", [])
    assert addresses.of("2001:db8:1:2::1", []) != addresses.of("2001:db8:1:3::1", [])


def test_only_proxies_and_unix_sockets_are_trusted() -> None:
    addresses = Addresses.parse(PROXIES)
    assert addresses.trusts("10.0.0.1") and addresses.trusts("::ffff:127.0.0.1") and addresses.trusts("")
    assert not addresses.trusts("11.0.0.1") and not addresses.trusts("127.0.0.2")


def test_a_wrong_network_is_named() -> None:
    with pytest.raises(ValueError, match=r"'10[.]0[.]0[.]0/40'"):
        Addresses.parse("127.0.0.1, 10.0.0.0/40")
