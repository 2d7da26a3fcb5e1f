"""What the Tab key offers."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from kalamdb_lab.errors import InterruptedStatementError
from tests.notebook.conftest import Kernel


@pytest.fixture(scope="module")
def typing(kernel: Kernel) -> Kernel:
    kernel.show("most, title_start = 5, 'D'\nimport pandas as pd")
    kernel.show("frame = pd.DataFrame({'shelf': [1], 'Of whom': ['x']})")
    kernel.show("indexed = frame[['shelf']].rename_axis('day')")
    kernel.show("%kalam CREATE VIEW loud AS SELECT id, title FROM tracks")
    kernel.show('%kalam CREATE TABLE odd (id INT PRIMARY KEY, "Unit price" DOUBLE)')
    kernel.show("%%kalam --save shorts\nSELECT id AS short_id FROM tracks WHERE seconds < :most")
    return kernel


@pytest.mark.parametrize(
    ("code", "first"),
    [
        ("%%kalam\nSELECT * FROM tra|", ["tracks"]),
        ("%%kalam\nSELECT * FROM studio.t|", ["tracks"]),
        ("%%kalam\nSELECT t.s| FROM tracks t", ["seconds", "score"]),
        ("%%kalam\nSELECT t.s|\nFROM studio.tracks AS t\nWHERE 'a' = 'b'", ["seconds", "score"]),
        ("%%kalam\nSELECT n FROM numbers; SELECT ti| FROM tracks", ["title"]),
        ("%%kalam\nSELECT studio.tracks.ti|", ["title"]),
        ("%%kalam\nSELECT 1 FROM tracks a JOIN numbers b ON a.id = b.|", ["n"]),
        ("%%kalam\nSELECT id FROM tracks, nu|", ["numbers"]),
        ("%%kalam\nUPDATE tracks SET sec| = 1 WHERE id = 2", ["seconds"]),
        ("%%kalam\nSELECT lo| FROM loud", ["loud"]),
        ("%%kalam\nSELECT loud.| FROM loud", ["id", "title"]),
        ("%%kalam\nSELECT uni| FROM odd", ['"Unit price"']),
        ('%%kalam\nSELECT "Uni| FROM odd', ['Unit price"']),
        ("%%kalam\nSELECT _se| FROM tracks", ["_seq"]),
        ("%%kalam\nWITH base AS (SELECT 1 AS a) SELECT * FROM ba|", ["base"]),
        ("%%kalam\nUSE st|", ["studio"]),
        ("%%kalam\nSELECT * FROM sys|", ["system"]),
        ("%%kalam\nSELECT * FROM sho|", ["shorts"]),
        ("%%kalam\nSELECT s.| FROM shorts s", ["short_id"]),
        ("%%kalam\nSELECT * FROM fra|", ["frame"]),
        ("%%kalam\nSELECT * FROM local.fra|", ["frame"]),
        ("%%kalam\nSELECT sh| FROM frame", ["shelf"]),
        ("%%kalam\nSELECT f.of| FROM local.frame f", ['"Of whom"']),
        ("%%kalam\nSELECT i.| FROM indexed i", ["day", "shelf"]),
        ("%%kalam\nSELECT cou| FROM tracks", ["count"]),
        ("%%kalam\nSELECT 1 whe|", ["when", "where"]),
        ("%%kalam\nSELECT id::time|", ["time", "timestamp", "timestamptz"]),
        ("%%kalam\nSUBS|", ["SUBSCRIBE TO"]),
        ("%%kalam\nstorage fl|", ["flush table", "flush all"]),
        ("%%kalam\nSELECT 1;\nEXECUTE |", ["AS USER"]),
        ("%%kalam\nSHOW LI|", ["LIVE QUERIES"]),
        ("%%kalam\nSELECT :mo|", ["most"]),
        ("%%kalam\nSELECT id FROM tracks WHERE title > :title_|", ["title_start"]),
        ("%%kalam\nSELECT {{ most + titl| }}", ["title_start"]),
        ("%%kalam\nSELECT {{ most|", []),
        ("%%kalam @lab\nSEL|", ["SELECT"]),
        ("%%kalam @la|", ["@lab"]),
        ("%%kalam --ex|", ["--explain"]),
        ("%%kalam --as mia --al|", ["--all"]),
        ("%%kalam --debug o|", ["on", "off"]),
        ("%%kalam name << SEL|", ["SELECT"]),
        ("%kalam sn|", ["snippets"]),
        ("%kalam snippets --d|", ["--delete"]),
        ("%kalam snippets --delete sh|", ["shorts"]),
        ("%kalam close l|", ["lab"]),
        ("%kalam tables st|", ["studio"]),
        ("%kalam open x --na|", ["--namespace", "--name"]),
        ("x = %kalam SELECT ti| FROM tracks", ["title"]),
        ("for i in range(3):\n    y = %kalam SELECT :mos|", ["most"]),
        ("x = 1\n%kalam SELECT * FROM tra|\ny = 2", ["tracks"]),
    ],
)
def test_completes(typing: Kernel, code: str, first: list[str]) -> None:
    if not first:  # the cursor mark is the filter's own
        assert "ident" in typing.value(
            "[c.text for c in get_ipython().magics_manager.registry['KalamMagic']"
            ".completion.offered('%%kalam\\nSELECT {{ most|id', 1, 18)[1]]"
        )
        return
    assert typing.complete(code)[: len(first)] == first


@pytest.mark.parametrize(
    "code",
    [
        "%%kalam\nSELECT 'tra|",
        "%%kalam\nSELECT 1 -- tra|",
        "%%kalam\nSELECT /* tra|",
        "%%kalam\nSELECT 1.tra|",
        "%%kalam\nSELECT a::tra|",
        "%%kalam --as tra|",
        "%%time\ntra|",
        "'%kalam SELECT * FROM tra|",
        "%kalamity SELECT * FROM tra|",
        "print('%kalam') or tra|",
    ],
)
def test_offers_no_table_where_none_can_be(typing: Kernel, code: str) -> None:
    assert "tracks" not in typing.complete(code)


@pytest.mark.parametrize(
    "code",
    [
        "%%kalam\nSELECT 'ti|' FROM tracks",
        "%%kalam\nSELECT 1 -- ti|",
        "%%kalam\nSELECT /* ti|",
        "%%kalam\nSELECT 1.|",
        "%%kalam\nSELECT * FROM unknown u WHERE u.|",
        "%%kalam --as |",
        '%%kalam\nSELECT "coun|',
    ],
)
def test_offers_nothing_rather_than_python(typing: Kernel, code: str) -> None:
    assert typing.complete(code) == []


def test_offers_what_the_connection_of_the_cell_has(typing: Kernel) -> None:
    typing.show("%kalam open shelf.kalam\n%kalam CREATE TABLE books (isbn TEXT PRIMARY KEY)")
    try:
        for head in ("%%kalam @lab\n", "%%kalam --all @lab\n", "%kalam @lab "):
            assert "tracks" in typing.complete(f"{head}SELECT * FROM |")
            assert "books" not in typing.complete(f"{head}SELECT * FROM |")
            assert typing.complete(f"{head}SELECT ti| FROM tracks")[0] == "title"
        assert "books" in typing.complete("%%kalam\nSELECT * FROM |")
        assert "books" not in typing.complete("%%kalam @nobody\nSELECT * FROM |")
    finally:
        typing.show("%kalam close shelf\n%kalam @lab")


def test_shows_only_what_the_user_may_know(typing: Kernel) -> None:
    assert "users" in typing.complete("%kalam SELECT * FROM system.us|")
    typing.show("%kalam open lab.kalam --user mia --namespace studio --name mia")
    try:
        assert "tracks" in typing.complete("%kalam SELECT * FROM tra|")
        assert "system" not in typing.complete("%kalam SELECT * FROM sys|")
        assert "users" not in typing.complete("%kalam SELECT * FROM system.us|")
    finally:
        typing.show("%kalam close mia\n%kalam @lab")


def test_follows_definitions_also_of_other_sessions(typing: Kernel) -> None:
    assert "fresh" not in typing.complete("%kalam SELECT * FROM fre|")
    typing.show(
        "import kalamdb_lab as kalam\nopened = kalam.open('lab.kalam')\n"
        "other = opened.session(namespace='studio')\n"
        "other.execute('CREATE TABLE fresh (id INT PRIMARY KEY, ripe INT)');"
    )
    assert typing.complete("%kalam SELECT * FROM fre|")[0] == "fresh"
    typing.show("other.execute('ALTER TABLE fresh ADD COLUMN rind INT');")
    assert typing.complete("%kalam SELECT ri| FROM fresh")[:2] == ["ripe", "rind"]
    typing.show("other.execute('DROP TABLE fresh');")
    until = time.monotonic() + 10  # a busy machine may answer once with what it knew last
    while "fresh" in typing.complete("%kalam SELECT * FROM fre|"):
        assert time.monotonic() < until
    typing.show("other.close(); opened.close()")


def test_leaves_other_cells_alone(typing: Kernel) -> None:
    assert "most" in typing.complete("mos|")
    assert "title_start" in typing.complete("print(titl|)")


def test_works_without_a_database(bare_kernel: Kernel) -> None:
    bare_kernel.show("%kalam close lab") if bare_kernel.value(
        "get_ipython().magics_manager.registry['KalamMagic'].has_connections"
    ) else None
    assert bare_kernel.complete("%kalam op|") == ["open"]
    assert bare_kernel.complete("%%kalam\nSELE|") == ["SELECT"]
    assert bare_kernel.complete("%%kalam\nSELECT * FROM |")


def test_is_quick_with_a_thousand_tables_and_while_a_statement_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    from kalamdb_lab.notebook.extension import load, unload

    monkeypatch.chdir(tmp_path)
    shell = InteractiveShell()
    load(shell)
    try:
        shell.run_line_magic("kalam", "open many.kalam")
        magic = shell.magics_manager.registry["KalamMagic"]
        session = magic.current_session
        session.execute("CREATE NAMESPACE many; USE many")
        for number in range(1_000):
            session.execute(f"CREATE TABLE t{number} (id BIGINT PRIMARY KEY, c{number} TEXT)")

        def timed(sql: str) -> tuple[float, list[str]]:
            started = time.perf_counter()
            _, found = magic.completion.offered(f"%kalam {sql}", 0, len(sql) + 7)
            return time.perf_counter() - started, [candidate.text for candidate in found]

        timed("SELECT * FROM t")  # imports the parser, once in a kernel
        assert min(timed("SELECT * FROM t99")[0] for _ in range(3)) < 0.05
        assert "t999" in timed("SELECT * FROM t99")[1]
        long = "SELECT sum(a.range * b.range % 7) FROM range(2000000) a, range(2000000) b"
        failed: list[Exception] = []

        def run() -> None:
            try:
                session.execute(long)
            except InterruptedStatementError as error:
                failed.append(error)

        running = threading.Thread(target=run)
        running.start()
        try:
            elapsed_s, found = timed("SELECT * FROM t7 JOIN t999 ON t999.")
        finally:
            while running.is_alive():
                session.interrupt()
                running.join(0.05)
        assert failed
        assert found == ["id", "c999"]
        assert elapsed_s < 0.5
    finally:
        unload(shell)
    assert shell.Completer.custom_matchers == []
