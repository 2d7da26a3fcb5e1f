"""Vectors are whole or not there, for all who read while writers are killed.

``KALAM_CRASH_ROUNDS=200 pytest tests/engine/test_vector_crash.py`` kills that often.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from vector_worker import vectors_of, wrong_rows

import kalamdb_lab as kalam
from kalamdb_lab.engine.check import check_database

WORKER = Path(__file__).parent / "vector_worker.py"
ROUNDS = int(os.environ.get("KALAM_CRASH_ROUNDS", "15"))
READERS = 2
CHECKED_EVERY = 20
EMPTIED_EVERY = 10


def ended(process: subprocess.Popen[str]) -> tuple[list[str], str]:
    """The lines that a process told, each whole, and its complaints."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.close()
    with process:
        lines = [line for line in process.stdout if line.endswith("\n")]
        return lines, process.stderr.read()


def started(*arguments: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, WORKER, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise AssertionError(ended(process)[1])
    return process


def told_until_killed(writers: subprocess.Popen[str], seed: int, first_id: int) -> list[str]:
    """Begin a writer and kill it after some of its work, most often in the middle of more."""
    assert writers.stdin is not None
    assert writers.stdout is not None
    print(seed, first_id, file=writers.stdin, flush=True)
    (state, pid) = writers.stdout.readline().split()
    assert state == "ready"
    chance = random.Random(seed)
    steps, delay_s = chance.randrange(12), chance.uniform(0, 0.08)
    killer = threading.Timer(delay_s, os.kill, (int(pid), signal.SIGKILL))
    lines: list[str] = []
    while True:
        if len(lines) == steps:
            killer.start()
        line = writers.stdout.readline()
        if line.startswith("ended"):
            break
        lines.append(line)
    if line != "ended -9\n":
        raise AssertionError(ended(writers)[1])  # by itself
    killer.join()
    return lines


class Ids:
    """What must be there, as the killed processes told it."""

    def __init__(self) -> None:
        self.there: set[int] = set()

    def read(self, line: str) -> None:
        match line.split():
            case ["*", first, count]:
                self.there |= set(range(int(first), int(first) + int(count)))
            case ["-", first, end]:
                self.there -= set(range(int(first), int(end)))


@pytest.mark.slow
@pytest.mark.timeout(120 + 15 * ROUNDS)
def test_no_reader_ever_sees_a_torn_vector_while_writers_are_killed(tmp_path: Path) -> None:
    directory = tmp_path / "lab.kalam"
    directory.mkdir()
    # What a killed process wrote is there whether or not it reached the disk.
    (directory / "kalam.toml").write_text('durability = "normal"\nbulk_rows = 300\n')
    with kalam.open(directory) as db:
        db.session().execute_script(
            "CREATE NAMESPACE lab; USE lab;"
            "CREATE TABLE docs (id BIGINT PRIMARY KEY, v EMBEDDING(16))"
        )
    readers = [started("read", directory) for _ in range(READERS)]
    writers = started("write", directory)
    acknowledged = Ids()
    coded = 0
    for seed in range(ROUNDS):
        for line in told_until_killed(writers, seed, seed * 1_000_000):
            acknowledged.read(line)
        with kalam.open(directory) as db:
            session = db.session(namespace="lab")
            _, wrong = wrong_rows(session)
            found = set(session.execute("SELECT id FROM docs").to_arrow()["id"].to_pylist())
            if seed % EMPTIED_EVERY == EMPTIED_EVERY - 1:
                session.execute("DELETE FROM docs WHERE true")
        assert not wrong
        # One statement may have been committed and not yet told: an insert or a delete.
        lost, extra = acknowledged.there - found, found - acknowledged.there
        assert not (lost and extra)
        assert len(lost) <= 500
        assert len(extra) <= 1_000
        assert {row // 1_000_000 for row in lost | extra} <= {seed}
        acknowledged.there = set() if seed % EMPTIED_EVERY == EMPTIED_EVERY - 1 else found
        if seed % CHECKED_EVERY == CHECKED_EVERY - 1 or seed == ROUNDS - 1:
            report = check_database(directory)
            assert report.is_sound, report
            coded += len([*(directory / "storage" / "lab" / "docs").glob("*.vectors/2/q8")])
    assert ended(writers) == ([], "")
    for reader in readers:
        (*faults, told), errors = ended(reader)
        assert reader.returncode == 0, errors
        assert not faults
        assert int(told.split()[-1]) > 100 * ROUNDS
    assert coded


def test_a_torn_row_would_be_told(tmp_path: Path) -> None:
    with kalam.open(tmp_path / "lab.kalam") as db:
        root = db.session()
        root.execute_script(
            "CREATE NAMESPACE lab; USE lab;"
            "CREATE TABLE docs (id BIGINT PRIMARY KEY, v EMBEDDING(16))"
        )
        ids = np.arange(5)
        vectors = vectors_of(ids)
        vectors[3, 15] = 0
        root.insert("docs", {"id": ids, "v": vectors})
        assert wrong_rows(root) == (5, ["torn 3"])
