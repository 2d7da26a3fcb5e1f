"""What cells show, return and keep, in a real kernel."""

from __future__ import annotations

import re

import pytest

from tests.notebook.conftest import Kernel

MS = r"[0-9.,]+ m?s"


def test_a_query_shows_one_table_with_a_footer(kernel: Kernel) -> None:
    cell = kernel.show("%%kalam\nSELECT id, title, score FROM tracks ORDER BY id")
    assert len(cell.data) == 1
    assert re.fullmatch(
        r" id  ?title  ?score\n ─+ ─+ ─+\n  1 Dawn    0.5\n  2 Hill   NULL\n"
        rf"2 rows · {MS} · root",
        cell.text,
    )
    assert '<td class="n">1</td><td>Dawn</td><td class="n">0.5</td>' in cell.html
    assert '<td class="n z">NULL</td>' in cell.html


def test_a_change_shows_one_line(kernel: Kernel) -> None:
    for sql, said in (
        (
            "INSERT INTO tracks VALUES (3, 'a', 1, 1), (4, 'b', 2, 2), (5, 'c', 3, 3);",
            "3 rows inserted",
        ),
        ("UPDATE tracks SET title = 'd' WHERE id = 5", "1 row updated"),
        ("DELETE FROM tracks WHERE id > 2 -- all new ones", "3 rows deleted"),
        ("DELETE FROM tracks WHERE id > 2", "0 rows deleted"),
    ):
        cell = kernel.show(f"%%kalam\n{sql}")
        assert len(cell.data) == 1
        assert re.fullmatch(rf"{said} · {MS}", cell.text)


def test_ddl_shows_one_line(kernel: Kernel) -> None:
    cell = kernel.show("%%kalam\nCREATE TABLE drafts (id INT PRIMARY KEY)")
    assert len(cell.data) == 1
    assert "\n" not in cell.text
    assert re.search(rf"studio\.drafts.* · {MS}$", cell.text)


def test_values_are_bound(kernel: Kernel) -> None:
    kernel.show("title = \"x' OR '1'='1\"\nids = [1, 2, 9]\nlongest = 700\ncolumn = 'title'")
    assert kernel.show("%%kalam\nSELECT * FROM tracks WHERE title = :title").text.count("no rows")
    cell = kernel.show(
        "%%kalam\nSELECT {{column|ident}} FROM tracks\n"
        "WHERE id IN :ids AND seconds = {{ longest + 0 }} -- :not_one"
    )
    assert " Dawn\n1 row" in cell.text


def test_an_empty_list_is_no_match(kernel: Kernel) -> None:
    kernel.show("none = []")
    assert "no rows" in kernel.show("%%kalam\nSELECT id FROM tracks WHERE id IN :none").text
    assert "2 rows" in kernel.show("%%kalam\nSELECT id FROM tracks WHERE id NOT IN (:none)").text
    assert "no rows" in kernel.show("%%kalam\nSELECT id FROM tracks WHERE title IN :none").text


def test_a_line_in_a_function_sees_its_variables(kernel: Kernel) -> None:
    kernel.show(
        "def seconds(of):\n"
        "    found = %kalam SELECT seconds FROM tracks WHERE id = :of\n"
        "    return found.rows()"
    )
    assert kernel.value("[seconds(id) for id in (1, 2)]") == [[(700,)], [(180,)]]


def test_both_ways_of_assigning_give_the_same(kernel: Kernel) -> None:
    assert kernel.show("%%kalam cell <<\nSELECT id, title FROM tracks ORDER BY id").data == []
    assert kernel.show("line = %kalam SELECT id, title FROM tracks ORDER BY id").data == []
    assert kernel.show("%kalam third << SELECT id, title FROM tracks ORDER BY id").data == []
    for name in ("cell", "line", "third"):
        assert kernel.value(
            f"type({name}).__name__, {name}.columns, len({name}), list({name})"
        ) == (
            "Result",
            ["id", "title"],
            2,
            [(1, "Dawn"), (2, "Hill")],
        )
    assert kernel.value("cell.to_pandas().title.tolist()") == ["Dawn", "Hill"]
    assert kernel.value("cell.to_polars()['title'].to_list()") == ["Dawn", "Hill"]
    assert kernel.value("cell.to_arrow()['id'].to_pylist()") == [1, 2]
    kernel.show("import ibis\nhill = cell.to_ibis().filter(ibis._.id == 2)")
    assert kernel.value("hill.to_pyarrow().to_pylist()") == [{"id": 2, "title": "Hill"}]


