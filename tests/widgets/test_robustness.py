"""What a live table does with input that is large, odd, or not meant for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from pages import Page, eventually

from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import InterruptedStatementError
from kalamdb_lab.widgets import live
from kalamdb_lab.widgets.grid import FRAME_BYTES
from kalamdb_lab.widgets.screen import Manner, Screen
from kalamdb_lab.widgets.sources import FoldedEvents, PolledRows

HTML = "<img src=x onerror=alert(1)>"


def screen_of(table: pa.Table) -> Screen:
    screen = Screen(table, None, Manner())
    screen.look("page", 0, 80, is_new=True)
    screen.arrange()
    return screen


def test_what_is_saved_of_wide_and_long_rows_stays_small() -> None:
    screen = screen_of(pa.table({f"c{at}": ["x" * 5_000] * 60 for at in range(300)}))
    rows = screen.picture([])
    assert len(rows._repr_html_()) < 1_000_000
    assert "showing 10 of 60 rows" in repr(rows)
    _, frame = screen.messages()
    assert len(json.dumps(frame)) < FRAME_BYTES


def test_a_table_that_fits_is_one_frame() -> None:
    screen = screen_of(pa.table({"a": [1, 2, 3]}))
    assert len(screen.messages()) == 2
    assert not screen.lacks_rows


def test_texts_are_no_html_in_what_is_saved(root: Session) -> None:
    root.execute("INSERT INTO plans VALUES (1, ?)", [HTML])
    table = live(f"SELECT id, text, '<b>' AS \"{HTML}\" FROM plans", session=root)
    table._view.say(HTML)
    eventually(lambda: HTML in repr(table))
    html = table._view._bundle(None)["text/html"]
    assert "<img" not in html
    assert "<b>" not in html
    assert html.count("&lt;img") >= 3
    table.stop()


def test_half_a_character_in_the_filter_ends_nothing(root: Session) -> None:
    table = live("SELECT * FROM departures", session=root)
    page = Page(table.widget)
    page.look()
    page.send(kind="filter", text="\ud83d")
    page.wait(lambda: page.state.get("shown") == 0)
    page.send(kind="filter", text="dest:rome")
    page.wait(lambda: page.state.get("shown") == 1)
    assert table.ended is None
    table.stop()


def test_a_view_that_cannot_show_its_rows_ends_and_says_so(root: Session) -> None:
    table = live("SELECT * FROM departures", session=root)
    page = Page(table.widget)
    page.look()
    page.wait(lambda: page.frames)
    # No input is known that fails; this one is none that a page can send.
    table._view._screen.table.sort = (99, False)
    root.execute("INSERT INTO departures VALUES (9, 'Lima', 1)")
    page.wait(lambda: page.state.get("word") == "ended")
    assert table.ended is not None
    assert table.ended.startswith("failed: ")
    eventually(lambda: root.execute("SHOW LIVE QUERIES").row_count == 0)


def words_of(page: Page) -> list[str]:
    return [m["state"]["word"] for _, m in page.messages if "state" in m]


def test_only_what_comes_late_lags_and_not_for_ever(root: Session) -> None:
    table = live("SELECT * FROM departures WHERE id = 1", session=root)
    page = Page(table.widget)
    page.look()
    page.wait(lambda: page.frames)
    table.pause()
    eventually(lambda: table.is_paused)
    root.execute("UPDATE departures SET delay = 7 WHERE id = 1")
    eventually(lambda: table.waiting == 1)
    with table._view._lock:
        table._view._late_since = time.monotonic() - 60  # it was a long pause
    table.resume()
    page.wait(lambda: page.rows[0][2] == "7.0")
    assert "lagging" not in words_of(page)
    with table._view._lock:
        table._view._late_since = time.monotonic() - 60  # a change that waits for its frame
    root.execute("UPDATE departures SET delay = 8 WHERE id = 1")
    page.wait(lambda: "lagging" in words_of(page))
    page.wait(lambda: page.state["word"] == "live")
    table.stop()


class Pictures:
    """Stands where a notebook keeps the outputs."""

    is_shown = True

    def __init__(self) -> None:
        self.texts: list[str] = []

    def renew(self, bundle: dict[str, Any]) -> None:
        self.texts.append(bundle["text/plain"])


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda table, _: table.resume(), "Lima"),
        (lambda _, page: page.send(kind="filter", text="nome"), "filter: nome"),
    ],
)
def test_what_is_saved_follows_what_the_reader_does(
    root: Session, act: Callable[[Any, Page], None], text: str
) -> None:
    table = live("SELECT * FROM departures", session=root)
    pictures = table._view._picture = Pictures()  # type: ignore[assignment]
    page = Page(table.widget)
    page.look()
    table.pause()
    eventually(lambda: table.is_paused)
    root.execute("INSERT INTO departures VALUES (9, 'Lima', 1)")
    eventually(lambda: table.waiting == 1)
    table._view.settle()
    assert text not in pictures.texts[-1]
    act(table, page)
    table._view.settle()
    assert text in pictures.texts[-1]
    table.stop()


def test_changes_of_rows_that_a_subscription_did_not_begin_with_are_added(root: Session) -> None:
    root.execute("INSERT INTO notes SELECT range, 'old' FROM range(5)")
    rows = FoldedEvents(root.subscribe("SELECT * FROM notes", last_rows=1), throttle_s=0.02)
    assert rows.wait(rows=1, timeout=40)
    root.execute("UPDATE notes SET text = 'new' WHERE id IN (0, 1, 4)")
    assert rows.wait(rows=3, timeout=40)
    root.execute("DELETE FROM notes WHERE id IN (1, 2)")
    eventually(
        lambda: (
            rows.snapshot().select(["id", "text"]).to_pylist()
            == [{"id": 4, "text": "new"}, {"id": 0, "text": "new"}]
        )
    )
    assert rows.ended is None
    rows.close()


def test_an_interrupt_that_meets_reading_again_does_not_end_it(root: Session) -> None:
    answers: list[Any] = [InterruptedStatementError(), pa.table({"a": [1, 2]})]

    def read() -> pa.Table:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    answers.insert(0, pa.table({"a": [1]}))
    rows = PolledRows(root, read, None, every_s=0.02)
    root.execute("INSERT INTO notes VALUES (1, 'x')")
    assert rows.wait(rows=2, timeout=40)
    assert rows.ended is None
    rows.close()
