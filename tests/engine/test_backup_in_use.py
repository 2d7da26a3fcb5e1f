"""Backups while others write, and processes that are killed while they back up or restore."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import kalamdb_lab as kalam
from kalamdb_lab.engine.check import check_database
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import NotFoundError
from kalamdb_lab.testing.jobs import finished

WRITER = """
import sys
import kalamdb_lab as kalam
from kalamdb_lab.testing.jobs import finished
db = kalam.open(sys.argv[1])
session = db.session("alice", namespace="lab")
n = 0
while True:
    n += 1
    session.execute("INSERT INTO first VALUES (?, 'new')", [n])
    session.execute("INSERT INTO second VALUES (?, 'new')", [n])
    session.execute("UPDATE first SET body = 'old' WHERE id = ?", [n])
    if n % 4 == 0:
        session.execute("DELETE FROM second WHERE id = ?", [n])
    if n % 5 == 3:
        finished(session, "STORAGE FLUSH TABLE first")
    if n % 8 == 4:
        finished(session, "STORAGE FLUSH TABLE second")
    if n % 12 == 5:
        finished(session, "STORAGE COMPACT ALL IN lab")
    print(n, flush=True)
"""
BACKER = """
import sys
import kalamdb_lab as kalam
root = kalam.open(sys.argv[1]).session()
print("ready", flush=True)
for n in range(1000):
    root.execute(f"BACKUP DATABASE lab TO '../{sys.argv[2]}-{n}'")
    print(n, flush=True)
"""
RESTORER = """
import sys
import kalamdb_lab as kalam
root = kalam.open(sys.argv[1]).session()
print("ready", flush=True)
while True:
    root.execute("RESTORE DATABASE IF NOT EXISTS lab FROM '../whole'")
    print("+", flush=True)
    root.execute("DROP NAMESPACE lab CASCADE")
    print("-", flush=True)
"""


def new_database(path: Path) -> None:
    path.mkdir()
    # Files of merged segments go at once, unless somebody holds them.
    (path / "kalam.toml").write_text('durability = "normal"\nretired_segment_grace_s = 0\n')
    with kalam.open(path) as db:
        db.session().execute_script(
            "CREATE USER 'alice' INTERNAL ROLE service; CREATE NAMESPACE lab; USE lab;"
            "CREATE USER TABLE first (id BIGINT PRIMARY KEY, body TEXT);"
            "CREATE USER TABLE second (id BIGINT PRIMARY KEY, body TEXT)"
        )


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Path]:
    """A database that another process writes to all the time."""
    path = tmp_path / "lab.kalam"
    new_database(path)
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        for _ in range(18):
            assert process.stdout.readline()
        # From here on nobody reads what it says: it goes on for as long as the pipe has room.
        yield path
        assert process.poll() is None, "the writer ended by itself"
    finally:
        process.kill()
        process.communicate()


def assert_is_one_moment(alice: Session) -> int:
    """Both tables are as they were between two statements of the writer; return how far it was."""
    first = dict(alice.execute("SELECT id, body FROM first").rows())
    second = {row for (row,) in alice.execute("SELECT id FROM second")}
    deleted = {row for (row,) in alice.execute("SELECT id FROM second WHERE _deleted")}
    last = max(first)
    assert set(first) == set(range(1, last + 1))
    assert {row for row, body in first.items() if body != "old"} <= {last}
    everything = set(range(1, last + 1))
    done = {row for row in everything if row % 4 == 0 and row != last}
    assert done <= deleted <= done | ({last} if last % 4 == 0 else set())
    assert everything - deleted - {last} <= second <= everything - deleted
    if first[last] == "old" or last in deleted:
        assert last in second | deleted
    return last


@pytest.mark.slow
def test_a_backup_is_one_moment_while_others_write_flush_and_compact(
    written: Path, tmp_path: Path
) -> None:
    with kalam.open(written) as db:
        for number in range(5):
            db.session().execute(f"BACKUP DATABASE lab TO '../b-{number}'")
    reached = []
    with kalam.open(tmp_path / "other.kalam") as db:
        root = db.session()
        root.execute("CREATE USER 'alice' INTERNAL ROLE service")
        for number in range(5):
            root.execute(f"RESTORE DATABASE lab FROM '../b-{number}'")
            reached.append(assert_is_one_moment(db.session("alice", namespace="lab")))
            root.execute("DROP NAMESPACE lab CASCADE")
    assert reached == sorted(reached)
    assert reached[0] < reached[-1], "it was written to meanwhile"


@pytest.mark.slow
def test_a_copy_of_the_database_is_one_moment_while_others_write(
    written: Path, tmp_path: Path
) -> None:
    reached = []
    with kalam.open(written) as db:
        reports = [db.backup(tmp_path / f"copy-{number}") for number in range(3)]
    for number, report in enumerate(reports):
        path = tmp_path / f"copy-{number}"
        assert check_database(path).is_sound
        assert check_database(path).orphans == 0
        with kalam.open(path) as db:
            alice = db.session("alice", namespace="lab")
            reached.append(assert_is_one_moment(alice))
            ((rows,),) = alice.execute(
                "SELECT (SELECT count(*) FROM first) + (SELECT count(*) FROM second)"
            ).rows()
            assert report.rows == rows
            alice.execute("INSERT INTO first VALUES (-1, 'mine')")
    assert reached == sorted(reached)
    assert reached[0] < reached[-1], "it was written to meanwhile"


def killed(code: str, seed: int, *arguments: object) -> list[str]:
    """Run until a random moment, then kill -9; return what it said."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    killer = threading.Timer(random.Random(seed).uniform(0.02, 0.5), process.kill)
    killer.start()
    said = process.stdout.read().split()
    process.wait()
    killer.join()
    assert process.returncode == -9, "the worker ended by itself"
    return said


