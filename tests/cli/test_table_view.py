"""Tables for eyes: what is cut on a narrow terminal, and that it is said."""

from __future__ import annotations

import datetime
import io
import re
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from kalamdb_lab.cli.table_view import print_table


def shown(table: pa.Table, *, width: int | None = None, total: int | None = None) -> list[str]:
    """Return the lines that a terminal of a width shows, or a pipe."""
    out = io.StringIO()
    console = Console(
        file=out, width=width or 80, force_terminal=width is not None, color_system=None
    )
    print_table(console, table, total or table.num_rows, notes=("12 ms",), hint="see more")
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    return text.splitlines()


def test_numbers_stand_on_the_right_and_texts_on_the_left() -> None:
    table = pa.table({"name": ["a", "long one"], "n": [5, 1000], "x": [0.5, None]})
    assert shown(table, width=80) == [
        "name         n     x",
        "────────  ────  ────",
        "a            5   0.5",
        "long one  1000  NULL",
        "2 rows · 12 ms",
    ]


def test_nothing_is_cut_where_there_is_no_terminal() -> None:
    table = pa.table({f"column_{number}": ["x" * 50] for number in range(20)})
    lines = shown(table)
    assert lines[2].count("x" * 50) == 20
    assert lines[-1] == "1 row · 12 ms"


def test_the_widest_columns_are_cut_first() -> None:
    table = pa.table({"id": [1], "body": ["word " * 50], "code": ["abcdef"]})
    lines = shown(table, width=40)
    assert lines[2].startswith(" 1  word word ")
    assert lines[2].endswith("…  abcdef")
    assert all(cell_len(line) <= 40 for line in lines[:-1])
    assert lines[-1] == "1 row · cut to fit · see more · 12 ms"


def test_columns_that_find_no_room_are_counted() -> None:
    table = pa.table({f"c{number}": ["x" * 30] for number in range(20)})
    lines = shown(table, width=40)
    assert all(cell_len(line) <= 40 for line in lines[:-1])
    assert lines[-1] == "1 row · 4 of 20 columns · cut to fit · see more · 12 ms"


def test_rows_that_are_not_shown_are_counted() -> None:
    table = pa.table({"n": [1, 2]})
    assert shown(table, total=5_000)[-1] == "showing 2 of 5,000 rows · see more · 12 ms"
    assert shown(table.slice(0, 0), total=0)[-1] == "no rows · 12 ms"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("two\nlines", "two↵lines"),
        (b"\x00\xff", "X'00FF'"),
        (datetime.datetime(2031, 4, 30, 18, 5), "2031-04-30 18:05:00"),
        ([1, None], "[1, NULL]"),
        (True, "true"),
    ],
)
def test_values_cannot_drive_the_terminal(value: Any, text: str) -> None:
    assert shown(pa.table({"v": [value]}))[2] == text


def test_names_cannot_drive_it_either() -> None:
    assert shown(pa.table({"\x1b]0;title\x07": ["x"]}))[0] == "\\x1b]0;title\\x07"


@given(
    width=st.integers(10, 120),
    cells=st.lists(st.text(max_size=60), min_size=1, max_size=8),
)
def test_no_line_is_wider_than_the_terminal(width: int, cells: list[str]) -> None:
    table = pa.table({f"c{at}": [cell] for at, cell in enumerate(cells)})
    lines = shown(table, width=width)
    assert all(cell_len(line) <= width for line in lines[:3])
