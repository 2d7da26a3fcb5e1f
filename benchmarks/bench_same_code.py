"""Do a view and a system table cost more than what they stand for?

Sketch: a view is expanded in the tree when the plan is made, so with a cached plan it is its
SELECT. System tables are partitions on the same log, read by the same code as a SHARED
table of the same rows; only a role is checked before.
Data: 1,000 rows (k TEXT key, g TEXT, x DOUBLE), hot, and a view that filters them;
`system.namespaces` with 200 namespaces beside a SHARED table with its very rows.
Peers: the SELECT of the view; the SHARED table.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.databases import NAMESPACE, kalam_database
from benchmarks.measure import Budget, Figure, Finding, Scale, interleaved

FILL = "INSERT INTO plain SELECT 'k' || i, 'g' || (i % 7), i * 0.5 FROM range(1000) r(i)"
VIEW = "SELECT g, x FROM plain WHERE x > 3"
GROUPS = "SELECT g, count(*) AS n FROM {} GROUP BY g ORDER BY g"
BY_OWNER = "SELECT created_by, count(*) AS n, max(namespace_id) AS m FROM {} GROUP BY created_by"


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Ask a view and its SELECT, a system table and a copy of it, in turns."""
    repeats = scale.of(2, 300)
    database = kalam_database(folder / "same.kalam", durability="normal")
    session = database.session(namespace=NAMESPACE)
    session.execute("CREATE TABLE plain (k TEXT PRIMARY KEY, g TEXT, x DOUBLE)")
    session.execute(FILL)
    session.execute(f"CREATE VIEW filtered AS {VIEW}")
    for number in range(scale.of(5, 200)):
        session.execute(f"CREATE NAMESPACE n{number}")
    session.execute("CREATE TABLE copied AS SELECT * FROM system.namespaces")

    def ask(template: str, source: str) -> list[tuple[object, ...]]:
        return session.execute(template.format(source)).rows()

    assert ask(GROUPS, "filtered") == ask(GROUPS, f"({VIEW}) v")
    assert ask(BY_OWNER, "system.namespaces") == ask(BY_OWNER, "copied")
    times = interleaved(
        {
            "view": lambda: ask(GROUPS, "filtered"),
            "select": lambda: ask(GROUPS, f"({VIEW}) v"),
            "system": lambda: ask(BY_OWNER, "system.namespaces"),
            "shared": lambda: ask(BY_OWNER, "copied"),
        },
        repeats,
        warm_up=min(repeats, 20),
    )
    database.close()
    return [
        Figure("a view", times["view"], "its SELECT", times["select"], Budget("ratio", 1.05)),
        Figure(
            "a system table",
            times["system"],
            "a SHARED table",
            times["shared"],
            Budget("ratio", 1.1),
        ),
    ]


def test_both_give_the_same_rows(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
