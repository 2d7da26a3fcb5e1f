"""The job monitor and the system explorer, and what each user sees in them."""

from __future__ import annotations

import gc
from typing import Any

import ipywidgets
import pytest
from pages import Page, eventually, view_threads

from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import PermissionDeniedError
from kalamdb_lab.widgets import jobs, system
from kalamdb_lab.widgets.job_monitor import FINISHED_S, shown_jobs
from kalamdb_lab.widgets.live_table import LiveTable


def opened(monitor: LiveTable) -> Page:
    page = Page(monitor.widget)
    page.look()
    page.wait(lambda: page.frames)
    return page


def column(page: Page, name: str) -> list[Any]:
    at = [found["name"] for found in page.header].index(name)
    return [row[at] for row in page.rows]


def control(explorer: LiveTable, kind: type[ipywidgets.Widget]) -> Any:
    """Return the one control of a kind beside the grid."""
    found = []

    def walk(widget: ipywidgets.Widget) -> None:
        if type(widget) is kind:
            found.append(widget)
        for child in getattr(widget, "children", ()):
            walk(child)

    walk(explorer._view._box)
    (one,) = found
    return one


# --- jobs -----------------------------------------------------------------------------------------


def test_a_job_appears_moves_and_ends(db: Database, root: Session) -> None:
    for number in range(30):
        root.execute("INSERT INTO notes VALUES (1, 'x')", as_user=f"user {number}")
    monitor = jobs(root)
    page = opened(monitor)
    assert page.rows == []
    told = "jobs of the last 10 minutes; SHOW JOBS lists all"
    assert page.state["count"] == f"0 rows · {told}"
    assert told in repr(monitor)
    job_id = root.execute("STORAGE FLUSH TABLE notes").rows()[0][0]
    page.wait(lambda: page.rows and column(page, "job_id") == [job_id])
    page.wait(lambda: column(page, "status") == ["completed"])
    assert column(page, "of") == ["port.notes"]
    assert [float(share) for share in column(page, "progress")] == [1]
    assert column(page, "cancel") == [""]
    assert "30 rows" in column(page, "message")[0]
    monitor.stop()


def test_cancel_cancels_the_job_and_an_old_button_says_why_not(db: Database, root: Session) -> None:
    db.jobs.pause()
    job_id = root.execute("STORAGE FLUSH TABLE notes").rows()[0][0]
    monitor = jobs(root)
    page = opened(monitor)
    assert column(page, "cancel") == ["Cancel"]
    (name,) = page.slice["names"]
    page.send(kind="press", name=name)
    page.wait(lambda: column(page, "status") == ["cancelled"])
    assert column(page, "cancel") == [""]
    page.send(kind="press", name=name)
    page.wait(lambda: page.state["note"])
    assert page.state["note"] == f"Job '{job_id}' is already cancelled and cannot be cancelled"
    db.jobs.resume()
    monitor.stop()


def test_each_sees_the_jobs_that_it_may(db: Database, root: Session) -> None:
    root.execute("STORAGE FLUSH TABLE plans")
    with db.session("sam", namespace="port") as sam, db.session("mia") as mia:
        with pytest.raises(PermissionDeniedError):
            jobs(mia)
        own, every = jobs(sam), jobs(root)
        job_id = sam.execute("STORAGE FLUSH TABLE departures").rows()[0][0]
        assert own.wait(rows=1, timeout=40)
        assert every.wait(rows=2, timeout=40)
        assert own.snapshot().column("job_id").to_pylist() == [job_id]
        page = opened(own)
        assert "cancel" not in [found["name"] for found in page.header]
        page.send(kind="press", name=page.slice["names"][0])
        own.stop()
        every.stop()


def test_jobs_are_listed_newest_first_and_leave_after_a_while(db: Database, root: Session) -> None:
    for table in ("plans", "notes", "departures"):
        (row,) = root.execute(f"STORAGE FLUSH TABLE {table}").rows()
        db.jobs.wait(row[0], timeout=40)
    found = root.execute("SELECT * FROM system.jobs").to_arrow()
    ends = [moment.timestamp() for moment in found.column("finished_at").to_pylist()]
    now_s = max(ends) + 90
    shown = shown_jobs(found, may_cancel=True, now_s=now_s)
    assert shown.column("of").to_pylist() == ["port.departures", "port.notes", "port.plans"]
    assert shown.column("age").to_pylist()[0] == "1 min ago"
    assert shown_jobs(found, may_cancel=True, now_s=max(ends) + FINISHED_S).num_rows == 0


# --- the system -----------------------------------------------------------------------------------


