"""Banned words, found in a text also where it hides them: other widths and cases, marks, invisible characters,
stretched letters, separators between letters.

A text is taken apart into units, each a base character and the marks on it, and equal neighbours become one run. A
word matches where its bases stand in the text, with runs at least as long as its own and with at least its marks:
`ass` is in `asss` and not in `as`, `lồn` is not in `lon`, `bad` is in `bäd`. Homoglyphs of other scripts and digits
in the place of letters are not undone: they say other things in other languages.
"""

import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from ahocorasick_rs import AhoCorasick
from msgspec import Struct

# One automaton is built without letting other threads run: 500 words take some 3 ms.
_WORDS_AN_AUTOMATON = 500
# Shorter words stand across the borders of innocent ones too often.
_LETTERS_APART = 4
_IDEOGRAPHS_APART = 2

_SPACE = " "
# Marks that are optional or decoration where they stand; those of other scripts are letters of theirs.
_MARKS = (
    (0x0300, 0x036F),  # combining diacritical marks
    (0x0483, 0x0489),  # Cyrillic
    (0x0591, 0x05C7),  # Hebrew points
    (0x0610, 0x061A),  # Arabic
    (0x064B, 0x065F),
    (0x0670, 0x0670),
    (0x06D6, 0x06ED),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0xFE20, 0xFE2F),
)
# One is a letter of its own, the other is written with or without its dots.
_CYRILLIC = {"й": "й", "ё": "е"}
# Variation selectors, letters that are drawn as nothing, and the Arabic stroke that only stretches.
_UNSEEN = frozenset("\u034f\u0640\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2065\u3164\uffa0") | {
    chr(code) for first, last in ((0xFE00, 0xFE0F), (0xE0000, 0xE0FFF)) for code in range(first, last + 1)
}
_UNSEEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs"})
_IDEOGRAPHIC = (
    (0x3041, 0x30FF),  # kana
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),  # Hangul
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


class _Unit(NamedTuple):
    """A base character (empty: marks alone, which belong to the unit before) and the marks on it."""

    base: str
    marks: frozenset[str]


class _Runs(NamedTuple):
    """A text with equal neighbours as one, and of each run how often it stands there and which marks it bears."""

    bases: str
    lengths: Sequence[int]
    marks: Sequence[frozenset[str]]


class _Word(Struct, frozen=True, gc=False):
    """What is to be found. Of many thousand ones the collector shall not know."""

    bases: str
    lengths: tuple[int, ...]
    marks: tuple[frozenset[str], ...] | None
    """None: no marks on any."""

    def covered_by(self, text: _Runs, start: int) -> bool:
        """Whether the text's runs from `start` on, which have its bases, are as long and bear its marks."""
        lengths, marks = text.lengths, text.marks
        return all(lengths[start + i] >= length for i, length in enumerate(self.lengths)) and (
            self.marks is None or all(marks[start + i] >= on_it for i, on_it in enumerate(self.marks))
        )


_ByBases = dict[str, tuple[_Word, ...]]


class WordFilter:
    """Never changes; another list is another filter. Only every five hundred words more make a text cost more."""

    __slots__ = ("__weakref__", "_apart", "_whole")

    def __init__(self, words: Iterable[str]) -> None:
        whole: _ByBases = {}
        apart: _ByBases = {}
        for word in words:
            # One by one: to let go of many thousand units at once holds every thread for a while.
            units = _trimmed(list(_units(word)))
            _add(whole, units)
            if _is_found_apart(units):
                _add(apart, [unit for unit in units if not _separates(unit.base)])
        self._whole = _Searched(whole)
        self._apart = _Searched(apart)

    def matches(self, text: str) -> bool:
        units = list(_units(text))
        return any(True for _ in self._whole.found(_runs(units))) or self._matches_apart(units)

    def _matches_apart(self, units: Sequence[_Unit]) -> bool:
        """Whether a word stands in the text with separators between its letters, or without those it has itself.

        Over spaces, and where there are none, only from the beginning of a word to the end of one: nobody could say
        `an alarm` else.
        """
        letters = _Letters(units)
        runs = _runs(letters.units)
        return any(letters.are_meant(runs, word, at) for word, at in self._apart.found(runs))


