"""Where rows go: pipes that take a part, files that are replaced, commands that are interrupted."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import kalamdb_lab as kalam
from kalamdb_lab.cli import reading
from kalamdb_lab.cli.writing import replaced_file

KALAM = (sys.executable, "-c", "from kalamdb_lab.cli import main; main()")
MANY = "SELECT range AS n, repeat('x', 100) AS x FROM range(20000)"


def raw(*arguments: str, limit_blocks: int | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run ``kalam`` with a standard output that nothing buffers, into the file ``out``."""
    limit = "" if limit_blocks is None else f"ulimit -f {limit_blocks}; "
    return subprocess.run(
        ["sh", "-c", f'{limit}exec "$@" > out', "sh", *KALAM, *arguments],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stderr=subprocess.PIPE,
        check=False,
    )


@pytest.mark.slow
def test_a_disk_that_takes_a_part_of_the_rows_fails_the_command(run, lab: str) -> None:
    short = raw("sql", lab, MANY, "--format", "json", limit_blocks=200)
    assert (short.returncode, short.stderr) == (1, b"File too large\n")
    whole = raw("sql", lab, MANY, "--format", "json")
    assert (whole.returncode, whole.stderr) == (0, b"")
    assert len(json.loads(Path("out").read_bytes())) == 20_000


@pytest.mark.slow
def test_all_of_an_export_reaches_a_standard_output_without_a_buffer(run, lab: str) -> None:
    short = raw("export", lab, "-", "-q", MANY, "--format", "csv", limit_blocks=200)
    assert (short.returncode, short.stderr) == (1, b"File too large\n")
    assert raw("export", lab, "-", "-q", MANY, "--format", "csv").returncode == 0
    assert len(Path("out").read_bytes().splitlines()) == 20_001


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_of_an_export_sees_nothing_else(run, lab: str) -> None:
    command = [*KALAM, "export", lab, "-", "-q", MANY, "--format", "arrow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert len(running.stdout.read(50)) == 50
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(30) != 0


# --- files that are there ---------------------------------------------------------------------


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    for mode in (0o640, 0o400):
        path.touch()
        path.chmod(mode)
        with replaced_file(path) as out:
            out.write(b"new")
        assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", mode)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_its_file_is_replaced(run, lab: str) -> None:
    Path("deep").mkdir()
    Path("deep/plans.csv").write_text("old")
    Path("link.csv").symlink_to("deep/plans.csv")
    assert run("export", lab, "plans", "link.csv", "--force").exit_code == 0
    assert Path("link.csv").is_symlink()
    assert Path("deep/plans.csv").read_text() == "id,title,cost\n1,walk,0.5\n2,,\n"
    assert [file.name for file in Path("deep").iterdir()] == ["plans.csv"]


@pytest.mark.parametrize("name", ["arrow", "parquet", "csv"])
def test_a_pipe_with_a_name_is_written_into(run, lab: str, name: str) -> None:
    os.mkfifo("pipe")
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(Path("pipe").read_bytes()), daemon=True)
    reader.start()
    done = run("export", lab, "plans", "pipe", "--force", "--format", name)
    if done.exit_code != 0:
        Path("pipe").write_bytes(b"")
    reader.join(10)
    assert (done.exit_code, done.stdout) == (0, "pipe: 2 rows written\n")
    assert stat.S_ISFIFO(Path("pipe").stat().st_mode)
    assert found == [run("export", lab, "plans", "-", "--format", name).stdout_bytes]


# --- interrupts -------------------------------------------------------------------------------


def test_an_interrupt_between_portions_says_what_is_in(
    run, lab: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PORTION_ROWS", 1)
    monkeypatch.setattr(reading, "_BLOCK_ROWS", 1)
    blocks = reading._JsonRows.blocks

    def interrupted(self: Any, types: Any) -> Any:
        for count, block in enumerate(blocks(self, types)):
            if count == 4:
                raise KeyboardInterrupt
            yield block

    monkeypatch.setattr(reading._JsonRows, "blocks", interrupted)
    Path("more.jsonl").write_text("".join(f'{{"id": {key}}}\n' for key in range(3, 9)))
    done = run("import", lab, "plans", "more.jsonl")
    assert done.exit_code == 130
    with kalam.open(lab) as db:
        rows = db.session().execute("SELECT count(*) FROM plans").rows()[0][0] - 2
    assert rows > 0
    what = f"{rows} row{'' if rows == 1 else 's'}"
    assert done.stderr == f"[INTERRUPTED] more.jsonl: Interrupted; inserted before: {what}\n"
