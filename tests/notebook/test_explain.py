"""``--explain`` shows how a statement would be run."""

from __future__ import annotations

import re

from tests.notebook.conftest import Kernel


def test_shows_a_tree_and_runs_nothing(kernel: Kernel) -> None:
    kernel.show("top = 3")
    cell = kernel.show(
        "%%kalam --explain\nSELECT title, count(*) AS n FROM tracks t JOIN numbers USING (id)\n"
        "WHERE seconds > :top GROUP BY title ORDER BY n DESC LIMIT 5".replace(
            "USING (id)", "ON n = id"
        )
    )
    lines = cell.text.splitlines()
    assert [re.sub(r"[├└│─ ]*(\w+) .*", r"\1", line) for line in lines[:7]] == [
        *("Limit", "Sort", "Aggregate", "Filter", "Join", "Scan", "Scan")
    ]
    assert lines[0] == "Limit 5"
    assert lines[1].startswith("└─ Sort")
    assert re.match(r" +├─ Scan studio\.tracks scope 'root'; columns .*\(about 2 rows\)$", lines[5])
    assert re.match(r" +└─ Scan studio\.numbers columns n.* \(.*about 1,500 rows\)$", lines[6])
    assert lines[7] == "root"
    assert "<b>Limit</b>" in cell.html
    assert "seconds &gt; " in cell.html


def test_of_a_change_changes_nothing(kernel: Kernel) -> None:
    before = kernel.show("%kalam SELECT count(*) AS n FROM tracks").text.splitlines()[2]
    cell = kernel.show("%%kalam --explain\nDELETE FROM tracks WHERE id > 0")
    assert cell.text.startswith("Delete studio.tracks\n└─ ")
    assert kernel.show("%kalam SELECT count(*) AS n FROM tracks").text.splitlines()[2] == before


def test_says_where_local_rows_come_from(kernel: Kernel) -> None:
    kernel.show("import pyarrow as pa\nframe = pa.table({'a': [1]})")
    cell = kernel.show("%kalam --explain SELECT * FROM frame")
    assert cell.text.endswith("root · frame: local Arrow table, 1 row")


def test_gives_the_rows_to_python(kernel: Kernel) -> None:
    kernel.show("plan = %kalam --explain SELECT * FROM numbers WHERE n = 1")
    assert kernel.value("[row[2] for row in plan.rows()]") == ["Filter", "Scan"]


def test_errors_keep_their_place(kernel: Kernel) -> None:
    lines = kernel.fails("%%kalam --explain\nSELECT nme\nFROM tracks")
    assert lines[-2:] == ["    SELECT nme", "           ^^^"]
    assert (
        "INSERT, UPDATE or DELETE after EXPLAIN" in kernel.fails("%%kalam --explain\nUSE studio")[0]
    )