def test_a_result_of_a_cell_is_the_last_one(kernel: Kernel) -> None:
    kernel.show("%%kalam\nSELECT 41 + 1 AS answer")
    assert kernel.value("_.rows()") == [(42,)]


def test_a_line_alone_is_shown_wherever_it_stands(kernel: Kernel) -> None:
    cell = kernel.show("%kalam SELECT 1 AS a\n%kalam SELECT 2 AS b\nc = %kalam SELECT 3 AS c")
    assert [" a" in cell.data[0]["text/plain"], " b" in cell.data[1]["text/plain"]] == [True, True]
    assert len(cell.data) == 2


@pytest.mark.parametrize(
    ("output", "name"), [("pandas", "DataFrame"), ("polars", "DataFrame"), ("arrow", "Table")]
)
def test_output_chooses_what_is_returned(kernel: Kernel, output: str, name: str) -> None:
    kernel.show(f"%config KalamMagic.output = '{output}'")
    try:
        kernel.show("%%kalam cell <<\nSELECT n FROM numbers")
        kernel.show("line = %kalam SELECT n FROM numbers")
        kernel.show("%%kalam\nSELECT n FROM numbers")
        kernel.show("shown = _")
        for value in ("cell", "line", "shown"):
            assert kernel.value(f"type({value}).__name__, len({value})") == (name, 1500)
        assert (
            "0 rows inserted"
            in kernel.show("%%kalam\nINSERT INTO numbers SELECT 1 WHERE false").text
        )
    finally:
        kernel.show("%config KalamMagic.output = 'result'")


