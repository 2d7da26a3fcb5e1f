"""Aggregates that changes keep up to date: always what evaluating the query anew gives."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kalamdb_lab as kalam
from kalamdb_lab import KalamError
from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.session import Session
from kalamdb_lab.live import aggregates
from kalamdb_lab.live.results import LiveResult

DEADLINE_S = 20.0

CREATE = """CREATE SHARED TABLE studio.takes (
  id BIGINT PRIMARY KEY, genre TEXT, day DATE, seconds INT, cents DECIMAL(9, 2), plays BIGINT,
  level SMALLINT, gain DOUBLE
)"""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    path = tmp_path_factory.mktemp("aggregates") / "lab.kalam"
    path.mkdir()
    (path / "kalam.toml").write_text('durability = "normal"\nbulk_rows = 6\n')
    opened = kalam.open(path)
    opened.session("root").execute("CREATE NAMESPACE studio")
    yield opened
    opened.close()


@pytest.fixture
def studio(database: Database) -> Iterator[Session]:
    session = database.session("root", namespace="studio")
    session.execute(CREATE)
    yield session
    session.close()
    database.session("root").execute("DROP TABLE studio.takes")


def rows_of(table: pa.Table, *, ordered: bool) -> list[Any]:
    """Return rows with every bit of their values and the types of their columns."""
    rows = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    shown = [tuple(repr(value) for value in row) for row in rows]
    return [table.schema.types, table.schema.names, shown if ordered else sorted(shown)]


def caught_up(live: LiveResult, session: Session, params: Any = None) -> bool:
    """Wait until the live result is what its query gives now."""
    ordered = " ORDER BY " in live.query
    expected = rows_of(session.execute(live.query, params).to_arrow(), ordered=ordered)
    until = time.monotonic() + DEADLINE_S
    while rows_of(live.snapshot(), ordered=ordered) != expected:
        if time.monotonic() > until or not live.is_open:
            assert rows_of(live.snapshot(), ordered=ordered) == expected
            return False
        live.wait(timeout=0.02)
    return True


# --- the law ------------------------------------------------------------------------------------

NUMBERS = ("seconds", "cents", "plays", "level")
ORDERED = (*NUMBERS, "genre", "day")
calls = st.one_of(
    st.just("count(*)"),
    st.sampled_from([f"count({name})" for name in (*ORDERED, "gain")]),
    st.sampled_from([f"{f}({name})" for f in ("sum", "avg") for name in NUMBERS]),
    st.sampled_from([f"{f}({name})" for f in ("min", "max") for name in ORDERED]),
)
conditions = st.sampled_from(
    [
        "",
        " WHERE seconds > 0",
        " WHERE genre IS NOT NULL AND cents <= 10",
        " WHERE lower(genre) LIKE 'j%' OR plays IS NULL",
        " WHERE takes.level BETWEEN -5 AND 5",
        " WHERE gain > 0.5 OR seconds IN (1, 2, 3)",
    ]
)


@st.composite
def queries(draw: st.DrawFn) -> str:
    groups = draw(st.lists(st.sampled_from(["genre", "day", "level"]), max_size=2, unique=True))
    chosen = draw(st.lists(calls, min_size=1, max_size=5))
    named = [f"{call} AS v{at}" for at, call in enumerate(chosen)]
    shown = draw(st.permutations([*groups, *named]))
    text = f"SELECT {', '.join(shown)} FROM takes{draw(conditions)}"
    if not groups:
        return text
    text += f" GROUP BY {', '.join(groups)}"
    if draw(st.booleans()):
        text += " HAVING count(*) > 1"
    if draw(st.booleans()):
        text += f" ORDER BY {', '.join(groups)}, v0 DESC"
        if draw(st.booleans()):
            text += " LIMIT 2"
    return text


cells = st.tuples(
    st.sampled_from(["jazz", "Jive", "folk", "", None]),
    st.sampled_from(["2031-04-30", "0001-01-01", None]),
    st.integers(-3, 3) | st.none() | st.sampled_from([2**31 - 1, -(2**31)]),
    st.sampled_from(["0.01", "-12.35", "9999999.99", None]),
    st.integers(-9, 9) | st.none() | st.sampled_from([2**62, -(2**62), 2**53 + 1]),
    st.integers(-6, 6) | st.none(),
    st.sampled_from([0.1, 0.2, -0.0, None]),
)
ids = st.integers(1, 12)


def with_few_plays(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A mean is kept as long as its sum is exact in a DOUBLE; so that it is at first."""
    plays = values[4]
    return (*values[:4], plays if plays is None or abs(plays) < 10 else 4, *values[5:])


steps = st.one_of(
    st.tuples(st.just("put"), st.lists(st.tuples(ids, cells), min_size=1, max_size=9)),
    st.tuples(st.just("change"), st.tuples(ids, ids, cells)),
    st.tuples(st.just("delete"), st.tuples(ids, ids)),
    st.tuples(st.just("empty"), st.none()),
    st.tuples(st.just("work"), st.sampled_from(["STORAGE FLUSH", "STORAGE COMPACT"])),
    st.tuples(st.just("together"), st.lists(st.tuples(ids, cells), min_size=1, max_size=4)),
    st.tuples(st.just("undone"), st.lists(st.tuples(ids, cells), min_size=1, max_size=4)),
)


