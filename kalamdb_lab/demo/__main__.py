"""The flights that left New York in 2013, loaded, asked, changed, reopened and asked again.

Usage: ``python -m kalamdb_lab.demo [directory] [--data folder]``. Without a directory a temporary
one is used and removed. The exit status is 1 when any two answers that must agree do not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table as Report

import kalamdb_lab as kalam
from kalamdb_lab.demo.questions import QUESTIONS, Row, same_answers
from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.session import Session

NAMESPACE = "air"
ASKING = "UA"
SHARED_KEYS = {"airlines": "carrier", "airports": "faa", "planes": "tailnum", "weather": None}
SQL_TYPES = {
    pa.int32(): "INT",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.string(): "TEXT",
    pa.timestamp("us", "UTC"): "DATETIME",
}
DEPARTURES = """CREATE STREAM TABLE departures (
  id TEXT PRIMARY KEY DEFAULT ULID(), flight_id BIGINT, origin TEXT, dest TEXT, dep_delay INT,
  seen DATETIME DEFAULT NOW()
) WITH (TTL_SECONDS = 3600)"""


@dataclass
class Demo:
    """One run over one new directory; ``faults`` collects what did not agree."""

    directory: Path
    data: Path
    console: Console
    faults: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Load, ask, change, flush, close, reopen and ask again, with a report on the way."""
        flights = pq.read_table(self.data / "flights.parquet")
        with kalam.open(self.directory) as db:
            self._define(db.session())
            self._load(db, flights)
            self._check_isolation(db, flights)
            united = db.session(ASKING, namespace=NAMESPACE)
            self._replay(db, flights)
            self._ask(united, "Ten questions, asked by United")
            self._change(united, flights.filter(pc.field("carrier") == ASKING))
            flush = db.session(namespace=NAMESPACE).execute("STORAGE FLUSH TABLE flights")
            db.jobs.wait(str(flush.rows()[0][0]))
            before = self._ask(united, "The same after the changes and a flush")
            self._expect(before[0][0][1] == 0, "deleted flights are still counted")
        started = time.perf_counter()
        with kalam.open(self.directory) as db:
            self.console.print(f"Reopened in {_ms(started)}.\n")
            united = db.session(ASKING, namespace=NAMESPACE)
            after = self._ask(united, "The same after closing and reopening")
            agree = all(map(same_answers, before, after))
            self._expect(agree, "answers after reopening differ from those before closing")
        self._print_sizes()

    def _expect(self, condition: bool, fault: str) -> None:
        if not condition:
            self.faults.append(fault)

    def _define(self, root: Session) -> None:
        root.execute(f"CREATE NAMESPACE {NAMESPACE}")
        root.execute(f"USE {NAMESPACE}")
        for table in ("flights", *SHARED_KEYS):
            key = "flight_id" if table == "flights" else SHARED_KEYS[table]
            schema = pq.read_schema(self.data / f"{table}.parquet")
            columns = ", ".join(
                f"{f.name} {SQL_TYPES[f.type]}{' PRIMARY KEY' * (f.name == key)}" for f in schema
            )
            kind = "USER" if table == "flights" else "SHARED"
            access = "" if table == "flights" else " WITH (ACCESS_LEVEL = 'PUBLIC')"
            root.execute(f"CREATE {kind} TABLE {table} ({columns}){access}")
        root.execute(DEPARTURES)
        root.close()

    def _load(self, db: Database, flights: pa.Table) -> None:
        report = Report("table", "kind", "rows", "ms", "rows/s", title="Loaded")
        root = db.session(namespace=NAMESPACE)
        for table in SHARED_KEYS:
            rows = pq.read_table(self.data / f"{table}.parquet")
            started = time.perf_counter()
            root.insert(table, rows)
            _loaded(report, table, "SHARED, PUBLIC", rows.num_rows, started)
        carriers = pc.unique(flights["carrier"]).to_pylist()
        parts = {code: flights.filter(pc.field("carrier") == code) for code in carriers}
        started = time.perf_counter()
        for carrier, part in parts.items():
            root.execute(f"CREATE USER '{carrier}' INTERNAL ROLE user")
            db.session(carrier, namespace=NAMESPACE).insert("flights", part)
        _loaded(report, "flights", f"USER, {len(parts)} users", flights.num_rows, started)
        for column in report.columns[2:]:
            column.justify = "right"
        self.console.print(report, "")

    def _check_isolation(self, db: Database, flights: pa.Table) -> None:
        counts = pc.value_counts(flights["carrier"]).to_pylist()
        question = "SELECT carrier, count(*) FROM flights GROUP BY carrier"
        for carrier, count in (tuple(pair.values()) for pair in counts):
            seen = db.session(carrier, namespace=NAMESPACE).execute(question).rows()
            self._expect(seen == [(carrier, count)], f"{carrier} sees other rows than its own")
        seen = db.session(namespace=NAMESPACE).execute(question).rows()
        self._expect(seen == [], "root sees rows of users without asking for them")
        self.console.print("Each airline sees its own flights and no other; root sees none.\n")

    def _replay(self, db: Database, flights: pa.Table) -> None:
        """Insert United's departures of the fourth of July one by one, as they happened."""
        mine = (pc.field("carrier") == ASKING) & (pc.field("month") == 7) & (pc.field("day") == 4)
        departed = flights.filter(mine & pc.field("dep_time").is_valid()).sort_by("dep_time")
        columns = ["flight_id", "origin", "dest", "dep_delay"]
        united = db.session(ASKING, namespace=NAMESPACE)
        started = time.perf_counter()
        for row in departed.select(columns).to_pylist():
            united.execute(
                f"INSERT INTO departures ({', '.join(columns)}) VALUES (?, ?, ?, ?)",
                list(row.values()),
            )
        each_ms = (time.perf_counter() - started) * 1_000 / departed.num_rows
        count = "SELECT count(*) FROM departures"
        self._expect(united.execute(count).rows() == [(departed.num_rows,)], "departures are lost")
        other = db.session("DL", namespace=NAMESPACE).execute(count).rows()
        self._expect(other == [(0,)], "DL sees departures of UA")
        self.console.print(
            f"Replayed {departed.num_rows} departures of the fourth of July into a stream,"
            f" {each_ms:.2f} ms for each durable insert.\n"
        )

    def _ask(self, session: Session, title: str) -> list[list[Row]]:
        report = Report("question", "rows", "SQL", "ibis", "agree", title=title)
        for column in report.columns[1:4]:
            column.justify = "right"
        con = ibis.kalam.connect(str(self.directory), user=ASKING, namespace=NAMESPACE)
        answers = []
        for question in QUESTIONS:
            started = time.perf_counter()
            rows = session.execute(question.sql).rows()
            sql_ms = _ms(started)
            started = time.perf_counter()
            table = question.expression(con).to_pyarrow()
            ibis_ms = _ms(started)
            agree = same_answers(rows, list(zip(*table.to_pydict().values(), strict=True)))
            self._expect(agree, f"SQL and ibis disagree: {question.title}")
            report.add_row(
                question.title, str(len(rows)), sql_ms, ibis_ms, "yes" if agree else "NO"
            )
            answers.append(rows)
        con.disconnect()
        self.console.print(report, "")
        return answers

    def _change(self, united: Session, own: pa.Table) -> None:
        """Update and delete, and compare the counts with those that the source files give."""
        delay = pc.field("arr_delay")
        changes = {
            "UPDATE flights SET arr_delay = 0 WHERE arr_delay BETWEEN 1 AND 4": (
                (delay >= 1) & (delay <= 4)
            ),
            "DELETE FROM flights WHERE dep_time IS NULL": pc.field("dep_time").is_null(),
        }
        for statement, condition in changes.items():
            started = time.perf_counter()
            affected = united.execute(statement).rows_affected
            self.console.print(f"{statement}: {affected} rows in {_ms(started)}")
            expected = own.filter(condition).num_rows
            self._expect(affected == expected, f"{affected} rows, not {expected}: {statement}")
        self.console.print()

    def _print_sizes(self) -> None:
        files = [path for path in self.directory.rglob("*") if path.is_file()]
        segments = sum(path.stat().st_size for path in files if path.suffix == ".parquet")
        total = sum(path.stat().st_size for path in files)
        source = sum(path.stat().st_size for path in self.data.glob("*.parquet"))
        self.console.print(
            f"The database takes {total / 1e6:.1f} MB on disk, {segments / 1e6:.1f} MB of it in"
            f" Parquet segments; the source files take {source / 1e6:.1f} MB."
        )


