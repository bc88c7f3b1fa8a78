"""A message that comes in several frames (RFC 6455, 5.4)."""

from codecs import utf_8_decode


class PartialMessage:
    """Text is judged as it comes: what can no longer become UTF-8 is refused before its end (8.1)."""

    __slots__ = ("_judged", "_parts", "is_text")

    def __init__(self, *, is_text: bool) -> None:
        self.is_text = is_text
        self._parts = bytearray()
        self._judged = 0

    def add(self, part: bytes, *, final: bool) -> None:
        """Raises UnicodeDecodeError when the text is none."""
        self._parts += part
        if self.is_text:
            self._judged += utf_8_decode(self._parts[self._judged :], "strict", final)[1]

    def foresee(self, part: bytes) -> None:
        """The beginning of a part whose rest is not here yet. Raises UnicodeDecodeError."""
        if self.is_text:
            utf_8_decode(self._parts[self._judged :] + part, "strict", False)

    def __len__(self) -> int:
        return len(self._parts)

    def whole(self) -> bytes:
        return bytes(self._parts)