def put(session: Session, rows: list[Any]) -> None:
    for key, values in rows:
        session.execute(
            "INSERT INTO takes VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "genre = excluded.genre, day = excluded.day, seconds = excluded.seconds, "
            "cents = excluded.cents, plays = excluded.plays, level = excluded.level, "
            "gain = excluded.gain",
            [key, *values],
        )


def put_at_once(session: Session, rows: list[Any]) -> None:
    """Insert rows together, which is a bulk insert from six rows on."""
    held = {key for (key,) in session.execute("SELECT id FROM takes").rows()}
    fresh = {key: values for key, values in rows if key not in held}
    names = ("genre", "day", "seconds", "cents", "plays", "level", "gain")
    if fresh:
        session.insert(
            "takes",
            [{"id": key, **dict(zip(names, values, strict=True))} for key, values in fresh.items()],
        )


def do(database: Database, session: Session, step: tuple[str, Any]) -> None:
    match step:
        case "put", rows:
            put_at_once(session, rows)
        case "change", (low, more, values):
            session.execute(
                "UPDATE takes SET genre = ?, seconds = ?, cents = ?, plays = ? "
                "WHERE id BETWEEN ? AND ?",
                [values[0], values[2], values[3], values[4], low, low + more // 4],
            )
        case "delete", (low, more):
            session.execute("DELETE FROM takes WHERE id BETWEEN ? AND ?", [low, low + more // 4])
        case "empty", _:
            session.execute("DELETE FROM takes WHERE id > 0")
        case "work", command:
            (job,) = session.execute(f"{command} TABLE takes").rows()
            database.jobs.wait(str(job[0]), timeout=DEADLINE_S)
        case "together", rows:
            with session.transaction():
                put(session, rows)
                session.execute("DELETE FROM takes WHERE id = ?", [rows[0][0]])
                put(session, rows[-1:])
        case "undone", rows:
            session.execute("BEGIN")
            put(session, rows)
            session.execute("ROLLBACK")


@pytest.mark.slow
@given(
    st.lists(queries(), min_size=2, max_size=4),
    st.lists(cells.map(with_few_plays), min_size=6, max_size=10),
    st.lists(steps, min_size=5, max_size=9),
)
@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_after_any_change_the_result_is_what_the_query_gives(
    database: Database,
    studio: Session,
    texts: list[str],
    begin: list[Any],
    script: list[tuple[str, Any]],
) -> None:
    studio.execute("DELETE FROM takes WHERE id > 0")
    put_at_once(studio, list(enumerate(begin, start=1)))
    lives = [studio.live(text, throttle_s=0) for text in texts]
    assert {live.maintenance for live in lives} == {"incremental"}
    for step in script:
        do(database, studio, step)
        for live in lives:
            try:
                studio.execute(live.query)
            except KalamError:
                continue  # a sum beyond BIGINT: the last state stays until there is one again
            caught_up(live, studio)
    for live in lives:
        live.close()


# --- single claims ------------------------------------------------------------------------------


def test_groups_vanish_and_reappear(studio: Session) -> None:
    with studio.live("SELECT genre, count(*) AS n FROM takes GROUP BY genre") as live:
        for _ in range(2):
            studio.execute("INSERT INTO takes (id, genre) VALUES (1, 'jazz'), (2, NULL)")
            assert live.wait(rows=2, timeout=DEADLINE_S)
            studio.execute("DELETE FROM takes WHERE id > 0")
            assert caught_up(live, studio)
            assert live.snapshot().num_rows == 0
        assert live.maintenance == "incremental"


def test_an_aggregate_without_groups_has_one_row_over_an_empty_table_too(studio: Session) -> None:
    with studio.live("SELECT count(*) AS n, sum(seconds) AS s, avg(cents) AS m FROM takes") as live:
        assert live.snapshot().to_pylist() == [{"n": 0, "s": None, "m": None}]
        studio.execute("INSERT INTO takes (id, seconds) VALUES (1, 5)")
        assert caught_up(live, studio)
        studio.execute("DELETE FROM takes WHERE id = 1")
        assert caught_up(live, studio)


def test_the_extreme_that_is_removed_is_followed_by_the_next(studio: Session) -> None:
    studio.execute("INSERT INTO takes (id, seconds) VALUES (1, 5), (2, 7), (3, 9)")
    with studio.live("SELECT min(seconds) AS lo, max(seconds) AS hi FROM takes") as live:
        for change in (
            "DELETE FROM takes WHERE id = 3",
            "UPDATE takes SET seconds = 6 WHERE id = 1",
            "UPDATE takes SET genre = 'x' WHERE id = 2",
            "DELETE FROM takes WHERE id > 0",
        ):
            studio.execute(change)
            assert caught_up(live, studio)
        assert live.maintenance == "incremental"


def test_a_sum_beyond_bigint_is_the_error_of_the_query_until_it_fits_again(
    studio: Session,
) -> None:
    studio.execute("INSERT INTO takes (id, plays) VALUES (1, 9223372036854775807)")
    live = studio.live("SELECT sum(plays) AS s FROM takes", throttle_s=0)
    differences = iter(live)
    next(differences)
    studio.execute("INSERT INTO takes (id, plays) VALUES (2, 1)")
    failed = next(differences)
    assert failed.error is not None
    assert failed.error.code == "OUT_OF_RANGE"
    with pytest.raises(KalamError) as refused:
        studio.execute(live.query)
    assert str(refused.value) == str(failed.error) == str(live.error)
    assert live.is_open
    studio.execute("DELETE FROM takes WHERE id = 1")
    assert next(differences).error is None
    assert live.snapshot().to_pylist() == [{"s": 1}]
    live.close()


def test_a_condition_with_parameters_is_kept_with_its_values(studio: Session) -> None:
    text = "SELECT count(*) AS n FROM takes WHERE seconds > ? AND genre = ?"
    with studio.live(text, [3, "jazz"]) as live:
        assert live.maintenance == "incremental"
        studio.execute("INSERT INTO takes (id, genre, seconds) VALUES (1, 'jazz', 4), (2, 'x', 4)")
        assert caught_up(live, studio, [3, "jazz"])
        assert live.snapshot().to_pylist() == [{"n": 1}]


def test_columns_added_meanwhile_change_nothing_and_dropped_ones_end_it(studio: Session) -> None:
    studio.execute("INSERT INTO takes (id, seconds) VALUES (1, 5)")
    live = studio.live("SELECT count(*) AS n, sum(seconds) AS s FROM takes", throttle_s=0)
    studio.execute("ALTER TABLE takes ADD COLUMN mood TEXT DEFAULT 'calm'")
    studio.execute("INSERT INTO takes (id, seconds) VALUES (2, 6)")
    assert caught_up(live, studio)
    assert live.maintenance == "incremental"
    studio.execute("ALTER TABLE takes DROP COLUMN seconds")
    for difference in live:
        ended = difference.ended
    assert ended == "schema changed"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT sum(gain) AS s FROM takes",
        "SELECT avg(gain) AS s FROM takes",
        "SELECT count(DISTINCT genre) AS n FROM takes",
        "SELECT count(*) AS n FROM takes WHERE random() < 2",
        "SELECT count(*) AS n FROM takes WHERE CAST(day AS TIMESTAMP) < now()",
        "SELECT count(*) AS n FROM takes a JOIN takes b ON a.id = b.id",
        "SELECT genre, count(*) OVER () AS n FROM takes",
        "SELECT count(*) FILTER (WHERE seconds > 0) AS n FROM takes",
        "SELECT genre, count(*) AS n FROM takes GROUP BY ROLLUP (genre)",
        "SELECT count(*) AS n FROM takes WHERE id IN (SELECT id FROM takes)",
        "SELECT max(_seq) AS s FROM takes",
        "SELECT count(*) AS n FROM takes WHERE _deleted",
    ],
)
def test_what_changes_alone_do_not_tell_is_read_anew_and_right(studio: Session, text: str) -> None:
    with studio.live(text, throttle_s=0) as live:
        assert live.maintenance == "recomputed"
        studio.execute(
            "INSERT INTO takes (id, genre, gain, seconds, day) VALUES "
            "(1, 'jazz', 0.1, 3, '2001-01-01'), (2, 'folk', 0.2, NULL, '2001-01-01')"
        )
        assert caught_up(live, studio)
        studio.execute("DELETE FROM takes WHERE id = 1")
        assert caught_up(live, studio)


def test_too_many_groups_are_read_anew(studio: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregates, "MOST_GROUPS", 2)
    live = studio.live("SELECT level, count(*) AS n FROM takes GROUP BY level", throttle_s=0)
    assert live.maintenance == "incremental"
    studio.execute("INSERT INTO takes (id, level) VALUES (1, 1), (2, 2), (3, 3)")
    assert caught_up(live, studio)
    assert live.maintenance == "recomputed"
    live.close()


def test_rows_of_other_users_are_in_nobodys_sums(database: Database, tmp_path: Path) -> None:
    root = database.session("root", namespace="studio")
    root.execute("CREATE USER TABLE own (id BIGINT PRIMARY KEY, n INT)")
    with suppress(KalamError):
        root.execute("CREATE USER 'mia' WITH INTERNAL ROLE user")
    mia = database.session("mia", namespace="studio")
    live = mia.live("SELECT count(*) AS n, sum(n) AS s FROM own", throttle_s=0)
    root.execute("INSERT INTO own VALUES (1, 40)")
    mia.execute("INSERT INTO own VALUES (1, 2)")
    assert live.wait(timeout=DEADLINE_S)
    assert live.snapshot().to_pylist() == [{"n": 1, "s": 2}]
    root.execute("INSERT INTO own VALUES (2, 50)")
    mia.execute("INSERT INTO own VALUES (3, 3)")
    assert caught_up(live, mia)
    assert live.evaluations == 3
    mia.close()
    root.execute("DROP TABLE own")
