"""The types of columns and values, how they are spelled in SQL and how they travel as bytes."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from kalamdb_lab.errors import CorruptError, InvalidDefinitionError
from kalamdb_lab.model.type_names import PLAIN_NAME, TypeName, read_type_name, unknown_type

StorageValue: TypeAlias = (
    "bool | int | float | str | bytes | Decimal | tuple[int, int, int]"
    " | list[StorageValue] | dict[str, StorageValue] | None"
)
"""What a cell is in hot rows, in the log and in statistics.

BOOLEAN bool; whole numbers int; FLOAT and DOUBLE float; DECIMAL Decimal with the scale of its
type; TEXT and JSON str; BYTES bytes; TIMESTAMP and DATETIME int microseconds since 1970 (DATETIME
in UTC); DATE int days since 1970; TIME int microseconds of the day; UUID 16 bytes; EMBEDDING
bytes, little-endian float32; INTERVAL (months, days, nanoseconds); a list for T[]; a dict in the
order of declaration for STRUCT; a list of [key, value] for MAP; None for NULL.
"""

MAX_DECIMAL_PRECISION = 38
MAX_EMBEDDING_DIMENSION = 8192
MAX_TYPE_DEPTH = 64
"""Lists, structs and maps nest at most this deep."""


class TypeKind(enum.Enum):
    """The kinds of types; a value is the tag that the kind has in encoded bytes."""

    BOOLEAN = 0x01
    INT = 0x02
    BIGINT = 0x03
    DOUBLE = 0x04
    FLOAT = 0x05
    TEXT = 0x06
    TIMESTAMP = 0x07
    DATE = 0x08
    DATETIME = 0x09
    TIME = 0x0A
    JSON = 0x0B
    BYTES = 0x0C
    EMBEDDING = 0x0D
    UUID = 0x0E
    DECIMAL = 0x0F
    SMALLINT = 0x10
    TINYINT = 0x20
    UTINYINT = 0x21
    USMALLINT = 0x22
    UINTEGER = 0x23
    UBIGINT = 0x24
    INTERVAL = 0x25
    LIST = 0x26
    STRUCT = 0x27
    MAP = 0x28

    # Members are singletons: hashing the name, as Enum does, costs each look-up of a type.
    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class KalamDataType:
    """One logical type. Build one with the constants and constructors of this module.

    Attributes
    ----------
    dimension : int
        Of EMBEDDING: components of a vector, 1 to 8192.
    precision, scale : int
        Of DECIMAL: all digits, 1 to 38, and those after the point, 0 to the precision.
    children : tuple of (str, KalamDataType)
        LIST has one child named ``item``, MAP ``key`` and ``value``, STRUCT its fields.
    """

    kind: TypeKind
    dimension: int = 0
    precision: int = 0
    scale: int = 0
    children: tuple[tuple[str, KalamDataType], ...] = ()

    def __str__(self) -> str:
        """Return the SQL name as DESCRIBE prints it; `parse_type` reads it back."""
        match self.kind:
            case TypeKind.DECIMAL:
                return f"DECIMAL({self.precision}, {self.scale})"
            case TypeKind.EMBEDDING:
                return f"EMBEDDING({self.dimension})"
            case TypeKind.LIST:
                return f"{self.item}[]"
            case TypeKind.MAP:
                return f"MAP({self.children[0][1]}, {self.children[1][1]})"
            case TypeKind.STRUCT:
                fields = (f"{_spelled(name)} {child}" for name, child in self.children)
                return f"STRUCT({', '.join(fields)})"
            case _:
                return self.kind.name

    @property
    def item(self) -> KalamDataType:
        """Type of the elements of a LIST."""
        return self.children[0][1]

    @property
    def is_integer(self) -> bool:
        """True for whole numbers of any width, signed or not."""
        return self.kind in INTEGER_BOUNDS

    @property
    def is_numeric(self) -> bool:
        """True for whole numbers, DECIMAL, FLOAT and DOUBLE."""
        return self.is_integer or self.kind in _FRACTIONAL

    @property
    def is_text_like(self) -> bool:
        """True if storage values are str."""
        return self.kind in (TypeKind.TEXT, TypeKind.JSON)

    @property
    def is_nested(self) -> bool:
        """True for LIST, STRUCT and MAP."""
        return bool(self.children)

    @property
    def can_be_key(self) -> bool:
        """True if a PRIMARY KEY may have this type."""
        return self.kind not in _NO_KEY

    def widens_to(self, other: KalamDataType) -> bool:
        """Return whether every value of this type becomes one of ``other`` without a CAST.

        A type widens to itself; BIGINT widens to a DECIMAL with 19 digits before the point, and
        on to DOUBLE, which rounds.
        """
        if self == other:
            return True
        if self.is_integer:
            low, high = INTEGER_BOUNDS[self.kind]
            if other.is_integer:
                other_low, other_high = INTEGER_BOUNDS[other.kind]
                return other_low <= low and high <= other_high
            if other.kind is TypeKind.DECIMAL:
                return max(-low, high) < int(10 ** (other.precision - other.scale))
            return other.kind is TypeKind.DOUBLE
        if self.kind is TypeKind.DECIMAL and other.kind is TypeKind.DECIMAL:
            more_digits = other.precision - other.scale >= self.precision - self.scale
            return more_digits and other.scale >= self.scale
        return (self.kind, other.kind) in _WIDENINGS

    def encode(self) -> bytes:
        """Return the type as bytes: its tag, then what the kind needs."""
        tag = bytes([self.kind.value])
        match self.kind:
            case TypeKind.DECIMAL:
                return tag + bytes([self.precision, self.scale])
            case TypeKind.EMBEDDING:
                return tag + self.dimension.to_bytes(2, "little")
            case TypeKind.LIST | TypeKind.MAP:
                return tag + b"".join(child.encode() for _, child in self.children)
            case TypeKind.STRUCT:
                parts = [tag, len(self.children).to_bytes(2, "little")]
                for name, child in self.children:
                    encoded = name.encode()
                    parts += (len(encoded).to_bytes(2, "little"), encoded, child.encode())
                return b"".join(parts)
            case _:
                return tag

    @classmethod
    def decode(cls, data: bytes) -> KalamDataType:
        """Return the type that `encode` wrote. Raises `CorruptError` on anything else."""
        try:
            data_type, end = _decode(data, 0, 0)
        except (IndexError, ValueError, InvalidDefinitionError):
            raise CorruptError("A stored data type is damaged") from None
        if end != len(data):
            raise CorruptError("A stored data type is damaged")
        return data_type


INTEGER_BOUNDS: dict[TypeKind, tuple[int, int]] = {
    TypeKind.TINYINT: (-(2**7), 2**7 - 1),
    TypeKind.SMALLINT: (-(2**15), 2**15 - 1),
    TypeKind.INT: (-(2**31), 2**31 - 1),
    TypeKind.BIGINT: (-(2**63), 2**63 - 1),
    TypeKind.UTINYINT: (0, 2**8 - 1),
    TypeKind.USMALLINT: (0, 2**16 - 1),
    TypeKind.UINTEGER: (0, 2**32 - 1),
    TypeKind.UBIGINT: (0, 2**64 - 1),
}
"""Smallest and largest value of each kind of whole number."""

_FRACTIONAL = frozenset({TypeKind.DECIMAL, TypeKind.FLOAT, TypeKind.DOUBLE})
_NESTED = frozenset({TypeKind.LIST, TypeKind.STRUCT, TypeKind.MAP})
_NO_KEY = _NESTED | {
    TypeKind.FLOAT,
    TypeKind.DOUBLE,
    TypeKind.JSON,
    TypeKind.EMBEDDING,
    TypeKind.INTERVAL,
}
_WIDENINGS = frozenset(
    {
        (TypeKind.DECIMAL, TypeKind.DOUBLE),
        (TypeKind.FLOAT, TypeKind.DOUBLE),
        (TypeKind.DATE, TypeKind.TIMESTAMP),
        (TypeKind.DATETIME, TypeKind.TIMESTAMP),
        (TypeKind.TIMESTAMP, TypeKind.DATETIME),
    }
)

BOOLEAN = KalamDataType(TypeKind.BOOLEAN)
TINYINT = KalamDataType(TypeKind.TINYINT)
SMALLINT = KalamDataType(TypeKind.SMALLINT)
INT = KalamDataType(TypeKind.INT)
BIGINT = KalamDataType(TypeKind.BIGINT)
UTINYINT = KalamDataType(TypeKind.UTINYINT)
USMALLINT = KalamDataType(TypeKind.USMALLINT)
UINTEGER = KalamDataType(TypeKind.UINTEGER)
UBIGINT = KalamDataType(TypeKind.UBIGINT)
FLOAT = KalamDataType(TypeKind.FLOAT)
DOUBLE = KalamDataType(TypeKind.DOUBLE)
TEXT = KalamDataType(TypeKind.TEXT)
BYTES = KalamDataType(TypeKind.BYTES)
JSON = KalamDataType(TypeKind.JSON)
TIMESTAMP = KalamDataType(TypeKind.TIMESTAMP)
DATETIME = KalamDataType(TypeKind.DATETIME)
DATE = KalamDataType(TypeKind.DATE)
TIME = KalamDataType(TypeKind.TIME)
UUID = KalamDataType(TypeKind.UUID)
INTERVAL = KalamDataType(TypeKind.INTERVAL)


def decimal(precision: int, scale: int = 0) -> KalamDataType:
    """Return DECIMAL(precision, scale)."""
    if not 1 <= precision <= MAX_DECIMAL_PRECISION:
        raise InvalidDefinitionError(f"DECIMAL precision must be 1 to 38, not {precision}")
    if not 0 <= scale <= precision:
        raise InvalidDefinitionError(f"DECIMAL scale must be 0 to the precision, not {scale}")
    return KalamDataType(TypeKind.DECIMAL, precision=precision, scale=scale)


DECIMAL = decimal(38, 10)
"""What DECIMAL means without a precision."""


def embedding(dimension: int) -> KalamDataType:
    """Return EMBEDDING(dimension): a vector of that many float32."""
    if not 1 <= dimension <= MAX_EMBEDDING_DIMENSION:
        raise InvalidDefinitionError(f"Embedding dimension must be 1 to 8192, not {dimension}")
    return KalamDataType(TypeKind.EMBEDDING, dimension=dimension)


def list_of(item: KalamDataType) -> KalamDataType:
    """Return ``item[]``."""
    return _nested(TypeKind.LIST, (("item", item),))


def struct_of(fields: Iterable[tuple[str, KalamDataType]]) -> KalamDataType:
    """Return STRUCT with these fields, whose names differ without regard to case."""
    children = tuple(fields)
    if not children:
        raise InvalidDefinitionError("STRUCT needs a field, as in STRUCT(a INT)")
    seen: set[str] = set()
    for name, _ in children:
        if not 1 <= len(name) <= 128 or _CONTROL.search(name):
            raise InvalidDefinitionError(
                "A STRUCT field needs a name of 1 to 128 characters without control characters"
            )
        if name.lower() in seen:
            raise InvalidDefinitionError(f"Field '{name}' appears twice in STRUCT")
        seen.add(name.lower())
    return _nested(TypeKind.STRUCT, children)


def map_of(key: KalamDataType, value: KalamDataType) -> KalamDataType:
    """Return MAP(key, value); keys are scalar."""
    if key.is_nested or key.kind in (TypeKind.EMBEDDING, TypeKind.INTERVAL):
        raise InvalidDefinitionError(f"MAP keys cannot be {key}")
    return _nested(TypeKind.MAP, (("key", key), ("value", value)))


def parse_type(text: str) -> KalamDataType:
    """Return the type that ``text`` spells in SQL, by its name or an alias, in any case.

    Raises
    ------
    InvalidDefinitionError
        An unknown name, or parameters that the type does not take.
    """
    return _resolved(read_type_name(text))


_ALIASES: dict[KalamDataType, tuple[str, ...]] = {
    BOOLEAN: ("BOOL",),
    SMALLINT: ("INT2",),
    INT: ("INTEGER", "INT4", "MEDIUMINT"),
    BIGINT: ("INT8",),
    FLOAT: ("REAL", "FLOAT4"),
    DOUBLE: ("DOUBLE PRECISION", "FLOAT8", "FLOAT64"),
    TEXT: ("VARCHAR", "CHAR", "STRING", "NVARCHAR", "CHARACTER VARYING"),
    BYTES: ("BINARY", "VARBINARY", "BLOB", "BYTEA"),
    JSON: ("JSONB",),
    TIMESTAMP: ("TIMESTAMP WITHOUT TIME ZONE",),
    DATETIME: ("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"),
    TIME: ("TIME WITHOUT TIME ZONE",),
}
_PARAMETRIC = {TypeKind.DECIMAL, TypeKind.EMBEDDING, *_NESTED}
_BY_NAME = {alias: known for known, aliases in _ALIASES.items() for alias in aliases} | {
    kind.name: KalamDataType(kind) for kind in TypeKind if kind not in _PARAMETRIC
}
_WITH_LENGTH = frozenset({TypeKind.TEXT, TypeKind.BYTES})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def _spelled(name: str) -> str:
    if PLAIN_NAME.fullmatch(name):
        return name
    return '"' + name.replace('"', '""') + '"'


def _resolved(name: TypeName) -> KalamDataType:
    """Return the type that a name means."""
    children = [(field, _resolved(child)) for field, child in name.children]
    numbers = name.numbers
    match name.word:
        case "[]":
            if numbers:
                item = children[0][1]
                hint = "EMBEDDING(n)" if item == FLOAT else f"{item}[]"
                raise InvalidDefinitionError(f"Arrays have no fixed length; use {hint}")
            return list_of(children[0][1])
        case "STRUCT":
            return struct_of(children)
        case "MAP":
            return map_of(children[0][1], children[1][1])
        case "DECIMAL" | "NUMERIC":
            if len(numbers) > 2:
                raise InvalidDefinitionError("DECIMAL takes a precision and a scale")
            return decimal(*numbers) if numbers else DECIMAL
        case "EMBEDDING":
            if len(numbers) != 1:
                raise InvalidDefinitionError("EMBEDDING needs a dimension, as in EMBEDDING(384)")
            return embedding(numbers[0])
    data_type = _BY_NAME.get(name.word)
    if data_type is None:
        raise unknown_type(name.word)
    if numbers and data_type.kind not in _WITH_LENGTH:
        raise InvalidDefinitionError(f"{data_type} takes no length")
    return data_type


def _nested(kind: TypeKind, children: tuple[tuple[str, KalamDataType], ...]) -> KalamDataType:
    if 1 + max(_depth(child) for _, child in children) > MAX_TYPE_DEPTH:
        raise InvalidDefinitionError(f"Types nest at most {MAX_TYPE_DEPTH} deep")
    return KalamDataType(kind, children=children)


def _depth(data_type: KalamDataType) -> int:
    return max((1 + _depth(child) for _, child in data_type.children), default=0)


def _decode(data: bytes, at: int, depth: int) -> tuple[KalamDataType, int]:
    """Return the type that starts at ``at`` and the place behind it."""
    if depth > MAX_TYPE_DEPTH:
        raise ValueError
    kind = TypeKind(data[at])
    at += 1
    match kind:
        case TypeKind.DECIMAL:
            return decimal(data[at], data[at + 1]), at + 2
        case TypeKind.EMBEDDING:
            return embedding(data[at] | data[at + 1] << 8), at + 2
        case TypeKind.LIST:
            item, at = _decode(data, at, depth + 1)
            return list_of(item), at
        case TypeKind.MAP:
            key, at = _decode(data, at, depth + 1)
            value, at = _decode(data, at, depth + 1)
            return map_of(key, value), at
        case TypeKind.STRUCT:
            count = data[at] | data[at + 1] << 8
            at += 2
            fields: list[tuple[str, KalamDataType]] = []
            for _ in range(count):
                end = at + 2 + (data[at] | data[at + 1] << 8)
                name = data[at + 2 : end].decode()
                child, at = _decode(data, end, depth + 1)
                fields.append((name, child))
            return struct_of(fields), at
        case _:
            return KalamDataType(kind), at
