"""Opening a directory: what is made, what is refused, and in which words."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import kalamdb_lab as kalam
from kalamdb_lab.errors import (
    BusyError,
    ClosedError,
    CorruptError,
    InvalidOptionError,
    KalamError,
    LimitError,
    NotFoundError,
    StorageError,
    UserDroppedError,
)


def test_opening_makes_a_directory_that_can_be_opened_again(tmp_path: Path) -> None:
    with kalam.open(tmp_path / "lab.kalam") as db:
        db.session().execute_script("CREATE TABLE t (id INT); INSERT INTO t VALUES (1)")
    with kalam.open(tmp_path / "lab.kalam", create=False) as db:
        assert db.session().execute("SELECT id FROM t").rows() == [(1,)]


def test_a_missing_database_is_named_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match=r"^There is no database at 'lab\.kalam'$"):
        kalam.open("lab.kalam", create=False)
    assert not (tmp_path / "lab.kalam").exists()


def test_a_database_in_a_missing_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "lab.kalam"
    with pytest.raises(StorageError, match="the directory it should lie in does not exist$"):
        kalam.open(path)
    assert not path.parent.exists()


def test_a_file_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary")
    with pytest.raises(StorageError, match="is a file, not a KalamDB Lab database directory$"):
        kalam.open(path)
    assert path.read_text() == "dear diary"


def test_a_directory_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("draft")
    with pytest.raises(StorageError, match="is not a KalamDB Lab database: it holds other files$"):
        kalam.open(tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_catalog_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    kalam.open(path).close()
    (path / "catalog.sqlite").write_bytes(b"not a database at all, but long enough" * 100)
    with pytest.raises(StorageError, match="is not a KalamDB Lab database$"):
        kalam.open(path)


def test_a_damaged_catalog_is_an_error_and_not_a_wrong_answer(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    kalam.open(path).close()
    catalog = path / "catalog.sqlite"
    data = bytearray(catalog.read_bytes())
    data[200:] = b"\xff" * (len(data) - 200)
    catalog.write_bytes(bytes(data))
    with pytest.raises((CorruptError, StorageError)) as caught:
        kalam.open(path)
    assert "sqlite" not in str(caught.value).lower()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    kalam.open(path).close()
    with sqlite3.connect(path / "catalog.sqlite") as other:
        other.execute("PRAGMA user_version=99")
    with pytest.raises(StorageError, match="was written by a newer KalamDB Lab"):
        kalam.open(path)


def test_settings_are_obeyed_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    kalam.open(path).close()
    (path / "kalam.toml").write_text('durability = "normal"\n')
    kalam.open(path).close()
    for text, message in {
        'durability = "maybe"': "durability is 'full' or 'normal'",
        "colour = 3": "has an unknown setting 'colour'",
        "busy_timeout_s = -1": "busy_timeout_s is a number, 0 or more",
        "bulk_rows = 1.5": "bulk_rows is a whole number",
        "durability =": "is not valid TOML",
    }.items():
        (path / "kalam.toml").write_text(text)
        with pytest.raises(InvalidOptionError, match=message):
            kalam.open(path)


def test_two_openings_of_one_directory_share_and_outlive_each_other(tmp_path: Path) -> None:
    first = kalam.open(tmp_path / "lab.kalam")
    second = kalam.open(tmp_path / "lab.kalam")
    session = second.session()
    first.close()
    assert session.execute("SELECT 1").rows() == [(1,)]
    second.close()
    with pytest.raises(ClosedError):
        session.execute("SELECT 1")


def test_sessions_are_of_registered_users_only(tmp_path: Path) -> None:
    with kalam.open(tmp_path / "lab.kalam") as db:
        root = db.session()
        with pytest.raises(NotFoundError, match="^User 'alice' not found$"):
            db.session("alice")
        root.execute("CREATE USER 'alice' INTERNAL ROLE user")
        alice = db.session("alice")
        assert alice.execute("SELECT CURRENT_USER()").rows() == [("alice",)]
        with pytest.raises(NotFoundError, match="^Namespace 'nowhere' not found$"):
            db.session("alice", namespace="nowhere")
        root.execute("DROP USER 'alice'")
        for attempt in (lambda: alice.execute("SELECT 1"), lambda: db.session("alice")):
            with pytest.raises(UserDroppedError, match="^User 'alice' was dropped$"):
                attempt()


def test_a_lock_held_by_another_process_is_busy_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    with kalam.open(path) as db:
        db.session().execute_script("CREATE TABLE t (id INT); INSERT INTO t VALUES (1)")
    (path / "kalam.toml").write_text("busy_timeout_s = 0.2\n")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sqlite3, sys\n"
            "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
            "c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()",
            str(path / "catalog.sqlite"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with kalam.open(path) as db:
        session = db.session()
        with pytest.raises(BusyError, match="^The database is busy; try again$"):
            session.execute("INSERT INTO t VALUES (2)")
        assert session.execute("SELECT id FROM t").rows() == [(1,)]
        holder.stdin.close()
        holder.wait()
        session.execute("INSERT INTO t VALUES (2)")
        assert session.execute("SELECT count(*) FROM t").rows() == [(2,)]


_LIMITED = """
import resource, sys
import pyarrow as pa
import kalamdb_lab as kalam
db = kalam.open(sys.argv[1])
session = db.session()
session.execute("CREATE TABLE t (id BIGINT, body TEXT)")
session.execute("INSERT INTO t VALUES (1, 'kept')")
size = 400_000
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import random
chance = random.Random(1)
wide = pa.table({"id": list(range(60_000)), "body": [str(chance.random()) for _ in range(60_000)]})
for attempt in (
    lambda: session.insert("t", wide),
    lambda: [session.execute("INSERT INTO t VALUES (2, ?)", ["x" * 90_000]) for _ in range(60)],
):
    try:
        attempt()
        print("no error")
    except kalam.KalamError as error:
        print(error.code, error)