class _Letters:
    """The units of a text without its separators, and what stood between them."""

    def __init__(self, units: Sequence[_Unit]) -> None:
        self.units: list[_Unit] = []
        self._gaps: list[str] = [_SPACE]
        """Before each unit, and after the last: empty, a separator, or a space if any is among them."""
        for unit in units:
            if not _separates(unit.base):
                self.units.append(unit)
                self._gaps.append("")
            elif unit.base == _SPACE or not self._gaps[-1]:
                self._gaps[-1] = unit.base
        self._gaps[-1] = _SPACE

    def are_meant(self, runs: _Runs, word: _Word, at: int) -> bool:
        """Whether they say the word that was found at the run `at`, and not by chance."""
        before = sum(runs.lengths[:at])
        last = before + sum(runs.lengths[at : at + len(word.bases) - 1])
        if len(word.bases) == 1:
            latest, earliest = before, before + word.lengths[0] - 1
        else:
            latest, earliest = before + runs.lengths[at] - word.lengths[0], last + word.lengths[-1] - 1
        inside = self._gaps[latest + 1 : earliest + 1]
        if any(map(_is_ideographic, word.bases)) or (any(inside) and _SPACE not in inside):
            return True
        end = last + runs.lengths[at + len(word.bases) - 1]
        return any(self._gaps[before : latest + 1]) and any(self._gaps[earliest + 1 : end + 1])


class _Searched:
    """Words by their bases."""

    def __init__(self, words: _ByBases) -> None:
        self._words = words
        bases = list(self._words)
        self._automata = [
            (part, AhoCorasick(part))
            for part in (bases[at : at + _WORDS_AN_AUTOMATON] for at in range(0, len(bases), _WORDS_AN_AUTOMATON))
        ]

    def found(self, text: _Runs) -> Iterator[tuple[_Word, int]]:
        """Every word in the text, and the run where it begins."""
        for part, automaton in self._automata:
            for which, start, _ in automaton.find_matches_as_indexes(text.bases, overlapping=True):
                for word in self._words[part[which]]:
                    if word.covered_by(text, start):
                        yield word, start


def _add(words: _ByBases, units: Sequence[_Unit]) -> None:
    runs = _runs(units)
    if runs.bases:
        word = _Word(runs.bases, tuple(runs.lengths), tuple(runs.marks) if any(runs.marks) else None)
        words[word.bases] = (*words.get(word.bases, ()), word)


def can_match(word: str) -> bool:
    """Whether anything of the word is left to look for."""
    return bool(_trimmed(list(_units(word))))


def _units(text: str) -> Iterator[_Unit]:
    """A mark stands on the unit before it; one at the beginning stands on nothing and is left out."""
    held: _Unit | None = None
    for character in unicodedata.normalize("NFKC", text):
        for unit in _taken_apart(character):
            if unit.base:
                if held is not None:
                    yield held
                held = unit
            elif held is not None:
                held = _Unit(held.base, held.marks | unit.marks)
    if held is not None:
        yield held


@lru_cache(maxsize=32_768)
def _taken_apart(character: str) -> tuple[_Unit, ...]:
    units: list[_Unit] = []
    for folded in unicodedata.normalize("NFKC", character.casefold()):
        if folded.isspace():
            units.append(_Unit(_SPACE, frozenset()))
            continue
        if folded in _CYRILLIC:
            units.append(_Unit(_CYRILLIC[folded], frozenset()))
            continue
        parts = unicodedata.normalize("NFD", folded)
        marks = frozenset(part for part in parts if _among(part, _MARKS))
        base = unicodedata.normalize("NFC", "".join(part for part in parts if part not in marks)) if marks else folded
        if base in _UNSEEN or unicodedata.category(base[:1] or "\u0301") in _UNSEEN_CATEGORIES:
            base = ""
        # Marks stand on the last one, where a letter comes apart into several.
        units += (_Unit(part, frozenset()) for part in base[:-1])
        if base or marks:
            units.append(_Unit(base[-1:], marks))
    return tuple(units)


def _trimmed(units: Sequence[_Unit]) -> Sequence[_Unit]:
    first, end = 0, len(units)
    while first < end and units[first].base == _SPACE:
        first += 1
    while end > first and units[end - 1].base == _SPACE:
        end -= 1
    return units[first:end]


def _runs(units: Collection[_Unit]) -> _Runs:
    """However many spaces stand for one."""
    bases: list[str] = []
    lengths: list[int] = []
    marks: list[frozenset[str]] = []
    for base, on_it in units:
        if bases and bases[-1] == base:
            lengths[-1] += base != _SPACE
            marks[-1] |= on_it
        else:
            bases.append(base)
            lengths.append(1)
            marks.append(on_it)
    return _Runs("".join(bases), lengths, marks)


def _is_found_apart(units: Sequence[_Unit]) -> bool:
    letters = [unit.base for unit in units if not _separates(unit.base)]
    ideographs = sum(_is_ideographic(letter) for letter in letters)
    return ideographs >= _IDEOGRAPHS_APART or len(letters) >= _LETTERS_APART


@lru_cache(maxsize=32_768)
def _separates(base: str) -> bool:
    """Spaces, punctuation and symbols, pictures among them."""
    return unicodedata.category(base[0])[0] in "ZPS"


def _is_ideographic(base: str) -> bool:
    return _among(base, _IDEOGRAPHIC)


def _among(character: str, ranges: Iterable[tuple[int, int]]) -> bool:
    code = ord(character[0])
    return any(first <= code <= last for first, last in ranges)
