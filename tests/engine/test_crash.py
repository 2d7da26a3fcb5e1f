"""A process killed at any moment leaves the old state or the new one, never a third."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

import kalamdb_lab as kalam
from kalamdb_lab.testing.jobs import finished

WORKER = Path(__file__).parent / "crash_worker.py"
ROUNDS = 10
BULK = 300


class Acknowledged:
    """What the killed processes said that they had committed."""

    def __init__(self) -> None:
        self.rows: dict[int, int] = {}
        self.deleted: set[int] = set()
        self.maybe_changed: set[int] = set()

    def read(self, line: str) -> None:
        match line.split():
            case ["+", row]:
                self.rows[int(row)] = 0
            case ["*", first, count]:
                self.rows |= dict.fromkeys(range(int(first), int(first) + int(count)), 0)
            case ["=", row]:
                self.rows[int(row)] += 1
            case ["-", row]:
                del self.rows[int(row)]
                self.deleted.add(int(row))


def _killed_run(directory: Path, seed: int, first_id: int, acknowledged: Acknowledged) -> None:
    process = subprocess.Popen(
        [sys.executable, WORKER, *map(str, (directory, seed, first_id, BULK))],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    # Killed after a random time, most often in the middle of something.
    killer = threading.Timer(random.Random(seed).uniform(0.05, 0.8), process.kill)
    killer.start()
    for line in process.stdout:
        if line.endswith("\n"):
            acknowledged.read(line)
    process.wait()
    killer.join()
    assert process.returncode == -9, "the worker ended by itself"


@pytest.mark.slow
def test_every_acknowledged_row_is_there_exactly_once(tmp_path: Path) -> None:
    directory = tmp_path / "lab.kalam"
    directory.mkdir()
    # What a killed process wrote is there whether or not it reached the disk.
    (directory / "kalam.toml").write_text(f'durability = "normal"\nbulk_rows = {BULK}\n')
    with kalam.open(directory) as db:
        root = db.session()
        root.execute_script(
            "CREATE NAMESPACE lab; USE lab; CREATE USER 'alice' INTERNAL ROLE service;"
            "CREATE USER TABLE events (id BIGINT PRIMARY KEY, body TEXT, n INT)"
        )
    acknowledged = Acknowledged()
    for seed in range(ROUNDS):
        first_id = seed * 10_000_000
        _killed_run(directory, seed, first_id, acknowledged)
        with kalam.open(directory) as db:
            alice = db.session("alice", namespace="lab")
            stored = alice.execute("SELECT id, body, n FROM events").rows()
            (counted,) = alice.execute("SELECT count(*) FROM events").rows()
        found = {row: n for row, _, n in stored}
        assert counted == (len(stored),)
        assert max(Counter(row for row, _, _ in stored).values(), default=1) == 1
        assert all(body == f"e{row}" for row, body, _ in stored)
        lost = acknowledged.rows.keys() - found.keys()
        # One statement may have been committed and not yet told: a delete, an update, an insert.
        assert len(lost) <= 1
        extra = found.keys() - acknowledged.rows.keys()
        assert len(extra) in (0, 1, BULK)
        changed = {
            row
            for row in found.keys() & acknowledged.rows.keys()
            if found[row] != acknowledged.rows[row]
        }
        assert len(changed) <= 1
        assert all(found[row] == acknowledged.rows[row] + 1 for row in changed)
        assert bool(lost) + bool(extra) + bool(changed) <= 1
        assert not acknowledged.deleted & found.keys()
        # What is found now is what must be found from now on.
        acknowledged.rows = found


def test_files_that_a_crash_left_are_never_read(tmp_path: Path) -> None:
    directory = tmp_path / "lab.kalam"
    with kalam.open(directory) as db:
        root = db.session()
        root.execute("CREATE TABLE t (id BIGINT PRIMARY KEY)")
        root.execute("INSERT INTO t VALUES (1)")
        finished(root, "STORAGE FLUSH TABLE t")
        (segment,) = (directory / "storage" / "default" / "t").glob("*.parquet")
        orphan = segment.with_name("s-999999.parquet")
        orphan.write_bytes(segment.read_bytes())
        segment.with_name("s-000777.parquet.tmp").write_bytes(b"half")
    with kalam.open(directory) as db:
        assert db.session().execute("SELECT * FROM t").rows() == [(1,)]
