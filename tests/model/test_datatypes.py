"""Types: their spelling, their bytes, and what widens to what."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalamdb_lab.errors import CorruptError, InvalidDefinitionError
from kalamdb_lab.model.datatypes import (
    BIGINT,
    BOOLEAN,
    BYTES,
    DATE,
    DATETIME,
    DECIMAL,
    DOUBLE,
    FLOAT,
    INT,
    JSON,
    SMALLINT,
    TEXT,
    TIMESTAMP,
    UBIGINT,
    UUID,
    KalamDataType,
    TypeKind,
    decimal,
    embedding,
    list_of,
    map_of,
    parse_type,
    struct_of,
)
from kalamdb_lab.testing.strategies import data_types


@given(data_type=data_types)
def test_encoded_types_decode_to_themselves(data_type: KalamDataType) -> None:
    assert KalamDataType.decode(data_type.encode()) == data_type


@given(data_type=data_types)
def test_printed_types_parse_back(data_type: KalamDataType) -> None:
    assert parse_type(str(data_type)) == data_type


@given(data=st.binary(max_size=40))
def test_any_bytes_are_one_type_or_corrupt(data: bytes) -> None:
    try:
        data_type = KalamDataType.decode(data)
    except CorruptError:
        return
    assert data_type.encode() == data


@given(text=st.text(max_size=30) | st.text('INTEGRALSTUCMP()[],"0123 -', max_size=30))
def test_any_text_is_a_type_or_a_definition_error(text: str) -> None:
    try:
        data_type = parse_type(text)
    except InvalidDefinitionError:
        return
    assert parse_type(str(data_type)) == data_type


def test_deep_bytes_are_corrupt_and_no_stack_overflow() -> None:
    with pytest.raises(CorruptError):
        KalamDataType.decode(bytes([TypeKind.LIST.value]) * 100_000)


def test_wire_tags_stay() -> None:
    """Bytes on disk outlive the code: these may never change."""
    tags = {kind.name: kind.value for kind in TypeKind}
    assert tags == {
        "BOOLEAN": 0x01, "INT": 0x02, "BIGINT": 0x03, "DOUBLE": 0x04, "FLOAT": 0x05,
        "TEXT": 0x06, "TIMESTAMP": 0x07, "DATE": 0x08, "DATETIME": 0x09, "TIME": 0x0A,
        "JSON": 0x0B, "BYTES": 0x0C, "EMBEDDING": 0x0D, "UUID": 0x0E, "DECIMAL": 0x0F,
        "SMALLINT": 0x10, "TINYINT": 0x20, "UTINYINT": 0x21, "USMALLINT": 0x22,
        "UINTEGER": 0x23, "UBIGINT": 0x24, "INTERVAL": 0x25, "LIST": 0x26, "STRUCT": 0x27,
        "MAP": 0x28,
    }  # fmt: skip
    assert embedding(384).encode() == b"\x0d\x80\x01"
    assert decimal(9, 4).encode() == b"\x0f\x09\x04"
    assert list_of(struct_of([("a", INT)])).encode() == b"\x26\x27\x01\x00\x01\x00a\x02"


@pytest.mark.parametrize(
    ("text", "data_type"),
    [
        *((name, BOOLEAN) for name in ("BOOLEAN", "bool")),
        *((name, SMALLINT) for name in ("smallint", "INT2")),
        *((name, INT) for name in ("INT", "Integer", "INT4", "MEDIUMINT")),
        *((name, BIGINT) for name in ("BIGINT", "int8")),
        *((name, FLOAT) for name in ("FLOAT", "REAL", "FLOAT4")),
        *((name, DOUBLE) for name in ("DOUBLE", "double  precision", "FLOAT8", "FLOAT64")),
        *((name, DECIMAL) for name in ("DECIMAL", "NUMERIC", "numeric(38, 10)")),
        *((name, decimal(9, 0)) for name in ("DECIMAL(9)", "NUMERIC( 9 , 0 )")),
        ("DECIMAL(38)", decimal(38, 0)),
        *((name, TEXT) for name in ("TEXT", "VARCHAR", "varchar(20)", "CHAR(3)", "STRING")),
        ("NVARCHAR(5)", TEXT),
        *((name, BYTES) for name in ("BYTES", "BINARY", "VARBINARY", "BLOB", "BYTEA")),
        *((name, JSON) for name in ("JSON", "JSONB")),
        ("TIMESTAMP", TIMESTAMP),
        *((name, DATETIME) for name in ("DATETIME", "TIMESTAMPTZ", "timestamp with time zone")),
        ("UBIGINT", UBIGINT),
        ("EMBEDDING(384)", embedding(384)),
        ("INT[][]", list_of(list_of(INT))),
        ('STRUCT(a INT, "b c" TEXT[])', struct_of([("a", INT), ("b c", list_of(TEXT))])),
        ("MAP(UUID, DECIMAL(3,1))", map_of(UUID, decimal(3, 1))),
    ],
)
def test_names_and_aliases(text: str, data_type: KalamDataType) -> None:
    assert parse_type(text) == data_type


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MONEY", "Unknown type 'MONEY'"),
        ("money(3)", "Unknown type 'MONEY'"),
        ("HUGEINT", "Unknown type 'HUGEINT'"),
        ("INT INT", "Unknown type 'INT INT'"),
        ("TIME WITH TIME ZONE", "Unknown type 'TIME WITH TIME ZONE'"),
        ("", "Unknown type ''"),
        ("DECIMAL(40)", "DECIMAL precision must be 1 to 38, not 40"),
        ("DECIMAL(0)", "DECIMAL precision must be 1 to 38, not 0"),
        ("DECIMAL(5, 9)", "DECIMAL scale must be 0 to the precision, not 9"),
        ("DECIMAL(5, -1)", "DECIMAL scale must be 0 to the precision, not -1"),
        ("EMBEDDING(9000)", "Embedding dimension must be 1 to 8192, not 9000"),
        ("EMBEDDING(0)", "Embedding dimension must be 1 to 8192, not 0"),
        ("EMBEDDING", "EMBEDDING needs a dimension, as in EMBEDDING(384)"),
        ("INT(11)", "INT takes no length"),
        ("FLOAT[3]", "Arrays have no fixed length; use EMBEDDING(n)"),
        ("MAP(INT[], TEXT)", "MAP keys cannot be INT[]"),
        ("STRUCT(a INT, A TEXT)", "Field 'A' appears twice in STRUCT"),
    ],
)
def test_wrong_definitions_are_told(text: str, message: str) -> None:
    with pytest.raises(InvalidDefinitionError) as caught:
        parse_type(text)
    assert str(caught.value) == message


def test_describe_spelling() -> None:
    assert [str(t) for t in (decimal(9, 4), embedding(384), map_of(TEXT, INT))] == [
        "DECIMAL(9, 4)",
        "EMBEDDING(384)",
        "MAP(TEXT, INT)",
    ]


def test_widening_follows_the_chain_and_nothing_else() -> None:
    chain = [SMALLINT, INT, BIGINT, decimal(30, 10), DOUBLE]
    for at, data_type in enumerate(chain):
        assert all(data_type.widens_to(wider) for wider in chain[at:])
        assert not any(data_type.widens_to(narrower) for narrower in chain[:at])
    assert FLOAT.widens_to(DOUBLE)
    assert DATE.widens_to(TIMESTAMP)
    assert DATETIME.widens_to(TIMESTAMP)
    assert TIMESTAMP.widens_to(DATETIME)
    assert decimal(5, 2).widens_to(decimal(6, 3))
    for own, other in [
        (BIGINT, decimal(18, 0)),
        (BIGINT, UBIGINT),
        (UBIGINT, BIGINT),
        (INT, FLOAT),
        (INT, BOOLEAN),
        (BOOLEAN, INT),
        (INT, TEXT),
        (TIMESTAMP, DATE),
        (decimal(6, 3), decimal(6, 4)),
        (decimal(6, 3), decimal(9, 2)),
        (embedding(2), embedding(3)),
    ]:
        assert not own.widens_to(other)


def test_keys_are_exact_scalars() -> None:
    refused = [FLOAT, DOUBLE, JSON, embedding(3), list_of(INT), parse_type("INTERVAL")]
    assert not any(data_type.can_be_key for data_type in refused)
    assert all(data_type.can_be_key for data_type in (TEXT, UUID, DATE, BOOLEAN, decimal(9, 2)))


@given(data_type=data_types)
def test_pickled_types_are_equal_and_found_in_dicts(data_type: KalamDataType) -> None:
    assert {data_type: 1}[pickle.loads(pickle.dumps(data_type))] == 1
