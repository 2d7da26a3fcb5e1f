"""The interrupt button."""

from __future__ import annotations

import time

from tests.notebook.conftest import Cell, Kernel

LONG = "SELECT sum(a.range * b.range % 7) FROM range(2000000) a, range(2000000) b"


def interrupted(kernel: Kernel, code: str, after_s: float) -> tuple[Cell, float]:
    message_id = kernel.send(code)
    time.sleep(after_s)
    pressed = time.monotonic()
    kernel.interrupt()
    cell = kernel.answer(message_id, timeout_s=30)
    return cell, time.monotonic() - pressed


def test_gives_the_prompt_back_at_once_and_again(kernel: Kernel) -> None:
    for code in (
        f"%%kalam\n{LONG}",
        f"r = %kalam {LONG}",
        f"%%kalam\nSELECT 1;\n{LONG};\nSELECT 2",
    ):
        cell, elapsed_s = interrupted(kernel, code, 0.4)
        assert elapsed_s < 0.5
        assert cell.status == "error"
        assert "\n".join(cell.error).startswith(
            "InterruptedStatementError: Interrupted; nothing was changed"
        )
        assert kernel.show("%%kalam\nSELECT title FROM tracks WHERE id = 1").text.count("Dawn") == 1


def test_of_a_change_leaves_the_data_as_they_were(kernel: Kernel) -> None:
    code = (
        "%%kalam\nINSERT INTO numbers SELECT a.range + b.range * 10000000 + 5000\n"
        "FROM range(100000) a, range(1000000) b"
    )
    cell, elapsed_s = interrupted(kernel, code, 0.4)
    assert elapsed_s < 0.5
    assert cell.status == "error"
    assert (
        kernel.show("%%kalam\nSELECT count(*) AS n FROM numbers").text.splitlines()[2].strip()
        == "1500"
    )


def test_leaves_no_thread(kernel: Kernel) -> None:
    kernel.show("import threading, time")
    names = "sorted(t.name for t in threading.enumerate() if t.name.startswith('kalam'))"
    before = kernel.value(names)  # those of the open database itself
    interrupted(kernel, f"%%kalam\n{LONG}", 0.5)
    until = time.monotonic() + 10
    while kernel.value(names) != before:
        assert time.monotonic() < until


def test_stops_a_loop_of_statements(kernel: Kernel) -> None:
    """Whoever catches errors of statements does not catch the interrupt for ever."""
    code = f"for i in range(3):\n    r = %kalam {LONG}"
    cell, elapsed_s = interrupted(kernel, code, 0.4)
    assert cell.status == "error"
    assert elapsed_s < 0.5
    assert kernel.value("i") == 0
