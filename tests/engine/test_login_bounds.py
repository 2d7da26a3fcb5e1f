"""The bound on wrong passwords holds for guesses at once, and for clocks that went back."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from audit_trail import Trail

import kalamdb_lab as kalam
from kalamdb_lab import FakeClock
from kalamdb_lab.engine import login
from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.login import FIRST_WAIT_S, FREE_ATTEMPTS
from kalamdb_lab.errors import LoginFailedError

RIGHT = "correct horse 1"
LATER = f"Wrong user or password; try again in {FIRST_WAIT_S} s"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def lab(tmp_path: Path, clock: FakeClock) -> Path:
    path = tmp_path / "lab.kalam"
    path.mkdir()
    (path / "kalam.toml").write_text('durability = "normal"\n')
    with kalam.open(path, clock=clock) as db:
        db.session().execute(f"CREATE USER 'mia' WITH PASSWORD '{RIGHT}' ROLE user")
    return path


def guess(database: Database, password: str) -> str:
    try:
        database.session("mia", password=password)
    except LoginFailedError as error:
        return str(error)
    return "in"


def look_together(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let passwords be looked at only when so many are, each having passed the first check."""
    together = threading.Barrier(count)

    def is_right(_: str | None, password: str) -> bool:
        together.wait(20)
        return password == RIGHT

    monkeypatch.setattr(login, "is_right", is_right)


def at_once(calls: list[Callable[[], str]]) -> list[str]:
    said: list[str] = []
    threads = [threading.Thread(target=lambda c=call: said.append(c())) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said


@pytest.mark.parametrize("contexts", [1, 2])
def test_guesses_at_once_are_told_no_more_than_guesses_in_a_row(
    lab: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, contexts: int
) -> None:
    opened = [kalam.open(lab, clock=clock) for _ in range(contexts)]
    look_together(monkeypatch, 12)
    said = at_once([lambda db=opened[at % contexts]: guess(db, "wrong") for at in range(12)])
    assert Counter(said) == {
        "Wrong user or password": FREE_ATTEMPTS,
        LATER: 12 - FREE_ATTEMPTS,
    }
    monkeypatch.undo()
    assert guess(opened[0], RIGHT) == LATER
    clock.advance(FIRST_WAIT_S)
    assert guess(opened[0], RIGHT) == "in"
    for db in opened:
        db.close()


def test_the_right_one_among_too_many_is_not_told(
    lab: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kalam.open(lab, clock=clock) as db:

        def is_right(_: str | None, password: str) -> bool:
            if password == RIGHT:  # while it is looked at, others are
                assert {guess(db, "wrong") for _ in range(FREE_ATTEMPTS)} == {
                    "Wrong user or password"
                }
            return password == RIGHT

        monkeypatch.setattr(login, "is_right", is_right)
        assert guess(db, RIGHT) == LATER


def test_guesses_at_once_are_bounded_also_where_they_cannot_be_written(
    lab: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kalam.open(lab, clock=clock) as db:

        def full(*_: object) -> None:
            raise kalam.KalamError("The disk is full; nothing was changed")

        monkeypatch.setattr(db._context.audit, "append", full)
        look_together(monkeypatch, 8)
        said = at_once([lambda: guess(db, "wrong") for _ in range(8)])
        assert Counter(said) == {"Wrong user or password": FREE_ATTEMPTS, LATER: 3}


def test_failures_of_a_clock_that_ran_ahead_lock_nobody_out(lab: Path, clock: FakeClock) -> None:
    ahead = FakeClock(clock.now_us() + 10**15)
    with kalam.open(lab, clock=ahead) as db:
        for _ in range(FREE_ATTEMPTS):
            guess(db, "wrong")
        assert guess(db, RIGHT) == LATER
    with kalam.open(lab, clock=clock) as db:
        assert guess(db, RIGHT) == "in"


def test_passwords_that_are_missing_or_too_many_leave_a_row_and_count_for_nothing(
    lab: Path, clock: FakeClock
) -> None:
    def opened(**given: Any) -> None:
        with pytest.raises(LoginFailedError):
            kalam.open(lab, clock=clock, **given)

    with kalam.open(lab, clock=clock) as db:
        root = db.session()
        trail = Trail(root)
        for _ in range(FREE_ATTEMPTS):
            opened(password="any")
        root.execute(f"ALTER USER 'root' SET PASSWORD '{RIGHT}'")
        for _ in range(FREE_ATTEMPTS):
            opened()
            opened(user="mia")
        rows = [row for row in trail.new() if row.action == "LOGIN"]
    assert Counter((row.target, row.outcome) for row in rows) == {
        ("root", "refused"): FREE_ATTEMPTS,
        ("root", "failed"): FREE_ATTEMPTS,
        ("mia", "failed"): FREE_ATTEMPTS,
    }
    for user in (None, "mia"):
        kalam.open(lab, clock=clock, user=user, password=RIGHT).close()
