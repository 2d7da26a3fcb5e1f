"""How values look."""

from __future__ import annotations

import datetime
import decimal
import re
import uuid
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalamdb_lab.arrow.schemas import logical_field
from kalamdb_lab.errors import LimitError
from kalamdb_lab.model.datatypes import JSON, UUID
from kalamdb_lab.model.readable import duration, plural
from kalamdb_lab.notebook.display import Grid, Look, Preview


def shown(*values: Any, arrow: pa.DataType | None = None) -> list[str]:
    """Return the texts of one column as the plain view shows them."""
    table = pa.table({"c": pa.array(list(values), arrow)})
    return [line.strip() for line in repr(Grid(table, len(values))).splitlines()[2:-1]]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1, None, -20], ["1", "NULL", "-20"]),
        ([2.0, 10.25], ["2.00", "10.25"]),
        ([1 / 3, 100.0], ["0.3333", "100.0000"]),
        ([1e20, 1.5], ["1e+20", "1.5"]),
        ([1e-9, 0.0], ["1e-09", "0"]),
        ([float("nan"), float("inf"), 1.0], ["NaN", "inf", "1.0"]),
        ([True, False], ["true", "false"]),
        (["a\nb", "\x1b[31m"], ["a↵b", "\\x1b[31m"]),
        ([b"\x0a\xff", b""], ["X'0AFF'", "X''"]),
        ([decimal.Decimal("0.10")], ["0.10"]),
        ([datetime.date(2013, 1, 31)], ["2013-01-31"]),
        ([datetime.datetime.fromisoformat("2013-01-31T05:00")], ["2013-01-31 05:00:00"]),
        ([datetime.time(5, 30)], ["05:30:00"]),
        ([[1, None, 2]], ["[1, NULL, 2]"]),
        ([{"a": 1, "b": "x"}], ["{a: 1, b: 'x'}"]),
    ],
    ids=str,
)
def test_values_look_as_sql_writes_them(values: list[Any], texts: list[str]) -> None:
    assert shown(*values) == texts


def test_instants_uuids_and_json_keep_their_look() -> None:
    instant = datetime.datetime(2013, 1, 31, 5, 0, 0, 250_000, tzinfo=datetime.UTC)
    assert shown(instant, arrow=pa.timestamp("us", "UTC")) == ["2013-01-31 05:00:00.250000Z"]
    some = uuid.UUID("018fe7e0-0000-7000-8000-000000000001")
    table = pa.Table.from_arrays(
        [pa.array([some.bytes], pa.binary(16)), pa.array(['{"a": 1}'])],
        schema=pa.schema([logical_field("u", UUID), logical_field("j", JSON)]),
    )
    assert f' {some} {{"a": 1}}' in repr(Grid(table, 1))


def test_what_python_cannot_hold_is_shown_all_the_same() -> None:
    days = pa.array([4_000_000, -800_000], pa.int32()).cast(pa.date32())
    assert shown(*days, arrow=pa.date32()) == ["12921-08-18", "-0221-09-04"]


@given(st.lists(st.floats() | st.none(), min_size=1))
def test_a_rounded_number_has_the_exact_one_in_its_tooltip(values: list[float | None]) -> None:
    html = Grid(pa.table({"c": pa.array(values, pa.float64())}), len(values))._repr_html_()
    cells = re.findall(r'<td class="n(?: z)?"(?: title="([^"]*)")?>([^<]*)</td>', html)
    assert len(cells) == len(values)
    for value, (exact, text) in zip(values, cells, strict=True):
        if value is None:
            assert text == "NULL"
        else:
            assert repr(float(exact or text)) == repr(value) or float(exact or text) == value


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_no_text_escapes_from_its_cell(values: list[str]) -> None:
    table = pa.table({"<c>": pa.array([value.replace("\0", "") for value in values])})
    html = Grid(table, len(values))._repr_html_()
    body = html.partition("<tbody>")[2].partition("</tbody>")[0]
    assert body.count("<") == len(values) * 4
    assert len(repr(Grid(table, len(values))).split("\n")) == len(values) + 3


def test_long_text_is_cut_and_very_long_text_says_how_long_it_is() -> None:
    html = Grid(pa.table({"c": ["x" * 61, "y" * 5_000]}), 2)._repr_html_()
    assert f'<td title="{"x" * 61}">{"x" * 59}…</td>' in html
    assert f'<td title="{"y" * 1_000}… (5,000 characters)">{"y" * 59}…</td>' in html


@pytest.mark.parametrize(
    ("rows", "total", "text_footer", "html_footer"),
    [
        (0, 0, "no rows · note", "no rows · note"),
        (1, 1, "1 row · note", "1 row · note"),
        (3, 3, "showing 2 of 3 rows · note · hint", "3 rows · note"),
        (
            3,
            2_101_322,
            "showing 2 of 2,101,322 rows · note · hint",
            "showing 3 of 2,101,322 rows · note · hint",
        ),
    ],
)
def test_the_footer_tells_what_is_missing(
    rows: int, total: int, text_footer: str, html_footer: str
) -> None:
    table = pa.table({"n": pa.array(range(rows), pa.int64())})
    grid = Grid(table, total, ("note", ""), Look(text_rows=2), hint="hint")
    assert repr(grid).splitlines()[-1] == text_footer
    assert f'<div class="kalam-foot">{html_footer}</div>' in grid._repr_html_()


def test_a_preview_is_not_taken_for_the_whole() -> None:
    preview = Preview(pa.table({"n": [1, 2]}), 5)
    for use in (len, list, pa.table, lambda p: p.to_pandas(), lambda p: p.rows()):
        with pytest.raises(LimitError, match="^Only 2 of 5 rows were read, to be shown"):
            use(preview)


def test_counts_and_times_read_well() -> None:
    assert [plural(n, "row") for n in (0, 1, 2_000)] == ["0 rows", "1 row", "2,000 rows"]
    assert [duration(ms) for ms in (0.04, 0.96, 3.4, 999, 1_240, 75_000)] == [
        "0.0 ms",
        "1.0 ms",
        "3 ms",
        "999 ms",
        "1.2 s",
        "75.0 s",
    ]
