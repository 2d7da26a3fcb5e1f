"""The types that casts name."""

from __future__ import annotations

import pytest
from sqlglot import exp

from kalamdb_lab.errors import InvalidDefinitionError
from kalamdb_lab.model.datatypes import KalamDataType, parse_type
from kalamdb_lab.sql.cast_types import data_type_of
from kalamdb_lab.sql.queries import parse_expression

NAMES = """
BOOLEAN BOOL TINYINT SMALLINT INT2 INT INTEGER INT4 MEDIUMINT BIGINT INT8 UTINYINT USMALLINT
UINTEGER UBIGINT FLOAT REAL FLOAT4 DOUBLE FLOAT8 FLOAT64 TEXT VARCHAR CHAR STRING NVARCHAR BYTES
BINARY VARBINARY BLOB BYTEA JSON JSONB TIMESTAMP DATETIME TIMESTAMPTZ DATE TIME UUID INTERVAL
DECIMAL NUMERIC
"""
LONGER = [
    "DOUBLE PRECISION",
    "DECIMAL(9, 4)",
    "NUMERIC(5)",
    "VARCHAR(10)",
    "EMBEDDING(384)",
    "INT[][]",
    "STRUCT(a INT, b DECIMAL)",
    "MAP(TEXT, DOUBLE[])",
    "TIMESTAMP WITH TIME ZONE",
]


def cast_to(written: str) -> KalamDataType:
    tree = parse_expression(f"CAST(a AS {written})")
    assert isinstance(tree, exp.Cast)
    return data_type_of(tree.to)


@pytest.mark.parametrize("written", [*NAMES.split(), *LONGER])
def test_a_cast_means_what_a_column_means(written: str) -> None:
    assert cast_to(written) == cast_to(written.lower()) == parse_type(written)


def test_a_list_of_decimals_has_the_precision_that_decimal_has() -> None:
    assert cast_to("DECIMAL[]") == parse_type("DECIMAL[]")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("MONEY", "Unknown type 'MONEY'"),
        ("HUGEINT", "Unknown type 'HUGEINT'"),
        ("my_type", "Unknown type 'MY_TYPE'"),
        ("DECIMAL(40)", "DECIMAL precision must be 1 to 38, not 40"),
        ("DECIMAL(8, 9)", "DECIMAL scale must be 0 to the precision, not 9"),
        ("EMBEDDING(9000)", "Embedding dimension must be 1 to 8192, not 9000"),
        ("EMBEDDING", "EMBEDDING needs a dimension, as in EMBEDDING(384)"),
        ("INT[3]", "Arrays have no fixed length; use INT[]"),
    ],
)
def test_what_is_no_type(written: str, message: str) -> None:
    with pytest.raises(InvalidDefinitionError) as fault:
        cast_to(written)
    assert str(fault.value) == message