print(session.execute("SELECT count(*) FROM t WHERE id <> 2").rows())
"""


def test_a_disk_that_is_full_is_said_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(path)], capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["STORAGE", "STORAGE"], done
    assert all("nothing was changed" in line for line in lines[:2])
    assert lines[2] == "[(1,)]"
    with kalam.open(path) as db:
        rows = db.session().execute("SELECT id, body FROM t WHERE id <> 2").rows()
        assert rows == [(1, "kept")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes to read-only directories all the same")
def test_a_read_only_directory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    kalam.open(path).close()
    path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="read-only|permissions"):
            kalam.open(path)
    finally:
        path.chmod(0o700)


def test_sessions_of_several_threads_run_beside_each_other(tmp_path: Path) -> None:
    faults: list[Exception] = []
    with kalam.open(tmp_path / "lab.kalam") as db:
        db.session().execute("CREATE TABLE t (id BIGINT PRIMARY KEY, who INT)")

        def work(who: int) -> None:
            session = db.session()
            try:
                for number in range(40):
                    session.execute("INSERT INTO t VALUES (?, ?)", [who * 1_000 + number, who])
                    (row,) = session.execute("SELECT count(*) FROM t WHERE who = ?", [who]).rows()
                    assert row == (number + 1,)
            except (KalamError, AssertionError) as error:
                faults.append(error)

        threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not faults
        assert db.session().execute("SELECT count(*) FROM t").rows() == [(160,)]


def test_a_result_beyond_its_bound_is_an_error_and_a_smaller_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    kalam.open(path).close()
    (path / "kalam.toml").write_text("result_bytes = 1_000_000\n")
    with kalam.open(path) as db:
        session = db.session()
        with pytest.raises(LimitError, match="^The result exceeds the limit of"):
            session.execute("SELECT * FROM range(1_000_000)".replace("_", ""))
        assert session.execute("SELECT * FROM range(1000)").row_count == 1_000
