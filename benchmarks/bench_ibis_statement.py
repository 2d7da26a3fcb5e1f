"""What does an ibis expression cost here and on ibis' own DuckDB backend?

Sketch: ibis compiles an expression in 0.6 to 4 ms; ours is compiled once and found again by the
expression (hash and comparison of its tree, 0.1 ms), its schema comes from our catalog, and the
plan is cached. So a repeated expression should cost less than on the peer, which compiles each
time; one that is built anew costs both the building. Budget 1.2x.
Data: 200 rows of (id BIGINT, g TEXT, x DOUBLE), in memory on both sides; one filter, GROUP BY,
ORDER BY.
Peers: `ibis.duckdb` with `.to_pyarrow()`, which runs with DuckDB below 2 only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import ibis

from benchmarks.databases import NAMESPACE, kalam_database, same_rows
from benchmarks.measure import Budget, Figure, Finding, Scale, Skipped, interleaved

FILL = "INSERT INTO small SELECT i, 'g' || (i % 7), i * 0.5 FROM range(200) r(i)"
PEER = "ibis.duckdb"


def question(table: Any, above: float = 3) -> Any:
    """Return the expression that is asked."""
    return (
        table.filter(table.x > above)
        .group_by("g")
        .agg(n=lambda t: t.count(), m=lambda t: t.x.mean())
        .order_by("g")
    )


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Run one expression again, the same built anew, and ones that were never seen."""
    repeats = scale.of(2, 150)
    path = folder / "ibis.kalam"
    with kalam_database(path) as database:
        session = database.session(namespace=NAMESPACE)
        session.execute("CREATE TABLE small (id BIGINT PRIMARY KEY, g TEXT, x DOUBLE)")
        session.execute(FILL)
    con = ibis.kalam.connect(path, namespace=NAMESPACE)
    backends = {"ours": con}
    reason = peer_is_missing()
    if not reason:
        peer = ibis.duckdb.connect()
        peer.create_table("small", con.table("small").to_pyarrow())
        backends["peer"] = peer
    tables = {name: backend.table("small") for name, backend in backends.items()}
    kept = {name: question(table) for name, table in tables.items()}
    answers = [expr.to_pyarrow() for expr in kept.values()]
    assert answers[0].num_rows == 7
    assert all(same_rows(answers[0], answer) for answer in answers)

    again = interleaved(
        {name: expr.to_pyarrow for name, expr in kept.items()}, repeats, warm_up=min(repeats, 10)
    )
    anew = interleaved(
        {name: _built_anew(table) for name, table in tables.items()}, repeats, warm_up=1
    )
    unseen = interleaved(
        {name: _never_seen(table) for name, table in tables.items()}, repeats, warm_up=1
    )
    con.disconnect()
    cases = [("kept and run again", again), ("built anew, run again", anew)]
    found: list[Finding] = [
        Figure(
            f"an expression {what}",
            times["ours"],
            PEER if "peer" in times else "",
            times.get("peer"),
            Budget("ratio", 1.2) if "peer" in times else None,
        )
        for what, times in cases
    ]
    found.append(
        Figure(
            "an expression never seen before",
            unseen["ours"],
            PEER if "peer" in unseen else "",
            unseen.get("peer"),
        )
    )
    if reason:
        found.append(Skipped(PEER, reason))
    return found


def peer_is_missing() -> str:
    """Return why ibis' own DuckDB backend cannot run here, or nothing."""
    if int(duckdb.__version__.split(".")[0]) >= 2:
        return f"the DuckDB backend of ibis {ibis.__version__} does not run on DuckDB 2"
    return ""


def _built_anew(table: Any) -> Any:
    return lambda: question(table).to_pyarrow()


def _never_seen(table: Any) -> Any:
    numbers = iter(range(1, 1_000_000))
    return lambda: question(table, next(numbers) / 1_000).to_pyarrow()


def test_every_backend_gives_the_same_groups(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
