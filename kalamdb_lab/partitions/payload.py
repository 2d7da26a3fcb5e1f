"""What a log entry's payload says, as msgpack."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from kalamdb_lab.errors import CorruptError
from kalamdb_lab.model.datatypes import KalamDataType, StorageValue, TypeKind
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.store.wire import encoder, extension, to_wire

Row = tuple[StorageValue, ...]


class RowChanges(msgspec.Struct, array_like=True):
    """The payload of a ROWS entry that took the numbers ``seq`` to ``seq + count - 1``.

    Attributes
    ----------
    schema_version : int
        Version of the table that the rows were written with.
    rows : list
        New row versions, one storage value per column; row ``i`` is version ``seq + i``.
    replaces : list of int
        For row ``i`` the version that it replaces, 0 for none; empty if none replaces any.
    deleted : list of int
        Versions deleted; number ``i`` was deleted at ``seq + len(rows) + i``.
    at_us : int
        When the rows came to be, if that was before the entry: events that were restored from a
        backup are as old as they were. 0 otherwise.
    """

    schema_version: int
    rows: list[Any]
    replaces: list[int] = []
    deleted: list[int] = []
    at_us: int = 0


class RowsSummary(msgspec.Struct, array_like=True):
    """A ROWS payload whose rows are not looked at; see `RowChanges`."""

    schema_version: int
    rows: msgspec.Raw
    replaces: list[int] = []
    deleted: list[int] = []
    at_us: int = 0


class FlushDone(msgspec.Struct, array_like=True):
    """The payload of a FLUSH entry: all ROWS entries up to ``upto_seq`` are in segments."""

    upto_seq: int


class Evicted(msgspec.Struct, array_like=True):
    """The payload of an EVICT entry: the entries that are forgotten."""

    entry_seqs: list[int]


_rows = msgspec.msgpack.Decoder(RowChanges, ext_hook=extension)
_summary = msgspec.msgpack.Decoder(RowsSummary)
_flush = msgspec.msgpack.Decoder(FlushDone)
_evicted = msgspec.msgpack.Decoder(Evicted)


def _needs_extension(data_type: KalamDataType) -> bool:
    return data_type.kind in (TypeKind.DECIMAL, TypeKind.INTERVAL) or any(
        _needs_extension(child) for _, child in data_type.children
    )


@lru_cache(maxsize=4096)
def _extended_positions(columns: tuple[KalamDataType, ...]) -> tuple[int, ...]:
    return tuple(at for at, data_type in enumerate(columns) if _needs_extension(data_type))


def encode_rows(
    table: TableDef,
    rows: Sequence[Row],
    replaces: Sequence[int],
    deleted: Sequence[int],
    *,
    at_us: int = 0,
) -> bytes:
    """Encode rows of the table's present version."""
    extended = _extended_positions(tuple(column.data_type for column in table.columns))
    wire: list[Any]
    if extended:
        wire = []
        for row in rows:
            cells: list[Any] = list(row)
            for at in extended:
                cells[at] = to_wire(cells[at])
            wire.append(cells)
    else:
        wire = list(rows)
    changes = RowChanges(table.schema_version, wire, list(replaces), list(deleted), at_us)
    return encoder.encode(changes)


def decode_rows(payload: bytes) -> RowChanges:
    """Decode a ROWS payload."""
    try:
        changes = _rows.decode(payload)
    except (msgspec.MsgspecError, ArithmeticError, ValueError):
        raise _damaged() from None
    changes.rows = [tuple(row) for row in changes.rows]
    return changes


def summarize_rows(payload: bytes) -> RowsSummary:
    """Decode all of a ROWS payload but the rows."""
    try:
        return _summary.decode(payload)
    except msgspec.MsgspecError:
        raise _damaged() from None


def encode_flush(upto_seq: int) -> bytes:
    """Encode a FLUSH payload."""
    return encoder.encode(FlushDone(upto_seq))


def decode_flush(payload: bytes) -> FlushDone:
    """Decode a FLUSH payload."""
    try:
        return _flush.decode(payload)
    except msgspec.MsgspecError:
        raise _damaged() from None


def encode_evicted(entry_seqs: Sequence[int]) -> bytes:
    """Encode an EVICT payload."""
    return encoder.encode(Evicted(list(entry_seqs)))


def decode_evicted(payload: bytes) -> Evicted:
    """Decode an EVICT payload."""
    try:
        return _evicted.decode(payload)
    except msgspec.MsgspecError:
        raise _damaged() from None


def _damaged() -> CorruptError:
    return CorruptError("An entry of the commit log is damaged; restore a backup")
