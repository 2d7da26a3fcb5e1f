"""What do COUNT(*), MIN and MAX of a whole table cost, however large it is?

Sketch: the manifest has row counts and bounds of every segment; a snapshot and six segments'
numbers are added up in Python, some 50 us, and one row of Arrow is made. No file is opened, so the
size of the table plays no part.
Data: the flights 30 times over, all flushed.
Peers: a DuckDB file with the same rows, which keeps row counts and zone maps too.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from benchmarks import flights
from benchmarks.databases import NAMESPACE, segment_files
from benchmarks.measure import Budget, Figure, Finding, Scale, interleaved

QUESTIONS = (
    "SELECT count(*) FROM flights",
    "SELECT min(dep_time), max(dep_time) FROM flights",
    "SELECT count(*), min(flight_id), max(flight_id) FROM flights",
)


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Ask for what the manifest knows."""
    copies = scale.of(1, 30)
    path = flights.flushed_database(folder, copies)
    files = [file for file in segment_files(path) if "/flights/" in file]
    found: list[Finding] = []
    with flights.opened(path) as database, duckdb.connect(str(folder / "bounds.duckdb")) as peer:
        session = database.session(namespace=NAMESPACE)
        peer.execute(
            f"CREATE TABLE flights AS SELECT flight_id, dep_time FROM read_parquet({files!r})"
        )
        rows = copies * flights.ROWS
        assert session.execute(QUESTIONS[2]).rows() == [(rows, 1, rows)]
        for question in QUESTIONS:
            assert session.execute(question).rows() == peer.execute(question).fetchall()
            times = interleaved(
                {
                    "ours": lambda question=question: session.execute(question).rows(),
                    "duckdb": lambda question=question: peer.execute(question).fetchall(),
                },
                scale.of(2, 200),
            )
            what = question.removeprefix("SELECT ").removesuffix(" FROM flights")
            found.append(
                Figure(
                    f"{what} of {rows:,} rows",
                    times["ours"],
                    "a DuckDB file",
                    times["duckdb"],
                    Budget("ms", 2),
                )
            )
    return found


def test_the_manifest_knows_what_a_scan_finds(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
