"""Whatever was done to a table, a restore shows the same; stopped anywhere, it shows nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kalamdb_lab as kalam
from kalamdb_lab import FakeClock
from kalamdb_lab.catalog.keeper import SystemKeeper
from kalamdb_lab.engine.database import Database
from kalamdb_lab.errors import KalamError
from kalamdb_lab.segments.backup_file import new_backup, read_backup
from kalamdb_lab.tables.backup import NamespaceBackup, NamespaceRestore
from kalamdb_lab.testing.jobs import finished

USERS = ("ann", "ben")
_numbers = itertools.count()

USER = st.sampled_from(USERS)
ID = st.integers(0, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(USER, st.just("INSERT INTO t (id, body) VALUES (?, 'new')"), ID),
        st.tuples(USER, st.just("UPDATE t SET body = body || '+' WHERE id = ?"), ID),
        st.tuples(USER, st.just("DELETE FROM t WHERE id = ?"), ID),
        st.tuples(st.just("root"), st.just("STORAGE FLUSH TABLE t"), st.none()),
        st.tuples(st.just("root"), st.just("STORAGE COMPACT TABLE t"), st.none()),
        st.tuples(
            st.just("root"), st.just("ALTER TABLE t ADD COLUMN c{} INT DEFAULT 1"), st.none()
        ),
    ),
    max_size=14,
)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    path = tmp_path_factory.mktemp("laws") / "lab.kalam"
    path.mkdir()
    (path / "kalam.toml").write_text('durability = "normal"\n')
    with kalam.open(path, clock=FakeClock()) as opened:
        for user in USERS:
            opened.session().execute(f"CREATE USER '{user}' INTERNAL ROLE user")
        yield opened


def shown(db: Database) -> list[object]:
    everything = "SELECT *, _deleted FROM t WHERE _deleted IN (true, false) ORDER BY _seq"
    return [db.session(user, namespace="law").execute(everything).rows() for user in USERS]


@settings(max_examples=12)
@given(steps=STEPS)
def test_what_is_restored_is_what_was_backed_up(
    db: Database, steps: list[tuple[str, str, int | None]]
) -> None:
    root = db.session()
    root.execute("CREATE NAMESPACE law")
    root.execute("CREATE USER TABLE law.t (id INT PRIMARY KEY, body TEXT)")
    for number, (user, sql, value) in enumerate(steps):
        session = db.session(user, namespace="law")
        try:
            finished(session, sql.format(number), None if value is None else [value])
        except KalamError as error:
            assert error.code == "DUPLICATE_KEY"
    before = shown(db)
    place = f"law-{next(_numbers)}"
    root.execute(f"BACKUP DATABASE law TO '../{place}'; DROP NAMESPACE law CASCADE")
    root.execute(f"RESTORE DATABASE law FROM '../{place}'")
    assert shown(db) == before
    finished(root, "STORAGE FLUSH ALL IN law; STORAGE COMPACT ALL IN law")
    assert shown(db) == before
    root.execute("DROP NAMESPACE law CASCADE")


class StoppedError(Exception):
    """What a killed job raises between two steps."""


class Steps:
    """Raises at the ``last`` call."""

    def __init__(self, last: int) -> None:
        self.left = last

    def __call__(self, *_: int) -> None:
        self.left -= 1
        if not self.left:
            raise StoppedError


def test_work_that_is_stopped_at_any_step_leaves_nothing(db: Database, tmp_path: Path) -> None:
    context, root = db._context, db.session()
    root.execute("CREATE NAMESPACE law")
    root.execute("CREATE USER TABLE law.t (id INT PRIMARY KEY, v EMBEDDING(2))")
    for user in USERS:
        session = db.session(user, namespace="law")
        session.execute("INSERT INTO t VALUES (1, '[1, 0]')")
        finished(root, "STORAGE FLUSH TABLE law.t")
        session.execute("INSERT INTO t VALUES (2, '[1, 0]')")
    backup = NamespaceBackup(
        context.log, context.reader, context._leases, context.storages.storage, context.clock
    )
    restore = NamespaceRestore(
        context.catalog,
        context.log,
        context.home,
        context.storages.storage,
        SystemKeeper(context.log, context.home, context.reader),
        context.clock,
    )
    place = tmp_path / "b"
    stopped = 0
    for last in itertools.count(1, 3):
        steps = Steps(last)
        try:
            with new_backup(place, "b") as target:
                backup.write("law", target, step=steps, progress=steps)
        except StoppedError:
            stopped += 1
            assert not place.exists()
        else:
            break
    assert stopped > 5
    root.execute("DROP NAMESPACE law CASCADE; VACUUM")
    found = read_backup(place, "b")
    assert found is not None
    segments = context.storages.directory / "storage" / "law"
    stopped = 0
    for last in itertools.count(1, 3):
        steps = Steps(last)
        try:
            restore.restore(*found, step=steps, progress=steps)
        except StoppedError:
            stopped += 1
            assert "law" not in [row[0] for row in root.execute("SHOW NAMESPACES")]
            assert [f for f in segments.rglob("*") if f.is_file()] == []
        else:
            break
    assert stopped > 5
    ids = db.session("ben", namespace="law").execute("SELECT id FROM t ORDER BY id").rows()
    assert ids == [(1,), (2,)]
    root.execute("DROP NAMESPACE law CASCADE")