@pytest.fixture(scope="module")
def made_whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "lab.kalam"
    new_database(path)
    with kalam.open(path) as db:
        alice, root = db.session("alice", namespace="lab"), db.session(namespace="lab")
        for start in range(0, 2000, 500):
            for table in ("first", "second"):
                ids = list(range(start, start + 500))
                alice.insert(table, {"id": ids, "body": [f"b{n}" for n in ids]})
            finished(root, "STORAGE FLUSH ALL IN lab")
        alice.execute("DELETE FROM first WHERE id % 10 = 0")
        root.execute("BACKUP DATABASE lab TO '../whole'")
    return path.parent


@pytest.fixture
def whole(made_whole: Path, tmp_path: Path) -> Path:
    """A database with 2,000 rows in segments and some hot ones, and a backup called ``whole``."""
    shutil.copytree(made_whole, tmp_path, dirs_exist_ok=True)
    return tmp_path / "lab.kalam"


def assert_is_whole(path: Path) -> None:
    with kalam.open(path) as db:
        alice = db.session("alice", namespace="lab")
        assert alice.execute("SELECT count(*), sum(id) FROM first").rows() == [(1800, 1_800_000)]
        assert alice.execute("SELECT count(*) FROM first WHERE _deleted").rows() == [(200,)]
        assert alice.execute("SELECT count(*), sum(id) FROM second").rows() == [(2000, 1_999_000)]


@pytest.mark.slow
def test_a_backup_that_was_killed_is_whole_or_none(whole: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.kalam"
    with kalam.open(other) as db:
        db.session().execute("CREATE USER 'alice' INTERNAL ROLE service")
    was_hit = False
    for seed in range(2):
        told = killed(BACKER, seed, whole, f"b{seed}")
        made = sorted(tmp_path.glob(f"b{seed}-*"), key=lambda item: int(item.name[3:]))
        assert len(told) <= len(made) <= len(told) + 1
        for number, directory in list(enumerate(made))[-2:]:
            with kalam.open(other) as db:
                root = db.session()
                if (directory / "backup.json").exists():
                    root.execute(f"RESTORE DATABASE lab FROM '../{directory.name}'")
                else:
                    assert number == len(told), "it was said to be done"
                    was_hit = True
                    with pytest.raises(NotFoundError, match="^Backup not found at "):
                        root.execute(f"RESTORE DATABASE lab FROM '../{directory.name}'")
                    continue
            assert_is_whole(other)
            with kalam.open(other) as db:
                db.session().execute("DROP NAMESPACE lab CASCADE")
    with kalam.open(whole) as db:
        root = db.session()
        root.execute("BACKUP DATABASE lab TO '../last'")
        said = {row[3] for row in root.execute("SHOW BACKUPS FOR DATABASE lab")}
        assert {"completed"} <= said <= {"completed", "failed"}, "none is left running"
        assert "failed" in said or not was_hit
    assert check_database(whole).is_sound


@pytest.mark.slow
def test_a_restore_that_was_killed_left_all_or_nothing(whole: Path) -> None:
    for seed in range(2):
        said = killed(RESTORER, seed, whole)
        with kalam.open(whole) as db:
            namespaces = [row[0] for row in db.session().execute("SHOW NAMESPACES")]
        is_there = "lab" in namespaces
        if said and is_there:
            assert said[-1] == "+" or len(said) % 2 == 0
        if is_there:
            assert_is_whole(whole)
        assert check_database(whole).is_sound
    with kalam.open(whole) as db:
        db.session().execute("RESTORE DATABASE IF NOT EXISTS lab FROM '../whole'")
    assert_is_whole(whole)
