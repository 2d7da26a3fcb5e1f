"""What the page is sent, and when a live table ends."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from itertools import pairwise

import ibis
import pyarrow as pa
import pytest
from pages import Page, eventually, view_threads

import kalamdb_lab as kalam
from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import InvalidOptionError, KalamError, PermissionDeniedError
from kalamdb_lab.widgets import live
from kalamdb_lab.widgets.grid import FRAME_BYTES
from kalamdb_lab.widgets.live_table import LiveTable

BY_ID = "SELECT * FROM port.departures ORDER BY id"


def opened(table: LiveTable, count: int = 50) -> Page:
    page = Page(table.widget)
    page.look(0, count)
    page.wait(lambda: page.frames)
    return page


# --- rows -----------------------------------------------------------------------------------------


def test_the_page_gets_columns_and_the_rows_it_looks_at(root: Session) -> None:
    table = live(BY_ID, session=root)
    page = opened(table)
    assert [column["name"] for column in page.header] == ["id", "dest", "delay"]
    assert [column["right"] for column in page.header] == [True, False, True]
    assert page.rows == [["1", "Rome", "2.5"], ["2", "Nome", None], ["3", "Oslo", "0.0"]]
    assert page.state["word"] == "live"
    page.look(1, 1)
    page.wait(lambda: page.slice["first"] == 1)
    assert page.rows == [["2", "Nome", None]]
    page.look(7, 5)
    page.wait(lambda: page.slice["first"] == 7)
    assert page.rows == []
    table.stop()


def test_rows_that_were_there_at_first_are_not_marked(root: Session) -> None:
    table = live(BY_ID, session=root)
    assert opened(table).slice["marks"] == "   "
    table.stop()


def test_changes_are_marked_once(root: Session) -> None:
    table = live(BY_ID, session=root)
    page = opened(table)
    names = page.slice["names"]
    root.execute("UPDATE departures SET delay = 9 WHERE id = 2")
    page.wait(lambda: page.rows[1][2] == "9.0")
    assert page.slice["marks"] == " u "
    assert page.slice["names"] == names
    root.execute("INSERT INTO departures VALUES (0, 'Lima', 1)")
    page.wait(lambda: len(page.rows) == 4)
    assert page.slice["marks"] == "i   "
    root.execute("DELETE FROM departures WHERE id = 3")
    page.wait(lambda: len(page.rows) == 3)
    assert page.slice["marks"] == "   "
    assert page.slice["gone"] == [names[2]]
    assert page.state["all"] == 3
    assert sum(page.state["rate"]) == 3
    table.stop()


def test_long_texts_are_cut_and_whole_in_the_tooltip(root: Session) -> None:
    table = live("SELECT 1 AS id, repeat('x', 200) AS text FROM departures LIMIT 1", session=root)
    (row,) = opened(table).rows
    assert row == ["1", ["x" * 59 + "…", "x" * 200]]
    table.stop()


def test_rows_are_sorted_and_filtered_in_the_kernel(root: Session) -> None:
    table = live(BY_ID, session=root)
    page = opened(table)
    page.send(kind="sort", column=1, descending=False)
    page.wait(lambda: [row[1] for row in page.rows] == ["Nome", "Oslo", "Rome"])
    page.send(kind="filter", text="dest:o id<3")
    page.wait(lambda: [row[1] for row in page.rows] == ["Nome", "Rome"])
    assert (page.state["shown"], page.state["all"]) == (2, 3)
    root.execute("INSERT INTO departures VALUES (0, 'Oahu', 1)")
    page.wait(lambda: [row[1] for row in page.rows] == ["Nome", "Oahu", "Rome"])
    assert table.snapshot().num_rows == 4
    table.stop()


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_frames_are_ten_a_second_at_most_and_the_last_state_comes(root: Session) -> None:
    table = live("SELECT id, delay FROM departures WHERE id = 1", session=root, throttle_s=0)
    page = opened(table)
    before = len(page.frames)
    started = time.monotonic()
    for number in range(200):
        root.execute("UPDATE departures SET delay = ? WHERE id = 1", [float(number)])
    page.wait(lambda: page.rows[0][1] == "199.0")
    elapsed_s = time.monotonic() - started
    times = [at_s for at_s, _ in page.frames[before:]]
    assert len(times) <= elapsed_s * 10 + 1
    assert all(later - earlier > 0.09 for earlier, later in pairwise(times))
    table.stop()


@pytest.mark.slow
def test_a_message_has_200_kb_at_most_and_nothing_is_left_out(root: Session) -> None:
    wide = ", ".join(f"repeat('é', 900) AS c{at}" for at in range(40))
    table = live(f"SELECT range AS id, {wide} FROM range(120)", session=root)
    page = opened(table, 120)
    got: dict[int, list[str]] = {}

    def all_came() -> bool:
        for _, frame in page.frames:
            part = frame["slices"]["view"]
            got.update(enumerate(part["rows"], part["first"]))
        return len(got) == 120

    page.wait(all_came, 30)
    assert [got[at][0] for at in range(120)] == [str(at) for at in range(120)]
    assert max(page.sizes()) <= FRAME_BYTES
    table.stop()


def test_changes_wait_while_it_is_paused_and_come_at_once_after(root: Session) -> None:
    table = live(BY_ID, session=root)
    page = opened(table)
    page.send(kind="pause", on=True)
    page.wait(lambda: page.state["word"] == "paused")
    root.execute("INSERT INTO departures SELECT range, 'more', 1 FROM range(10, 138)")
    page.wait(lambda: page.state["waiting"] == 128)
    assert table.waiting == 128
    assert len(page.rows) == 3
    page.send(kind="sort", column=0, descending=True)  # what it shows can still be looked at
    page.wait(lambda: page.rows[0][0] == "3")
    table.resume()
    page.wait(lambda: page.state["all"] == 131)
    assert page.state["waiting"] == 0
    table.stop()


def test_of_many_views_the_newest_are_served(root: Session) -> None:
    table = live(BY_ID, session=root)
    page = opened(table)
    for number in range(9):
        page.view = f"view {number}"
        page.look(0, 10)
    root.execute("DELETE FROM departures WHERE id = 1")
    frame = page.wait(lambda: [f for _, f in page.frames if len(f["slices"]) > 1])[-1]
    assert list(frame["slices"]) == [f"view {number}" for number in range(5, 9)]
    page.send(kind="gone", view="view 8")
    table.stop()


def test_what_a_page_should_not_send_does_no_harm(root: Session) -> None:
    table = live(BY_ID, session=root)
    page = opened(table)
    page.send(kind="window", view="view", first="x", count=None)
    page.send(kind="sort", column=99, descending=True)
    page.send(kind="press", name="no such row")
    page.send(kind="nonsense")
    page.send(kind="filter", text='"')
    page.send(kind="filter", text="")
    page.look(0, 2)
    page.wait(lambda: len(page.rows) == 2)
    assert table.is_open
    table.stop()


# --- sources --------------------------------------------------------------------------------------


def test_an_expression_is_read_with_its_own_session(db: Database, root: Session) -> None:
    backend = ibis.kalam.from_connection(root)
    departures = backend.table("departures")
    table = live(departures.group_by("dest").agg(n=departures.count()).order_by("dest"))
    assert table.snapshot().to_pylist()[0] == {"dest": "Nome", "n": 1}
    root.execute("INSERT INTO departures VALUES (9, 'Nome', 1)")
    assert table.wait(timeout=40)
    assert table.snapshot().to_pylist()[0] == {"dest": "Nome", "n": 2}
    table.stop()


def test_a_live_result_stays_open_when_the_table_stops(root: Session) -> None:
    result = root.live(BY_ID)
    table = live(result)
    table.stop()
    assert result.is_open
    result.close()
    other = live(root.live(BY_ID))
    other.snapshot()
    other.stop()


def test_text_needs_a_session_and_what_has_one_takes_no_other(root: Session) -> None:
    with pytest.raises(InvalidOptionError, match="needs a session"):
        live(BY_ID)
    with root.live(BY_ID) as result, pytest.raises(InvalidOptionError, match="already"):
        live(result, session=root)
    with pytest.raises(InvalidOptionError, match="another database"):
        live(ibis.duckdb.connect().create_table("t", pa.table({"a": [1]})))


def test_only_what_the_user_may_read_is_shown(db: Database, root: Session) -> None:
    with db.session("mia", namespace="port") as mia:
        with pytest.raises(PermissionDeniedError):
            live("SELECT * FROM plans", session=mia)
        root.execute("INSERT INTO notes VALUES (1, 'mine')")
        table = live("SELECT * FROM notes", session=mia)
        mia.execute("INSERT INTO notes VALUES (2, 'hers')")
        assert table.wait(rows=1, timeout=40)
        assert table.snapshot().to_pylist() == [{"id": 2, "text": "hers"}]
        table.stop()


def test_parameters_are_bound(root: Session) -> None:
    table = live("SELECT id FROM departures WHERE dest = ?", params=["Rome"], session=root)
    assert table.snapshot().to_pylist() == [{"id": 1}]
    table.stop()


# --- the end --------------------------------------------------------------------------------------


def ends_by_stop(table: LiveTable, session: Session, db: Database) -> None:
    table.stop()
    table.stop()


def ends_by_session(table: LiveTable, session: Session, db: Database) -> None:
    session.close()


def ends_by_kill(table: LiveTable, session: Session, db: Database) -> None:
    live_id = session.execute("SHOW LIVE QUERIES").rows()[0][0]
    session.execute(f"KILL LIVE QUERY '{live_id}'")


def ends_by_drop(table: LiveTable, session: Session, db: Database) -> None:
    session.execute("DROP TABLE departures")


@pytest.mark.parametrize("subscribes", [False, True])
@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (ends_by_stop, "stopped"),
        (ends_by_session, "session ended"),
        (ends_by_kill, "killed"),
        (ends_by_drop, "table dropped"),
    ],
)
def test_it_ends_with_its_last_state_and_leaves_no_thread(
    db: Database,
    end: Callable[[LiveTable, Session, Database], None],
    reason: str,
    subscribes: bool,
) -> None:
    session = db.session(namespace="port")
    source = session.subscribe("SELECT id, dest FROM departures") if subscribes else BY_ID
    table = live(source, session=None if subscribes else session)
    page = opened(table)
    page.wait(lambda: len(page.rows) == 3)
    session.execute("UPDATE departures SET dest = 'Last' WHERE id = 1")
    assert table.wait(rows=1, timeout=40)
    page.wait(lambda: page.rows[0][1] == "Last")
    end(table, session, db)
    page.wait(lambda: page.state["word"] == "ended")
    eventually(lambda: not table.is_open)
    assert table.ended == reason
    assert page.state["why"] == ("" if reason == "stopped" else reason)
    assert page.rows[0][:2] == ["1", "Last"]
    assert view_threads() == []
    # What is shown can still be sorted, and is answered in the thread that asks.
    page.send(kind="sort", column=0, descending=True)
    assert page.rows[0][0] == "3"
    assert table.snapshot().num_rows == 3
    with db.session() as other:
        assert other.execute("SHOW LIVE QUERIES").row_count == 0
    session.close()


def test_it_ends_when_nobody_holds_it(db: Database, root: Session) -> None:
    table = live(BY_ID, session=root)
    page = opened(table)
    view = weakref.ref(table._view)
    grid = weakref.ref(table.widget)
    del table
    gc.collect()
    page.wait(lambda: page.state["word"] == "ended")
    eventually(lambda: view_threads() == [])
    assert root.execute("SHOW LIVE QUERIES").row_count == 0
    page.grid = None
    eventually(lambda: gc.collect() is None or (view() is None and grid() is None))


def test_a_stopped_one_that_nobody_holds_is_forgotten(root: Session) -> None:
    table = live(BY_ID, session=root)
    table.stop()
    view = weakref.ref(table._view)
    del table
    eventually(lambda: gc.collect() is None or view() is None)


@pytest.mark.slow
def test_a_hundred_of_them_leave_nothing(root: Session) -> None:
    from ipywidgets.widgets.widget import _instances

    widgets, threads = len(_instances), threading.active_count()
    for _ in range(100):
        live(BY_ID, session=root)
    gc.collect()
    eventually(lambda: view_threads() == [])
    eventually(lambda: gc.collect() is None or len(_instances) == widgets)
    assert threading.active_count() <= threads + 1  # the live threads of the database
    assert root.execute("SHOW LIVE QUERIES").row_count == 0


def test_an_error_of_the_query_is_said_and_passes(root: Session) -> None:
    table = live(
        "SELECT id, 1 / CAST(delay AS INT) AS x FROM departures WHERE id = 1", session=root
    )
    page = opened(table)
    root.execute("UPDATE departures SET delay = 0 WHERE id = 1")
    page.wait(lambda: page.state["note"] != "")
    assert page.state["word"] == "failing"
    assert table.is_open
    assert page.rows[0][0] == "1"
    root.execute("UPDATE departures SET delay = 1 WHERE id = 1")
    page.wait(lambda: page.state["note"] == "" and page.rows[0][1] == "1")
    assert page.state["word"] == "live"
    table.stop()


def test_kalam_live_is_the_function_whatever_was_imported(root: Session) -> None:
    import kalamdb_lab.live.results  # noqa: F401

    table = kalam.live(BY_ID, session=root)
    assert isinstance(table, LiveTable)
    table.stop()
    with pytest.raises(KalamError):
        kalam.live(BY_ID)
