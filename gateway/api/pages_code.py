"""JavaScript taken apart as far as it needs to be moved about: what is code, what is literal, what is a remark."""

import re
from typing import Final, NamedTuple

# Between these everything is code that need not be looked at.
_SIGN: Final = re.compile(r"[\"'`/(){}\[\]]")
_LAST_WORD: Final = re.compile(r"[\w$]+$")
_AWAIT: Final = re.compile(r"\bawait\b")
# After these a slash begins a regular expression; after any other word, name or bracket it divides.
_BEFORE_REGEX: Final = frozenset(
    ("return", "typeof", "case", "in", "of", "delete", "void", "throw", "new", "else", "do", "await", "yield")
)
_REGEX: Final = re.compile(r"/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*")
_STRING: Final = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'", re.DOTALL)
_CHUNK: Final = re.compile(r"(?:[^`\\$]|\\.|\$(?!\{))*", re.DOTALL)
_LINES: Final = re.compile(r"\s*\n\s*")
# Around these no space means anything in code. Signs that may stand twice in a row, as in `a + +b`, are not among them.
_SPACES: Final = re.compile(r" +(?=[{}()\[\];,:=?&|<>])|(?<=[{}()\[\];,:=?&|<>]) +")


class Code(NamedTuple):
    text: str
    """Without remarks and indents; `\\0N\\0` stands for a literal."""
    literals: list[str]
    awaits: bool
    """Whether it waits outside of any function."""


def read_code(source: str) -> Code:
    return _Reader(source).read()


class _Reader:
    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._out: list[str] = []
        self._literals: list[str] = []
        self._awaits = False
        self._depth = 0
        self._templates: list[int] = []
        """How deep the code was where each template that is open went on with code."""

    def read(self) -> Code:
        while (found := _SIGN.search(self._source, self._at)) is not None:
            self._code(found.start())
            self._sign(found[0])
        self._code(len(self._source))
        text = _LINES.sub("\n", "".join(self._out)).strip()
        return Code(_SPACES.sub("", text), self._literals, self._awaits)

    def _code(self, until: int) -> None:
        text = self._source[self._at : until]
        if self._depth == 0 and _AWAIT.search(text):
            self._awaits = True
        if text:
            self._out.append(text)
        self._at = until

    def _sign(self, sign: str) -> None:
        if sign in "\"'":
            self._literal(_STRING)
        elif sign == "`":
            self._code(self._at + 1)
            self._template()
        elif sign == "/":
            self._slash()
        elif sign in "([{":
            self._depth += 1
            self._code(self._at + 1)
        else:
            self._depth -= 1
            self._code(self._at + 1)
            if sign == "}" and self._templates and self._templates[-1] == self._depth:
                self._templates.pop()
                self._template()

    def _slash(self) -> None:
        source, end = self._source, len(self._source)
        if source.startswith("//", self._at):
            line_end = source.find("\n", self._at)
            self._at = end if line_end < 0 else line_end
        elif source.startswith("/*", self._at):
            closed = source.find("*/", self._at + 2)
            until = end if closed < 0 else closed + 2
            self._out.append("\n" if "\n" in source[self._at : until] else " ")
            self._at = until
        elif self._begins_a_regex():
            self._literal(_REGEX)
        else:
            self._code(self._at + 1)

    def _literal(self, form: re.Pattern[str]) -> None:
        found = form.match(self._source, self._at)
        if found is None:
            self._code(self._at + 1)
        else:
            self._put(found[0])

    def _put(self, literal: str) -> None:
        self._out.append(f"\0{len(self._literals)}\0")
        self._literals.append(literal)
        self._at += len(literal)

    def _template(self) -> None:
        """From inside a template to its end, or to where code goes on in it."""
        chunk = _CHUNK.match(self._source, self._at)
        assert chunk is not None
        if chunk[0]:
            self._put(chunk[0])
        if self._source.startswith("`", self._at):
            self._code(self._at + 1)
        elif self._at < len(self._source):
            self._templates.append(self._depth)
            self._depth += 1
            self._code(self._at + 2)

    def _begins_a_regex(self) -> bool:
        before = next((text for each in reversed(self._out) if (text := each.rstrip())), "")
        word = _LAST_WORD.search(before)
        if word is not None:
            return word[0] in _BEFORE_REGEX
        return not before.endswith((")", "]", "}", "`", "\0"))