def _ms(started: float) -> str:
    return f"{(time.perf_counter() - started) * 1_000:,.1f} ms"


def _loaded(report: Report, table: str, kind: str, rows: int, started: float) -> None:
    elapsed_s = time.perf_counter() - started
    per_second = f"{rows / elapsed_s:,.0f}"
    report.add_row(table, kind, f"{rows:,}", f"{elapsed_s * 1_000:,.0f}", per_second)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return 0 when all answers agree, 1 when not, 2 when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m kalamdb_lab.demo", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, help="a new directory to keep")
    parser.add_argument("--data", type=Path, help="the folder of flights.parquet and the others")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    data = options.data or Path(__file__).parents[2] / "datasets" / "flights"
    if not (data / "flights.parquet").is_file():
        console.print(
            "The flights are part of the source checkout, not of the installed package."
            " Run the demo from a checkout, or name their folder with --data."
        )
        return 2
    if options.directory is not None and options.directory.exists():
        console.print(f"{options.directory} exists; name a new directory.")
        return 2
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        demo = Demo(options.directory or Path(temporary) / "air.kalam", data, console)
        demo.run()
    for fault in demo.faults:
        console.print(f"[bold red]Wrong:[/] {fault}")
    verdict = "Something is wrong." if demo.faults else "All answers agree."
    console.print(f"{verdict} {time.perf_counter() - started:.1f} s in all.")
    return int(bool(demo.faults))


if __name__ == "__main__":
    sys.exit(main())
