"""The spelling of types in SQL, taken apart without knowing which types there are."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kalamdb_lab.errors import QUOTED_TEXT_LIMIT, InvalidDefinitionError

MAX_NAME_DEPTH = 100

PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN = re.compile(r'\s*("(?:[^"]|"")+"|[A-Za-z_][A-Za-z0-9_]*|-?\d+|\S)', re.ASCII)
_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
_LONG_NAMES = (
    ("TIMESTAMP", "WITHOUT", "TIME", "ZONE"),
    ("TIMESTAMP", "WITH", "TIME", "ZONE"),
    ("TIME", "WITHOUT", "TIME", "ZONE"),
    ("CHARACTER", "VARYING"),
    ("DOUBLE", "PRECISION"),
)


@dataclass(frozen=True, slots=True)
class TypeName:
    """A type as it is written.

    Attributes
    ----------
    word : str
        The name in capitals, words parted by one blank; ``[]`` for an array.
    numbers : tuple of int
        What stands in its parentheses, or the length of an array.
    children : tuple of (str, TypeName)
        Fields of STRUCT, or the unnamed parameters of MAP, or what an array is of.
    """

    word: str
    numbers: tuple[int, ...] = ()
    children: tuple[tuple[str, TypeName], ...] = ()


def unknown_type(text: str) -> InvalidDefinitionError:
    """Return the error for a type that does not exist."""
    plain = " ".join(text.split()).upper()
    if not plain.startswith(("STRUCT", "MAP")):
        plain = plain.partition("(")[0].strip() or plain
    shown = plain[:QUOTED_TEXT_LIMIT]
    return InvalidDefinitionError(f"Unknown type '{shown}'")


def read_type_name(text: str) -> TypeName:
    """Return the parts of ``text``; raise `InvalidDefinitionError` if it spells no type."""
    reader = _Reader(text)
    name = reader.type_name(0)
    if reader.here:
        raise unknown_type(text)
    return name


class _Reader:
    """Recursive descent over the words of one type."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _TOKEN.findall(text)
        self._at = 0

    @property
    def here(self) -> str:
        return self._tokens[self._at].upper() if self._at < len(self._tokens) else ""

    def type_name(self, depth: int) -> TypeName:
        if depth > MAX_NAME_DEPTH:
            raise unknown_type(self._text)
        name = self._base(depth)
        while self.here == "[":
            self._at += 1
            length = self._integers()
            self._expect("]")
            name = TypeName("[]", length, (("item", name),))
            depth += 1
            if depth > MAX_NAME_DEPTH:
                raise unknown_type(self._text)
        return name

    def _base(self, depth: int) -> TypeName:
        word = self._word()
        if word in ("STRUCT", "MAP"):
            self._expect("(")
            read = self._field if word == "STRUCT" else self._parameter
            children = [read(depth)]
            while self.here == ",":
                self._at += 1
                children.append(read(depth))
            self._expect(")")
            if word == "MAP" and len(children) != 2:
                raise InvalidDefinitionError("MAP needs two types, as in MAP(TEXT, INT)")
            return TypeName(word, children=tuple(children))
        if self.here != "(":
            return TypeName(word)
        self._at += 1
        numbers = self._integers()
        self._expect(")")
        return TypeName(word, numbers)

    def _word(self) -> str:
        """Return the name of a type, which may be several words."""
        rest = tuple(token.upper() for token in self._tokens[self._at : self._at + 4])
        for name in _LONG_NAMES:
            if rest[: len(name)] == name:
                self._at += len(name)
                return " ".join(name)
        word = self.here
        if PLAIN_NAME.fullmatch(word) is None:
            raise unknown_type(self._text)
        self._at += 1
        return word

    def _parameter(self, depth: int) -> tuple[str, TypeName]:
        return "", self.type_name(depth + 1)

    def _field(self, depth: int) -> tuple[str, TypeName]:
        name = self._tokens[self._at] if self.here else ""
        if name.startswith('"') and len(name) > 2:
            name = name[1:-1].replace('""', '"')
        elif PLAIN_NAME.fullmatch(name) is None:
            raise unknown_type(self._text)
        self._at += 1
        return name, self.type_name(depth + 1)

    def _integers(self) -> tuple[int, ...]:
        numbers: list[int] = []
        while _INTEGER.fullmatch(self.here):
            numbers.append(int(self.here))
            self._at += 1
            if self.here != ",":
                break
            self._at += 1
        return tuple(numbers)

    def _expect(self, token: str) -> None:
        if self.here != token:
            raise unknown_type(self._text)
        self._at += 1
