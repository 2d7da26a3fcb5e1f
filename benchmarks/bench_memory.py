"""Does memory grow with the number of statements and sessions?

Sketch: caches are bounded (1,024 parsed texts, 512 plans) and full after the warm-up; a closed
session leaves nothing. So the process should stay as large as it was: no growth beyond 5 %.
Data: 200 rows; 1,000 statements that differ in a constant, in 1,000 sessions one after the other,
after a warm-up of as many.
Peers: none; the process before.
"""

from __future__ import annotations

import gc
from pathlib import Path

from benchmarks.databases import NAMESPACE, kalam_database
from benchmarks.measure import Figure, Finding, Scale, Skipped, timed

FILL = "INSERT INTO small SELECT i, 'g' || (i % 7), i * 0.5 FROM range(200) r(i)"
QUERY = "SELECT g, count(*) AS n FROM small WHERE x > {} GROUP BY g"
MOST_GROWTH = 1.05


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Run statements in sessions of their own; compare the resident memory."""
    count = scale.of(20, 1_000)
    if resident_mb() is None:
        return [Skipped("resident memory", "this system does not tell it in /proc")]
    with kalam_database(folder / "memory.kalam") as database:
        root = database.session(namespace=NAMESPACE)
        root.execute("CREATE TABLE small (id BIGINT PRIMARY KEY, g TEXT, x DOUBLE)")
        root.execute(FILL)

        def run(start: int) -> None:
            for number in range(start, start + count):
                with database.session(namespace=NAMESPACE) as session:
                    text = QUERY.format(f"{number / 1_000_000:.6f}")
                    assert session.execute(text).row_count == 7
            gc.collect()

        run(0)
        run(count)
        before = resident_mb()
        _, samples = timed(lambda: run(2 * count))
        after = resident_mb()
    assert before is not None
    assert after is not None
    growth = after / before
    note = f"{before:.0f} MB before, {after:.0f} MB after: {growth:.3f}x, budget {MOST_GROWTH}x"
    return [Figure(f"{count:,} statements in as many sessions, in all", samples, note=note)]


def resident_mb() -> float | None:
    """Return the resident memory of this process, or None where it is not told."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * 4096 / 1e6


def test_sessions_and_statements_run_and_end(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
