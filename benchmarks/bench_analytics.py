"""What do analytics on a flushed table cost, when first asked and when asked again?

Sketch: when first asked, Parquet is read by the engine itself, so the time is that of
`read_parquet` on the same files, plus a statement's overhead (1 ms) and, once per file and
process, its digest (10 GB/s: 30 ms for 300 MB). When asked again, columns come decoded from
memory: no zstd, no decoding, which is half of the time or more on filters and groups over a few
columns. The second time pays for decoding. A DuckDB file is compressed lightly and indexed by
blocks: the best case that a user could pick.
Data: the flights 30 times over (10,103,280 rows, 20 columns, 6 segments), all flushed. `first` is
the first statement over its columns after opening, files in the page cache. `again` leaves the
first two out.
Peers: DuckDB's `read_parquet` on the very same files, and a DuckDB file made from them; both with
the engine's own settings, one connection kept open.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from benchmarks import flights
from benchmarks.databases import NAMESPACE, duckdb_file, same_rows, segment_files
from benchmarks.measure import Budget, Figure, Finding, Samples, Scale, interleaved, pooled, timed
from kalamdb_lab.engine.session import Session

QUESTIONS = {
    "filter": "SELECT count(*) AS n, avg(distance) AS d FROM {flights} "
    "WHERE dep_delay > 60 AND origin = 'JFK'",
    "group by a text": "SELECT dest, count(*) AS n, avg(arr_delay) AS d FROM {flights} "
    "GROUP BY dest ORDER BY d DESC NULLS LAST, dest LIMIT 10",
    "group by two numbers": "SELECT month, hour, count(*) AS n, sum(air_time) AS a, "
    "max(dep_delay) AS d FROM {flights} GROUP BY month, hour",
    "join": "SELECT a.name, count(*) AS n, avg(f.dep_delay) AS d FROM {flights} f "
    "JOIN {airlines} a ON a.carrier = f.carrier WHERE f.distance > 500 GROUP BY a.name",
    "window": "SELECT carrier, month, n, rank() OVER (PARTITION BY month ORDER BY n DESC) AS r "
    "FROM (SELECT carrier, month, count(*) AS n FROM {flights} GROUP BY carrier, month) t",
    "window over rows": "SELECT origin, max(gap) AS g FROM (SELECT origin, dep_time - "
    "lag(dep_time) OVER (PARTITION BY origin, year, month, day ORDER BY flight_id) AS gap "
    "FROM {flights} WHERE carrier = 'B6') t GROUP BY origin",
    "count distinct": "SELECT count(DISTINCT tailnum) AS n FROM {flights}",
    "top rows": "SELECT flight_id, carrier, tailnum, dep_delay FROM {flights} "
    "WHERE dep_delay IS NOT NULL ORDER BY dep_delay DESC, flight_id LIMIT 20",
}
OURS, PARQUET, FILE = "ours", "read_parquet", "a DuckDB file"


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Ask each question in a database that was just opened, and then again and again."""
    copies = scale.of(1, 30)
    openings = scale.of(1, 2)
    path = flights.flushed_database(folder, copies)
    sources = {
        OURS: {"flights": "flights", "airlines": "airlines"},
        PARQUET: {name: _read_parquet(path, name) for name in ("flights", "airlines")},
        FILE: {"flights": "flights", "airlines": "airlines"},
    }
    file_path = folder / f"flights-{copies}.duckdb"
    if not file_path.exists():
        _make_file(file_path, sources[PARQUET])

    first: dict[str, list[dict[str, Samples]]] = {name: [] for name in QUESTIONS}
    second: dict[str, list[Samples]] = {name: [] for name in QUESTIONS}
    again: dict[str, dict[str, Samples]] = {}
    for opening in range(openings):
        database = flights.opened(path)
        session = database.session(namespace=NAMESPACE)
        parquet, file = duckdb.connect(), duckdb_file(file_path)
        ask = {OURS: _ours(session), PARQUET: _theirs(parquet), FILE: _theirs(file)}
        for name, question in QUESTIONS.items():
            run = {
                who: _asked(ask[who], question.format(**sources[who]))
                for who in (OURS, PARQUET, FILE)
            }
            answers = {who: timed(one) for who, one in run.items()}
            first[name].append({who: samples for who, (_, samples) in answers.items()})
            for who in (PARQUET, FILE):
                assert same_rows(answers[OURS][0], answers[who][0]), f"{name}: {who} differs"
            second[name].append(timed(run[OURS])[1])
            if opening == openings - 1:
                again[name] = interleaved(run, scale.of(1, 5))
        parquet.close()
        file.close()
        database.close()
    found: list[Finding] = []
    for name in QUESTIONS:
        opened = {who: pooled([one[who] for one in first[name]]) for who in (OURS, PARQUET, FILE)}
        twice = pooled(second[name])
        found += [
            Figure(
                f"{name}: first",
                opened[OURS],
                PARQUET,
                opened[PARQUET],
                Budget("ratio", 1.1),
                f"asked a second time, which decodes: {twice.wall_ms:.0f} ms",
            ),
            Figure(
                f"{name}: again",
                again[name][OURS],
                PARQUET,
                again[name][PARQUET],
                Budget("ratio", 0.5),
            ),
            Figure(
                f"{name}: again", again[name][OURS], FILE, again[name][FILE], Budget("ratio", 1.3)
            ),
        ]
    return found


def _ours(session: Session) -> Callable[[str], pa.Table]:
    return lambda text: session.execute(text).to_arrow()


def _theirs(connection: Any) -> Callable[[str], pa.Table]:
    return lambda text: connection.sql(text).to_arrow_table()


def _asked(ask: Callable[[str], pa.Table], text: str) -> Callable[[], pa.Table]:
    return lambda: ask(text)


def _read_parquet(path: Path, table: str) -> str:
    files = [file for file in segment_files(path) if f"/{table}/" in file]
    return f"read_parquet({files!r})"


def _make_file(file_path: Path, sources: dict[str, str]) -> None:
    connection = duckdb_file(file_path)
    for name, source in sources.items():
        connection.execute(f"CREATE TABLE {name} AS SELECT * EXCLUDE (_seq) FROM {source}")
    connection.close()


def test_all_three_give_the_same_answers(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
