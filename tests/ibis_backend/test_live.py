"""Live results of ibis expressions: `Session.live` over what a connection compiles."""

from __future__ import annotations

import datetime
import gc
import threading
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import ibis
import pytest

from kalamdb_lab import KalamError
from kalamdb_lab.arrow.schemas import kalam_type

DEADLINE_S = 30.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not become so"
        threading.Event().wait(0.005)


@pytest.fixture
def tracks(con: Any) -> Any:
    con.session.execute("CREATE SHARED TABLE tracks (id BIGINT PRIMARY KEY, genre TEXT, plays INT)")
    con.session.execute("INSERT INTO tracks VALUES (1, 'jazz', 5), (2, 'folk', 7)")
    return con.table("tracks")


def test_an_expression_is_followed_as_its_execution_gives_it(con: Any, tracks: Any) -> None:
    expression = (
        tracks.filter(tracks.plays > 1)
        .group_by("genre")
        .agg(n=lambda t: t.count(), plays=lambda t: t.plays.sum(), mean=lambda t: t.plays.mean())
        .order_by(ibis.desc("plays"))
        .limit(2)
    )
    live = con.session.live(expression, throttle_s=0)
    assert live.key == ("genre",)
    for text in (
        "INSERT INTO tracks VALUES (3, 'jazz', 9), (4, 'rock', 1)",
        "UPDATE tracks SET plays = 40 WHERE id = 4",
        "DELETE FROM tracks WHERE genre = 'jazz'",
    ):
        con.session.execute(text)
        expected = con.execute(expression).to_dict("list")
        until(lambda expected=expected: live.snapshot().to_pydict() == expected)
    live.close()


def test_a_grouped_expression_is_kept_up_to_date_from_changes(con: Any, tracks: Any) -> None:
    counts = tracks.group_by("genre").agg(n=tracks.count(), most=tracks.plays.max())
    live = con.session.live(counts.order_by("genre"), throttle_s=0)
    assert live.maintenance == "incremental"
    con.session.execute("INSERT INTO tracks VALUES (3, 'jazz', 9)")
    until(lambda: live.snapshot()["most"].to_pylist() == [7, 9])
    assert live.maintenance == "incremental"
    joined = con.session.live(tracks.join(counts, "genre").select("id", "n"), throttle_s=0)
    assert joined.maintenance == "recomputed"


def test_memtables_and_python_functions_go_on_after_their_names_are_gone(
    con: Any, tracks: Any
) -> None:
    @ibis.udf.scalar.python
    def doubled(number: int) -> int:
        return number * 2

    wanted = ibis.memtable({"genre": ["jazz", "rock"], "rank": [1, 2]})
    expression = tracks.join(wanted, "genre").select("id", twice=doubled(tracks.plays))
    live = con.session.live(expression, throttle_s=0)
    del wanted, expression
    gc.collect()
    con.session.execute("INSERT INTO tracks VALUES (3, 'rock', 9)")
    wanted_rows = {"id": [1, 3], "twice": [10, 18]}
    until(lambda: live.snapshot().sort_by("id").to_pydict() == wanted_rows)


def test_values_come_in_the_types_of_the_database(con: Any) -> None:
    con.session.execute(
        "CREATE SHARED TABLE kinds (id UUID PRIMARY KEY, cents DECIMAL(9, 2), at DATETIME, "
        "about JSON, mood EMBEDDING(2))"
    )
    live = con.session.live(con.table("kinds"), throttle_s=0)
    key = uuid.uuid4()
    at = datetime.datetime(2031, 4, 30, 18, 5, tzinfo=datetime.UTC)
    row = [key, Decimal("1.50"), at, '{"a": 1}', [0.5, 0.25]]
    con.session.execute("INSERT INTO kinds VALUES (?, ?, ?, ?, ?)", row)
    assert live.wait(rows=1, timeout=DEADLINE_S)
    assert [str(kalam_type(field)) for field in live.schema] == [
        "UUID",
        "DECIMAL(9, 2)",
        "DATETIME",
        "JSON",
        "EMBEDDING(2)",
    ]
    shown = con.session.execute("SELECT * FROM kinds").to_arrow()
    assert live.snapshot().to_pydict() == shown.to_pydict()
    assert live.key == ("id",)


def test_expressions_of_others_are_refused_and_of_another_connection_of_oneself_are_not(
    con: Any, mia: Any, tracks: Any, path: Path, tmp_path: Path
) -> None:
    with pytest.raises(KalamError, match="belongs to another user's connection"):
        mia.session.live(tracks)
    again = ibis.kalam.connect(path)
    live = again.session.live(tracks.count().name("n").as_table(), throttle_s=0)
    assert live.snapshot().to_pylist() == [{"n": 2}]
    elsewhere = ibis.kalam.connect(tmp_path / "other.kalam")
    with pytest.raises(KalamError, match="another database than this session's"):
        elsewhere.session.live(tracks)
    with pytest.raises(KalamError, match="reads no table of a database"):
        con.session.live(ibis.memtable({"a": [1]}))
    with pytest.raises(KalamError, match="takes SQL text or an ibis expression"):
        con.session.live(42)
    with pytest.raises(KalamError, match="Parameters go with SQL text"):
        con.session.live(tracks, [1])
    elsewhere.disconnect()
    again.disconnect()
    assert live.ended == "session ended"


def test_a_scalar_and_a_column_are_tables_of_one_column(con: Any, tracks: Any) -> None:
    assert con.session.live(tracks.plays.sum()).snapshot().to_pydict() == {"Sum(plays)": [12]}
    assert con.session.live(tracks.genre).snapshot().num_rows == 2
