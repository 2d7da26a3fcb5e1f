"""Row events folded into rows, and rows that are read again when something was committed."""

from __future__ import annotations

import datetime
import threading
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import DuplicateKeyError, PermissionDeniedError
from kalamdb_lab.live.difference import Difference
from kalamdb_lab.widgets.sources import FoldedEvents, PolledRows

STATEMENTS = st.lists(
    st.one_of(
        st.builds(
            "INSERT INTO folded VALUES ({0}, {1})".format, st.integers(1, 6), st.integers(0, 9)
        ),
        st.builds(
            "UPDATE folded SET v = {1} WHERE k >= {0}".format, st.integers(1, 6), st.integers(0, 9)
        ),
        st.builds("DELETE FROM folded WHERE k = {0}".format, st.integers(1, 6)),
        st.just("DELETE FROM folded WHERE k > 0"),
    ),
    max_size=12,
)


class Follower:
    """Keeps a table up to date by differences alone."""

    def __init__(self, source: FoldedEvents | PolledRows) -> None:
        self.rows: list[dict[str, Any]] = []
        self.changed = threading.Condition()
        self.stop = source.watch(self.take)

    def take(self, change: Difference) -> None:
        with self.changed:
            kept = [row for row in self.rows if row not in change.deleted.to_pylist()]
            assert len(kept) + change.deleted.num_rows == len(self.rows)
            self.rows = change.table.to_pylist()
            assert len(kept) + len(change.inserted) == len(self.rows)
            self.changed.notify_all()

    def wait(self, rows: list[dict[str, Any]]) -> None:
        def same() -> bool:
            return sorted(self.rows, key=repr) == sorted(rows, key=repr)

        with self.changed:
            assert self.changed.wait_for(same, 10), (self.rows, rows)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=STATEMENTS, after=STATEMENTS)
def test_folded_events_are_the_rows_of_the_table(
    root: Session, before: list[str], after: list[str]
) -> None:
    root.execute("DROP TABLE IF EXISTS folded")
    root.execute("CREATE SHARED TABLE folded (k BIGINT PRIMARY KEY, v INT)")

    def run(statements: list[str]) -> None:
        for statement in statements:
            with suppress(DuplicateKeyError):
                root.execute(statement)

    run(before)
    source = FoldedEvents(root.subscribe("SELECT k, v FROM folded"), throttle_s=0)
    try:
        follower = Follower(source)
        run(after)
        wanted = root.execute("SELECT k, v, _seq FROM folded").to_arrow().to_pylist()
        follower.wait(wanted)
        assert source.key == ("k",)
    finally:
        source.close()


def test_values_of_all_types_come_through_events(root: Session) -> None:
    root.execute(
        "CREATE SHARED TABLE kinds (id BIGINT PRIMARY KEY, u UUID, d DECIMAL(10, 2), t TIMESTAMP,"
        " b BYTES, j JSON, e EMBEDDING(2))"
    )
    source = FoldedEvents(root.subscribe("SUBSCRIBE TO kinds"))
    root.execute(
        "INSERT INTO kinds VALUES (1, '6f1e1c9e-0d0b-4a6e-9a51-0d2f4a1b2c3d', 1.50,"
        " TIMESTAMP '2013-01-01 05:00:00', X'0AFF', '{\"a\": 1}', [1, 2]),"
        " (2, NULL, NULL, NULL, NULL, NULL, NULL)"
    )
    assert source.wait(rows=2, timeout=40)
    first, second = source.snapshot().to_pylist()
    assert first["d"] == Decimal("1.50")
    assert first["t"] == datetime.datetime(2013, 1, 1, 5)
    assert first["b"] == b"\x0a\xff"
    assert second["e"] is None
    source.close()


def test_a_changed_row_stays_where_it_stood(root: Session) -> None:
    source = FoldedEvents(root.subscribe("SELECT id, delay FROM departures"), throttle_s=0)
    assert source.wait(rows=3, timeout=40)
    follower = Follower(source)
    root.execute("UPDATE departures SET delay = 7 WHERE id = 1")
    root.execute("INSERT INTO departures VALUES (0, 'Lima', 1)")
    follower.wait(root.execute("SELECT id, delay, _seq FROM departures").to_arrow().to_pylist())
    assert source.snapshot().column("id").to_pylist() == [1, 2, 3, 0]
    source.close()
    assert source.ended == "closed"
    assert not source.wait(timeout=40)


def test_rows_are_read_again_only_when_something_was_committed(db: Database, root: Session) -> None:
    count = 0

    def read() -> Any:
        nonlocal count
        count += 1
        return root.execute("SELECT id, dest FROM departures").to_arrow()

    source = PolledRows(root, read, ("id",), every_s=0.01)
    follower = Follower(source)
    assert not source.wait(timeout=0.2)
    assert count == 1
    with db.session(namespace="port") as other:
        other.execute("DELETE FROM departures WHERE id = 2")
    follower.wait([{"id": 1, "dest": "Rome"}, {"id": 3, "dest": "Oslo"}])
    source.close()


def test_polling_ends_with_the_right_to_read_and_with_the_session(db: Database) -> None:
    with db.session() as root, db.session("sam") as sam:

        def read() -> Any:
            return sam.execute("SHOW JOBS").to_arrow()

        source = PolledRows(sam, read, ("job_id",), every_s=0.01)
        root.execute("ALTER USER 'sam' SET ROLE user")
        assert not source.wait(timeout=40)
        assert source.ended is not None
        assert "cannot execute SHOW JOBS" in source.ended
        with pytest.raises(PermissionDeniedError):
            PolledRows(sam, read, ("job_id",))
    with db.session() as session:
        source = PolledRows(session, lambda: session.execute("SHOW JOBS").to_arrow(), ("job_id",))
    assert not source.wait(timeout=40)
    assert source.ended == "session ended"
