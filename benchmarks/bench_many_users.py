"""Does one user's read get slower as other users come?

Sketch: a partition is found by (table, user) in a dict and in an index of SQLite; nothing is
searched, so ten users or ten thousand should cost the same. What could grow is what a
statement asks first: the user's role, a look-up in a dict that follows the log.
Data: one USER table (id BIGINT key, g TEXT, x DOUBLE), 200 flushed rows for each user; registered
users with sessions of their own. Five users read in turns.
Peers: itself with ten users.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

import kalamdb_lab as kalam
from benchmarks.databases import NAMESPACE, kalam_database
from benchmarks.measure import Budget, Figure, Finding, Samples, Scale, interleaved, timed
from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished

QUERY = "SELECT g, count(*) AS n, sum(x) AS s FROM notes GROUP BY g ORDER BY g"
ROWS = 200
READERS = 5


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Read as five users of a few, of more and of many."""
    few = scale.of(3, 10)
    sizes = scale.of([few, 6], [few, 1_000], [few, 1_000, 10_000])
    reads: dict[str, Callable[[], object]] = {}
    points: dict[str, Callable[[], object]] = {}
    first: dict[int, Samples] = {}
    opened: list[Database] = []
    for users in sizes:
        path = folder / f"users-{users}.kalam"
        _fill(path, users)
        database = kalam.open(path)
        opened.append(database)
        chosen = np.linspace(0, users - 1, min(READERS, users)).astype(int).tolist()
        sessions = [database.session(f"u{number}", namespace=NAMESPACE) for number in chosen]
        answer, first[users] = timed(lambda one=sessions[-1]: one.execute(QUERY))
        assert [row[1] for row in answer.rows()] == [ROWS // 4] * 4
        own = chosen[-1] * ROWS
        assert sum(row[2] for row in answer.rows()) == sum(range(own, own + ROWS))
        turns = itertools.cycle(sessions)
        reads[str(users)] = lambda turns=turns: next(turns).execute(QUERY)
        keyed = itertools.cycle(list(zip(sessions, chosen, strict=True)))
        points[str(users)] = lambda keyed=keyed: _by_key(*next(keyed))
    times = interleaved(reads, scale.of(3, 200), warm_up=READERS)
    by_key = interleaved(points, scale.of(3, 400), warm_up=READERS)
    for database in opened:
        database.close()
    found: list[Finding] = []
    for users in sizes[1:]:
        peer = f"{few} users"
        budget = Budget("ratio", 1.3)
        found += [
            Figure(
                f"GROUP BY over own 200 rows, {users:,} users",
                times[str(users)],
                peer,
                times[str(few)],
                budget,
            ),
            Figure(
                f"one own row by key, {users:,} users",
                by_key[str(users)],
                peer,
                by_key[str(few)],
                budget,
            ),
            Figure(f"first read after opening, {users:,} users", first[users], peer, first[few]),
        ]
    return found


def _fill(path: Path, users: int) -> None:
    # Not measured here, and thousands of syncs would take minutes.
    with kalam_database(path, durability="normal") as database:
        root = database.session(namespace=NAMESPACE)
        root.execute("CREATE USER TABLE notes (id BIGINT PRIMARY KEY, g TEXT, x DOUBLE)")
        for user in range(users):
            root.execute(f"CREATE USER 'u{user}' INTERNAL ROLE user")
            ids = np.arange(ROWS) + user * ROWS
            rows = pa.table(
                {"id": ids, "g": [f"g{i % 4}" for i in range(ROWS)], "x": ids.astype(float)}
            )
            with database.session(f"u{user}", namespace=NAMESPACE) as session:
                session.insert("notes", rows)
        finished(root, "STORAGE FLUSH TABLE notes")


def _by_key(session: Session, user: int) -> None:
    key = user * ROWS + 17
    assert session.execute("SELECT x FROM notes WHERE id = ?", [key]).rows() == [(float(key),)]


def test_each_user_reads_its_own_rows(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
