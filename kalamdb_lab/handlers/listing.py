"""Answers made of rows of Python values: SHOW, DESCRIBE and what commands report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import pyarrow as pa

from kalamdb_lab.arrow.arrays import array_from_storage
from kalamdb_lab.arrow.schemas import logical_field
from kalamdb_lab.model.datatypes import KalamDataType, StorageValue
from kalamdb_lab.query.result import Result

Columns: TypeAlias = Sequence[tuple[str, KalamDataType]]
"""Name and type of each column of an answer."""


def listing(kind: str, columns: Columns, rows: Iterable[Sequence[StorageValue]]) -> Result:
    """Return rows of storage values as the result of a statement of ``kind``."""
    listed = list(rows)
    arrays = [
        array_from_storage([row[at] for row in listed], data_type)
        for at, (_, data_type) in enumerate(columns)
    ]
    schema = pa.schema([logical_field(name, data_type) for name, data_type in columns])
    return Result.of_table(kind, pa.Table.from_arrays(arrays, schema=schema))
