"""References of links: what nobody can make up, and what is shown of them."""

import random

import pytest

from gateway.domain.ids import IdMint
from gateway.domain.links import Link, LinkSeal

KEY = bytes(range(32))
SEAL = LinkSeal(KEY)
AT_MS = 1_767_268_801_005
REF = SEAL.ref("tins", AT_MS, 1)


@pytest.mark.parametrize("link_no", [1, 2, 255, 256, 2**31, 2**32 - 1])
def test_a_reference_is_known_in_its_shop_alone(link_no: int) -> None:
    ref = SEAL.ref("tins", AT_MS, link_no)
    assert SEAL.is_of("tins", ref)
    assert not SEAL.is_of("cups", ref)
    assert not SEAL.is_of("tin", ref)
    assert not LinkSeal(KEY[::-1]).is_of("tins", ref)
    assert len(ref) == 28 and ref.startswith("ref_") and ref.isascii()


def test_different_links_have_different_references() -> None:
    refs = {SEAL.ref(shop, AT_MS, link_no) for shop in ("tins", "cups") for link_no in range(1, 500)}
    assert len(refs) == 998
    # As after an older ledger was restored.
    assert SEAL.ref("tins", AT_MS + 1, 1) not in refs


def test_a_reference_with_any_character_changed_is_forged() -> None:
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
    for at in range(len(REF)):
        for other in random.Random(at).sample(alphabet, 8):
            changed = REF[:at] + other + REF[at + 1 :]
            assert SEAL.is_of("tins", changed) is (changed == REF)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ref_",
        REF[:-1],
        REF + "0",
        REF + "\n",
        REF[4:],
        "REF_" + REF[4:],
        "ref_" + "é" * 24,
        "ref_" + "=" * 24,
        "guide",
    ],
)
def test_what_has_not_the_form_of_a_reference_is_none(text: str) -> None:
    assert not SEAL.is_of("tins", text)


def test_the_ids_of_other_things_are_no_references_though_they_have_the_same_key() -> None:
    mint = IdMint(KEY)
    assert not SEAL.is_of("tins", "ref_" + mint.order(1_700_000_000_000, 1, 1, 1)[4:])
    assert mint.read_sale("sale_" + REF[4:20]) is None


def test_nobody_refers_themselves() -> None:
    link = Link(ref=REF, source="live", referrer="ann", guide="ann")
    assert link.referrer_of("ann") is None
    assert link.referrer_of("ben") == "ann"