def test_tables_are_listed_with_their_sizes_and_follow_changes(root: Session) -> None:
    explorer = system(root)
    page = opened(explorer)
    names = column(page, "table_name")
    assert {"departures", "plans", "notes", "jobs", "users"} <= set(names)
    assert column(page, "row_count")[names.index("departures")] == "3"
    root.execute("DELETE FROM departures WHERE id = 1")
    page.wait(lambda: column(page, "row_count")[names.index("departures")] == "2")
    root.execute("CREATE SHARED TABLE fresh (id BIGINT PRIMARY KEY)")
    page.wait(lambda: "fresh" in column(page, "table_name"))
    tables = control(explorer, ipywidgets.Select)
    eventually(lambda: "port.fresh" in tables.options)
    explorer.stop()
    assert view_threads() == []


def test_columns_partitions_and_rows_of_a_table(db: Database, root: Session) -> None:
    root.execute("INSERT INTO notes VALUES (1, 'x'), (2, 'y')", as_user="mia")
    db.jobs.wait(root.execute("STORAGE FLUSH TABLE notes").rows()[0][0], timeout=40)
    explorer = system(root)
    page = opened(explorer)
    control(explorer, ipywidgets.Select).value = "port.notes"
    page.wait(lambda: page.header[0]["name"] == "column_name" and page.rows)
    assert column(page, "column_name") == ["id", "text"]
    what = control(explorer, ipywidgets.ToggleButtons)
    what.value = "Partitions"
    page.wait(lambda: page.header[0]["name"] == "user_id" and page.rows)
    assert (column(page, "user_id"), column(page, "rows")) == (["mia"], ["2"])
    control(explorer, ipywidgets.Select).value = "system.users"
    what.value = "Rows"
    page.wait(lambda: page.header[1]["name"] == "role" and page.rows)
    assert sorted(column(page, "user_id")) == ["mia", "root", "sam"]
    root.execute("CREATE USER 'tom' INTERNAL ROLE user")
    page.wait(lambda: "tom" in column(page, "user_id"))
    what.value = "Namespaces"
    page.wait(lambda: page.header[0]["name"] == "namespace_id" and len(page.rows) == 3)
    explorer.stop()


def test_a_table_of_more_rows_than_are_shown_says_how_many_it_has(root: Session) -> None:
    root.execute("INSERT INTO plans SELECT range, 'plan ' || range FROM range(10_000)")
    explorer = system(root)
    page = opened(explorer)
    control(explorer, ipywidgets.Select).value = "port.plans"
    control(explorer, ipywidgets.ToggleButtons).value = "Rows"
    page.wait(lambda: page.state["count"] == "10,000 rows")
    root.execute("INSERT INTO plans SELECT range, 'more' FROM range(10_000, 12_345)")
    page.wait(lambda: page.state["count"] == "first 10,000 of 12,345 rows")
    assert "first 10,000 of 12,345 rows" in repr(explorer)
    page.send(kind="filter", text="id=7")
    page.wait(lambda: page.state["count"] == "1 of the first 10,000 of 12,345 rows")
    explorer.stop()
    assert root.execute("SHOW LIVE QUERIES").row_count == 0


def test_a_user_sees_definitions_and_no_rows_of_others(db: Database, root: Session) -> None:
    root.execute("INSERT INTO plans VALUES (1, 'secret')")
    root.execute("INSERT INTO notes VALUES (1, 'private')")
    with db.session("mia", namespace="port") as mia:
        explorer = system(mia)
        page = opened(explorer)
        names = column(page, "table_name")
        assert names == ["departures", "notes", "plans"]
        assert column(page, "row_count") == ["3", "0", None]
        tables = control(explorer, ipywidgets.Select)
        assert not [name for name in tables.options if name.startswith("system.")]
        what = control(explorer, ipywidgets.ToggleButtons)
        tables.value = "port.plans"
        what.value = "Rows"
        page.wait(lambda: page.state["note"])
        assert page.state["note"] == "Permission denied: role 'user' may not read port.plans"
        tables.value = "port.notes"
        page.wait(lambda: page.header[0]["name"] == "id")
        assert page.rows == []
        assert "secret" not in repr(page.messages)
        explorer.stop()


def test_a_dropped_table_leaves_the_explorer_open(root: Session) -> None:
    explorer = system(root)
    page = opened(explorer)
    control(explorer, ipywidgets.Select).value = "port.plans"
    control(explorer, ipywidgets.ToggleButtons).value = "Rows"
    page.wait(lambda: page.header[0]["name"] == "id")
    root.execute("DROP TABLE plans")
    page.wait(lambda: page.state["note"] == "table dropped")
    assert explorer.is_open
    control(explorer, ipywidgets.ToggleButtons).value = "Tables"
    page.wait(lambda: page.header[1]["name"] == "table_name" and page.rows)
    assert "departures" in column(page, "table_name")
    explorer.stop()


def test_the_explorer_ends_with_its_session(db: Database) -> None:
    session = db.session()
    explorer = system(session)
    session.close()
    eventually(lambda: not explorer.is_open)
    assert explorer.ended == "session ended"


def test_the_explorer_ends_when_nobody_holds_it(db: Database, root: Session) -> None:
    explorer = system(root)
    assert len(view_threads()) == 3
    del explorer
    gc.collect()
    eventually(lambda: view_threads() == [])