class TestCap:
    def test_is_said(self, kernel: Kernel) -> None:
        cell = kernel.show("%%kalam\nSELECT n FROM numbers ORDER BY n")
        assert re.search(
            rf">showing 1,000 of 1,500 rows · {MS} · root · --all shows all<", cell.html
        )
        assert cell.html.count("<tr>") == 1_001
        assert cell.text.endswith("· --all shows all")
        assert "showing 20 of 1,500 rows" in cell.text
        assert '<td class="n">999</td>' in cell.html

    def test_is_not_for_python(self, kernel: Kernel) -> None:
        kernel.show("%%kalam cell <<\nSELECT n FROM numbers")
        kernel.show("line = %kalam SELECT n FROM numbers")
        assert kernel.value("len(cell), len(line)") == (1500, 1500)
        used = "get_ipython().run_line_magic('kalam', 'SELECT n FROM numbers')"
        kernel.show(f"def returned():\n    return {used}\ndef passed():\n    return len({used})")
        assert kernel.value("len(returned()), passed()") == (1500, 1500)

    def test_what_was_cut_cannot_be_taken_for_the_whole(self, kernel: Kernel) -> None:
        kernel.show("%%kalam\nSELECT n FROM numbers")
        kernel.show("shown = _")
        assert kernel.value("shown.total, shown.shown, shown.columns") == (1500, 1000, ["n"])
        for use in ("shown.to_pandas()", "len(shown)", "list(shown)", "shown.rows()"):
            assert "Only 1,000 of 1,500 rows were read" in "\n".join(kernel.fails(use))

    def test_is_lifted_by_all_and_by_the_setting(self, kernel: Kernel) -> None:
        assert kernel.show("%%kalam --all\nSELECT n FROM numbers").html.count("<tr>") == 1_501
        kernel.show("%config KalamMagic.display_limit = 3")
        try:
            cell = kernel.show("%%kalam\nSELECT n FROM numbers ORDER BY n DESC")
            assert "showing 3 of 1,500 rows" in cell.html
            assert "1499" in cell.text
            assert "<td>" not in cell.html
            for limit, said in ((2, "2 rows"), (3, "3 rows"), (4, "showing 3 of 4 rows")):
                cell = kernel.show(f"%%kalam\nSELECT n FROM numbers LIMIT {limit}")
                assert f">{said} ·" in cell.html
                kernel.show(f"limit = {limit}")
                assert (
                    f">{said} ·" in kernel.show("%%kalam\nSELECT n FROM numbers LIMIT :limit").html
                )
            cell = kernel.show(
                "%%kalam\nSELECT n FROM numbers UNION ALL SELECT n FROM numbers\n"
                "ORDER BY n LIMIT 9 OFFSET 2"
            )
            assert "showing 3 of 9 rows" in cell.html
            described = kernel.show("%%kalam\nDESCRIBE tracks")  # not pushed down, and said alike
            assert "showing 3 of 4 rows" in described.html
        finally:
            kernel.show("%config KalamMagic.display_limit = 1_000")

    def test_keeps_order_names_and_parameters(self, kernel: Kernel) -> None:
        kernel.show("top, name = 1200, 'x'")
        cell = kernel.show(
            '%%kalam\nSELECT a.n, b.n, :name AS "Name" FROM numbers a JOIN numbers b ON a.n = b.n\n'
            "WHERE a.n < :top ORDER BY a.n DESC"
        )
        assert "showing 1,000 of 1,200 rows" in cell.html
        assert re.findall(r"<th[^>]*>([^<]*)</th>", cell.html) == ["n", "n", "Name"]
        assert '<td class="n">1199</td><td class="n">1199</td><td>x</td>' in cell.html

    def test_is_pushed_down(self, kernel: Kernel) -> None:
        cell = kernel.show("%%kalam\nSELECT range, range * 2 AS twice FROM range(100000000)")
        assert "showing 1,000 of 100,000,000 rows" in cell.html
        assert cell.elapsed_s < 5


def test_several_statements_show_each_result_in_order(kernel: Kernel) -> None:
    cell = kernel.show(
        "%%kalam last <<\nINSERT INTO tracks VALUES (7, 'x', 1, 1);\n"
        "SELECT title FROM tracks WHERE id = 7;\nDELETE FROM tracks WHERE id = 7;\nSELECT 5 AS n;"
    )
    kinds = [item["text/plain"].splitlines()[-1].partition(" · ")[0] for item in cell.data]
    assert kinds == ["1 row inserted", "1 row", "1 row deleted"]
    assert kernel.value("last.rows()") == [(5,)]


def test_a_script_stops_at_its_first_error(kernel: Kernel) -> None:
    cell = kernel.run("%%kalam\nSELECT 1 AS a;\nSELECT 2 AS b;\nSELCT 3;\nSELECT 4")
    assert cell.status == "error"
    assert len(cell.data) == 2
    assert any("statement 3 of 4, line 4" in line for line in "\n".join(cell.error).splitlines())


def test_rows_of_returning_are_shown_with_the_count(kernel: Kernel) -> None:
    cell = kernel.show("%%kalam\nINSERT INTO tracks (id, title) VALUES (8, 'new') RETURNING title")
    assert re.search(rf" new\n1 row · 1 row inserted · {MS} · root$", cell.text)
    kernel.show("%kalam DELETE FROM tracks WHERE id = 8")


def test_text_is_escaped_cut_and_complete_in_the_tooltip(kernel: Kernel) -> None:
    kernel.show("text = '<b>' + 'x' * 100 + '\\x1b[31m\\n'")
    cell = kernel.show("%%kalam\nSELECT :text AS t")
    assert "<b>" not in cell.html
    assert re.search(r'<td title="&lt;b&gt;x{100}\\x1b\[31m↵">&lt;b&gt;x{56}…</td>', cell.html)
    assert "\x1b" not in cell.text
