"""Two processes on one directory: one writes in a loop while the other reads and writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import kalamdb_lab as kalam
from kalamdb_lab.errors import AlreadyExistsError, NotFoundError

WRITER = """
import sys
import kalamdb_lab as kalam
from kalamdb_lab.testing.jobs import finished
session = kalam.open(sys.argv[1]).session("alice", namespace="lab")
print("ready", flush=True)
for row in range(int(sys.argv[2])):
    session.execute("INSERT INTO events VALUES (?, 'writer')", [row])
    if row % 20 == 13:
        finished(session, "STORAGE FLUSH TABLE events")
    if row % 45 == 37:
        finished(session, "STORAGE COMPACT TABLE events")
    print(row, flush=True)
"""

OTHER = """
import sys
import kalamdb_lab as kalam
from kalamdb_lab.testing.jobs import finished
session = kalam.open(sys.argv[1]).session()
for line in sys.stdin:
    try:
        print(finished(session, line).rows(), flush=True)
    except kalam.KalamError as error:
        print(error.code, flush=True)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "lab.kalam"
    path.mkdir()
    (path / "kalam.toml").write_text('durability = "normal"')
    with kalam.open(path) as db:
        db.session().execute_script(
            "CREATE NAMESPACE lab; USE lab; CREATE USER 'alice' INTERNAL ROLE service;"
            "CREATE USER TABLE events (id BIGINT PRIMARY KEY, who TEXT)"
        )
    return path


def _python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_what_one_process_commits_the_other_sees_at_once(directory: Path) -> None:
    count = 100
    with kalam.open(directory) as db:
        session = db.session("alice", namespace="lab")
        process = _python(WRITER, directory, count)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        seen = 0
        for told, line in enumerate(process.stdout, start=1):
            # Told means committed: a read that begins now must show it.
            (row,) = session.execute("SELECT id FROM events WHERE id = ?", [int(line)]).rows()
            assert row == (int(line),)
            ((rows, distinct),) = session.execute(
                "SELECT count(*), count(DISTINCT id) FROM events WHERE who = 'writer' AND id >= 0"
            ).rows()
            assert rows == distinct >= max(told, seen)
            seen = rows
            session.execute("INSERT INTO events VALUES (?, 'reader')", [-told])
        assert process.wait() == 0
        assert session.execute(
            "SELECT who, count(*) FROM events GROUP BY who ORDER BY 1"
        ).rows() == [
            ("reader", count),
            ("writer", count),
        ]


def test_definitions_of_another_process_hold_at_once(directory: Path) -> None:
    process = _python(OTHER, directory)
    assert process.stdin is not None
    assert process.stdout is not None

    def there(sql: str) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(sql + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    with kalam.open(directory) as db:
        here = db.session(namespace="lab")
        alice = db.session("alice", namespace="lab")
        there("CREATE SHARED TABLE lab.notes (id INT PRIMARY KEY) WITH (ACCESS_LEVEL = 'PUBLIC')")
        here.execute("INSERT INTO notes VALUES (1)")
        with pytest.raises(AlreadyExistsError):
            here.execute("CREATE TABLE notes (id INT)")
        there("ALTER TABLE lab.notes ADD COLUMN body TEXT DEFAULT 'none'")
        assert here.execute("SELECT * FROM notes").rows() == [(1, "none")]
        here.execute("INSERT INTO notes VALUES (2, 'two')")
        assert there("SELECT body FROM lab.notes ORDER BY id") == "[('none',), ('two',)]"
        assert there("INSERT INTO lab.notes VALUES (2, 'again')") == "DUPLICATE_KEY"
        there("STORAGE FLUSH TABLE lab.notes")
        assert alice.execute("SELECT count(*) FROM notes").rows() == [(2,)]
        there("DROP TABLE lab.notes")
        with pytest.raises(NotFoundError):
            here.execute("SELECT * FROM notes")
        there("DROP USER 'alice'")
        with pytest.raises(kalam.KalamError, match="^User 'alice' was dropped$"):
            alice.execute("SELECT 1")
    process.stdin.close()
    assert process.wait() == 0
