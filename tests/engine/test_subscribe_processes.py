"""Subscriptions and writers in two processes on one directory."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kalamdb_lab as kalam
from kalamdb_lab.engine.session import Session
from kalamdb_lab.live.events import LiveEvent
from kalamdb_lab.live.subscription import Subscription

SOON = 30

OTHER = """
import sys
import kalamdb_lab as kalam
db = kalam.open(sys.argv[1])
session = db.session("mia", namespace="lab")
root = db.session(namespace="lab")
print("ready", flush=True)
for line in sys.stdin:
    try:
        if line.startswith("SUBSCRIBE"):
            subscription = session.subscribe(line)
            print(subscription.next(30)["type"], subscription.live_id, flush=True)
        elif line.startswith("next"):
            event = subscription.next(30)
            print(event and event["type"], event and event.get("reason"), flush=True)
        elif line.startswith("root "):
            print(root.execute(line[5:]).rows(), flush=True)
        elif line.startswith("wait "):
            (job_id, *_), = root.execute(line[5:]).rows()
            print(db.jobs.wait(job_id, timeout=30).status.value, flush=True)
        else:
            print(session.execute(line).rows(), flush=True)
    except kalam.KalamError as error:
        print(error.code, flush=True)
"""


class Other:
    """Another process with the database open, that does what it is told."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def __call__(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "lab.kalam"
    path.mkdir()
    (path / "kalam.toml").write_text('durability = "normal"\nbulk_rows = 6\n')
    with kalam.open(path) as db:
        db.session().execute_script(
            "CREATE NAMESPACE lab; USE lab; CREATE USER 'mia' INTERNAL ROLE user;"
            "CREATE USER 'tom' INTERNAL ROLE user;"
            "CREATE USER TABLE t (id INT PRIMARY KEY, k TEXT)"
        )
    return path


@pytest.fixture
def there(directory: Path) -> Iterator[Other]:
    other = Other(directory)
    yield other
    other.process.kill()
    other.process.wait()
    for pipe in (other.process.stdin, other.process.stdout):
        assert pipe is not None
        pipe.close()


@pytest.fixture
def mia(directory: Path) -> Iterator[Session]:
    with kalam.open(directory) as db:
        yield db.session("mia", namespace="lab")


def nexts(subscription: Subscription, count: int) -> list[LiveEvent]:
    events = [subscription.next(SOON) for _ in range(count)]
    assert None not in events
    return [event for event in events if event is not None]


@pytest.mark.slow
def test_what_another_process_commits_is_told_in_order_with_old_values(
    mia: Session, there: Other
) -> None:
    with mia.subscribe("SUBSCRIBE TO t WHERE k = 'a'") as subscription:
        assert nexts(subscription, 1)[0].rows == []
        there("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
        assert nexts(subscription, 1)[0].rows[0]["id"] == 1
        assert there("wait STORAGE FLUSH TABLE lab.t") == "completed"
        there("UPDATE t SET k = 'a' WHERE id = 2")
        there("UPDATE t SET k = 'b' WHERE id = 1")
        assert there("wait STORAGE FLUSH TABLE lab.t") == "completed"
        assert there("wait STORAGE COMPACT TABLE lab.t") == "completed"
        there("DELETE FROM t WHERE id > 0")
        events = nexts(subscription, 3)
        assert [event.kind for event in events] == ["insert", "delete", "delete"]
        assert [row["id"] for event in events[1:] for row in event.old_rows] == [1, 2]
        there("root EXECUTE AS USER 'tom' (INSERT INTO t VALUES (9, 'a'))")
        there("root EXECUTE AS USER 'mia' (INSERT INTO t VALUES (3, 'a'))")
        assert nexts(subscription, 1)[0].rows[0]["id"] == 3


@pytest.mark.slow
def test_two_writers_are_heard_once_in_the_order_of_their_commits(
    mia: Session, there: Other
) -> None:
    count = 100
    with mia.subscribe("SUBSCRIBE TO t") as subscription:
        nexts(subscription, 1)

        def write() -> None:
            for at in range(count):
                there(f"INSERT INTO t VALUES ({at}, 'there')")

        other = threading.Thread(target=write)
        other.start()
        for at in range(count):
            mia.execute("INSERT INTO t VALUES (?, 'here')", [count + at])
        other.join()
        told = [event.rows[0]["id"] for event in nexts(subscription, 2 * count)]
        assert told == [row[0] for row in mia.execute("SELECT id FROM t ORDER BY _seq").rows()]
        assert subscription.next(0) is None


@pytest.mark.slow
def test_definitions_and_rights_of_another_process_hold(mia: Session, there: Other) -> None:
    there("root CREATE TABLE shared (id INT PRIMARY KEY) WITH (ACCESS_LEVEL = 'PUBLIC')")
    first, second = mia.subscribe("SUBSCRIBE TO shared"), mia.subscribe("SUBSCRIBE TO t")
    nexts(first, 1)
    nexts(second, 1)
    there("root ALTER TABLE shared SET ACCESS LEVEL private")
    there("root INSERT INTO shared VALUES (1)")
    assert [event.reason for event in first] == ["access revoked"]
    there("root DROP TABLE t")
    assert [event.reason for event in second] == ["table dropped"]


@pytest.mark.slow
def test_one_is_killed_from_another_process(mia: Session, there: Other, directory: Path) -> None:
    kind, live_id = there("SUBSCRIBE TO t").split()
    assert kind == "initial"
    with kalam.open(directory) as db:
        assert [row[0] for row in mia.execute("SHOW LIVE QUERIES").rows()] == [live_id]
        with pytest.raises(kalam.KalamError, match=f"^Live query '{live_id}' not found$"):
            db.session("tom").execute(f"KILL LIVE QUERY '{live_id}'")
        mia.execute(f"KILL LIVE QUERY '{live_id}'")
        assert there("next") == "closed killed"
        assert there("next") == "None None"
        assert mia.execute("SHOW LIVE QUERIES").rows() == []


@pytest.mark.slow
def test_none_of_a_killed_process_is_listed(mia: Session, there: Other, directory: Path) -> None:
    there("SUBSCRIBE TO t")
    assert len(mia.execute("SHOW LIVE QUERIES").rows()) == 1
    there.process.kill()
    there.process.wait()
    assert mia.execute("SHOW LIVE QUERIES").rows() == []
    with kalam.open(directory) as db:
        listed: list[Any] = db.session().execute("SELECT * FROM system.live_queries").rows()
        assert listed == []
