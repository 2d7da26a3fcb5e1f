"""The locked engine below all checks: what it refuses even when a text gets through to it."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kalamdb_lab.clock import FakeClock, IdGenerator
from kalamdb_lab.errors import ClosedError, InterruptedStatementError, LimitError
from kalamdb_lab.query.cancellation import Cancellation
from kalamdb_lab.query.duck import Bounds, DuckEngine, EngineError

ENDLESS = "SELECT count(*) FROM range(100000000) a, range(100000000) b"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "alice"
    folder.mkdir()
    pq.write_table(pa.table({"v": [1, 2]}), folder / "s.parquet")
    return folder


def numbers(engine: DuckEngine, sql: str, **options: object) -> list[object]:
    return engine.run(sql, {}, {}, **options).column(0).to_pylist()  # type: ignore[arg-type]


def test_a_statement_sees_what_is_registered_for_it(engine: DuckEngine) -> None:
    table = pa.table({"a": [1, 2, 2]})
    sql = 'SELECT a, count(*) AS n FROM temp.main."__k_1" GROUP BY a ORDER BY a'
    assert engine.run(sql, {"__k_1": table}, {}).to_pydict() == {"a": [1, 2], "n": [1, 2]}


def test_the_next_statement_does_not(engine: DuckEngine) -> None:
    engine.run('SELECT * FROM temp.main."__k_1"', {"__k_1": pa.table({"a": [1]})}, {})
    with pytest.raises(EngineError):
        numbers(engine, 'SELECT * FROM temp.main."__k_1"')


def test_a_statement_that_runs_at_the_same_time_does_not(engine: DuckEngine) -> None:
    _, batches = engine.stream(
        'SELECT * FROM temp.main."__k_1"', {"__k_1": pa.table({"a": range(1000)})}, {}
    )
    with pytest.raises(EngineError):
        numbers(engine, 'SELECT * FROM temp.main."__k_1"')
    assert sum(batch.num_rows for batch in batches) == 1000


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_parquet('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM read_blob('{file}')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "COPY (SELECT 1) TO '{folder}/out.csv'",
        "ATTACH '{folder}/other.db' AS other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 1",
        "SET GLOBAL enable_external_access = true",
        "SET allowed_directories = ['/']",
        "RESET lock_configuration",
        "SELECT * FROM secret_frame",
    ],
)
def test_the_shared_instance_opens_nothing(engine: DuckEngine, folder: Path, sql: str) -> None:
    secret_frame = pa.table({"v": ["SECRET"]})
    assert secret_frame.num_rows == 1
    with pytest.raises(EngineError):
        numbers(engine, sql.format(file=folder / "s.parquet", folder=folder))


def test_a_reader_opens_its_own_folder(engine: DuckEngine, folder: Path) -> None:
    sql = f"SELECT v FROM read_parquet('{folder}/s.parquet')"
    assert numbers(engine, sql, directories=frozenset({str(folder)})) == [1, 2]


@pytest.mark.parametrize(
    "path", ["{root}/bob/s.parquet", "{own}/../bob/s.parquet", "{own}2/s.parquet"]
)
def test_a_reader_opens_no_other_folder(engine: DuckEngine, folder: Path, path: str) -> None:
    for name in ("bob", "alice2"):
        (folder.parent / name).mkdir()
        pq.write_table(pa.table({"v": [666]}), folder.parent / name / "s.parquet")
    file = path.format(root=folder.parent, own=folder)
    with pytest.raises(EngineError):
        numbers(
            engine,
            f"SELECT v FROM read_parquet('{file}')",
            directories=frozenset({str(folder)}),
        )


def test_readers_are_few_and_forgotten_on_request(folder: Path) -> None:
    engine = DuckEngine(IdGenerator(FakeClock(), lambda: 1), threads=1)
    for number in range(10):
        numbers(engine, "SELECT 1", directories=frozenset({str(folder / str(number))}))
    assert len(engine._readers) == 8
    engine.forget(str(folder / "9"))
    assert len(engine._readers) == 7
    engine.forget()
    assert not engine._readers
    engine.close()


def test_a_forgotten_instance_takes_its_temporary_folder_with_it(folder: Path) -> None:
    engine = DuckEngine(IdGenerator(FakeClock(), lambda: 1), threads=1)
    own = frozenset({str(folder)})
    numbers(engine, "SELECT 1", directories=own)
    sql = "SELECT value FROM duckdb_settings() WHERE name = 'temp_directory'"
    (temporary,) = numbers(engine, sql, directories=own)
    assert Path(str(temporary)).is_dir()
    engine.close()
    gc.collect()
    assert not Path(str(temporary)).exists()


def test_a_closed_engine_says_so(folder: Path) -> None:
    engine = DuckEngine(IdGenerator(FakeClock(), lambda: 1), threads=1)
    engine.close()
    with pytest.raises(ClosedError, match=r"^The database is closed$"):
        numbers(engine, "SELECT 1")


def test_the_time_zone_is_utc(engine: DuckEngine) -> None:
    field = engine.run("SELECT TIMESTAMPTZ '2030-01-01 00:00:00+02' AS t", {}, {}).schema.field(0)
    assert field.type.tz in ("UTC", "Etc/UTC")
    assert numbers(engine, "SELECT extract(hour FROM TIMESTAMPTZ '2030-01-01 00:00:00+02')") == [22]


def test_interrupting_ends_a_statement_and_nothing_else(engine: DuckEngine) -> None:
    stop = Cancellation()
    threading.Timer(0.1, stop.cancel).start()
    began = time.perf_counter()
    with pytest.raises(InterruptedStatementError, match=r"^Interrupted; nothing was changed$"):
        numbers(engine, ENDLESS, cancellation=stop)
    assert time.perf_counter() - began < 5
    assert numbers(engine, "SELECT 7") == [7]


def test_a_statement_cancelled_before_it_begins_does_not_run(engine: DuckEngine) -> None:
    stop = Cancellation()
    stop.cancel()
    with pytest.raises(InterruptedStatementError):
        numbers(engine, "SELECT 7", cancellation=stop)


def test_progress_is_known_or_none(engine: DuckEngine) -> None:
    stop = Cancellation()
    assert stop.progress() is None
    assert numbers(engine, "SELECT 7", cancellation=stop) == [7]
    assert stop.progress() is None


def test_bounds_hold_while_fetching(engine: DuckEngine) -> None:
    assert len(numbers(engine, "SELECT * FROM range(1000)", bounds=Bounds(rows=1000))) == 1000
    with pytest.raises(LimitError, match=r"^The result exceeds the limit of 999 rows; use LIMIT$"):
        numbers(engine, "SELECT * FROM range(1000)", bounds=Bounds(rows=999))
    with pytest.raises(LimitError, match=r"^The result exceeds the limit of 1 MiB; use LIMIT$"):
        numbers(engine, "SELECT * FROM range(1000000000)", bounds=Bounds(size_bytes=1 << 20))
    with pytest.raises(LimitError, match=r"^The statement exceeds the limit of 0.1 seconds$"):
        numbers(engine, ENDLESS, bounds=Bounds(time_s=0.1))


def test_a_stream_reads_as_it_is_asked_and_may_be_dropped(engine: DuckEngine) -> None:
    schema, batches = engine.stream("SELECT * FROM range(100000000000)", {}, {}, batch_rows=1000)
    assert schema.names == ["range"]
    assert next(batches).num_rows <= 4096
    del batches
    assert numbers(engine, "SELECT 7") == [7]


def test_parameters_are_values(engine: DuckEngine) -> None:
    rows = engine.run("SELECT $p1 AS a", {}, {"p1": "'; DROP TABLE x; --"}).to_pydict()
    assert rows == {"a": ["'; DROP TABLE x; --"]}


def test_ids_are_distinct_and_grow(engine: DuckEngine) -> None:
    table = engine.run(
        "SELECT __kalam_snowflake_id(1) AS i, __kalam_ulid(1) AS u FROM range(5000)", {}, {}
    )
    ids = table.column("i").to_pylist()
    assert len(set(ids)) == len(set(table.column("u").to_pylist())) == 5000
    (later,) = numbers(engine, "SELECT __kalam_snowflake_id(1)")
    assert max(ids) < later  # type: ignore[operator]


def test_a_join_does_not_choose_the_rows_of_a_limited_subquery(engine: DuckEngine) -> None:
    numbers = pa.table({"id": list(range(24)), "kind": [at % 3 for at in range(24)]})
    kinds = pa.table({"kind": [0, 1]})
    sql = (
        "SELECT s.id FROM (SELECT id, kind FROM numbers ORDER BY (id * 7) % 24 LIMIT 6) s "
        "JOIN kinds USING (kind) ORDER BY s.id"
    )
    first = sorted(range(24), key=lambda at: at * 7 % 24)[:6]
    for _ in range(30):  # the engine's threads race for it
        rows = engine.run(sql, {"numbers": numbers, "kinds": kinds}, {})
        assert rows.column(0).to_pylist() == sorted(at for at in first if at % 3 < 2)
