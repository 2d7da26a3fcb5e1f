"""Opening a database and its sessions: passwords, how often they may be tried, and whose it is."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kalamdb_lab as kalam
from kalamdb_lab import FakeClock, KalamError
from kalamdb_lab.authorization import passwords
from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.login import (
    FIRST_WAIT_S,
    FREE_ATTEMPTS,
    LONGEST_WAIT_S,
    WINDOW_S,
)
from kalamdb_lab.errors import LoginFailedError, PasswordNeededError, StorageError
from kalamdb_lab.testing.jobs import finished

ROOTS, MIAS = "correct horse 1", "battery staple 2"
WRONG = "Wrong user or password"


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2id as it is used takes 50 ms; that it is used is tested where it is not cheap."""
    from argon2 import PasswordHasher

    cheap = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", lambda: cheap)
    monkeypatch.setattr(passwords, "_DUMMY", cheap.hash("the password of nobody"))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def lab(tmp_path: Path, clock: FakeClock) -> Path:
    """A database whose root has a password, with users of each kind."""
    path = tmp_path / "lab.kalam"
    path.mkdir()
    (path / "kalam.toml").write_text('durability = "normal"\n')
    with kalam.open(path, clock=clock) as db:
        db.session().execute(
            f"""CREATE USER 'mia' WITH PASSWORD '{MIAS}' ROLE user;
            CREATE USER 'tom' INTERNAL ROLE user;
            CREATE USER 'ada' OAUTH '{{"provider": "g", "subject": "7"}}' ROLE service;
            CREATE USER TABLE notes (id INT PRIMARY KEY);
            ALTER USER 'root' SET PASSWORD '{ROOTS}'"""
        )
    return path


@pytest.fixture
def opened(lab: Path, clock: FakeClock) -> Callable[..., Database]:
    return lambda **given: kalam.open(lab, clock=clock, **given)


def failure(attempt: Callable[[], object]) -> str:
    with pytest.raises(LoginFailedError) as caught:
        attempt()
    assert caught.value.code == "LOGIN_FAILED"
    return str(caught.value)


def logins(database: Database) -> list[tuple[Any, ...]]:
    rows = database.session().execute(
        "SELECT actor_user_id, target, outcome, details FROM system.audit_logs "
        "WHERE action = 'LOGIN' ORDER BY audit_id"
    )
    return [(*row[:3], json.loads(row[3])["method"]) for row in rows.rows()]


# --- the database -------------------------------------------------------------------------------


def test_a_database_asks_once_its_root_has_a_password(lab: Path, opened: Any) -> None:
    with pytest.raises(PasswordNeededError) as caught:
        opened()
    assert str(caught.value) == f"'{lab}' asks for a password; open it with password=..."
    assert failure(lambda: opened(user="mia")) == str(caught.value)
    assert failure(lambda: opened(password="wrong horse")) == WRONG
    with opened(password=ROOTS) as db:
        assert db.session().role.value == "system"


def test_who_opens_it_as_root_opens_sessions_of_all_users(opened: Any) -> None:
    for given in ({"password": ROOTS}, {"user": "root", "password": ROOTS}):
        with opened(**given) as db:
            for user in ("mia", "tom", "ada", "root"):
                assert db.session(user).execute("SELECT CURRENT_USER()").rows() == [(user,)]
            assert db.session("mia", password=MIAS).user == "mia"
            assert failure(lambda: db.session("mia", password=ROOTS)) == WRONG
            assert failure(lambda: db.session("nobody", password=ROOTS)) == WRONG
            with pytest.raises(KalamError, match="^User 'nobody' not found$"):
                db.session("nobody")


def test_who_opens_it_as_another_user_has_only_that_ones_sessions(opened: Any) -> None:
    with opened(user="mia", password=MIAS) as db:
        assert db.user == "mia"
        assert db.session().execute("SELECT CURRENT_USER()").rows() == [("mia",)]
        assert db.session("mia", password=MIAS).user == "mia"
        for user, password in (("root", None), ("tom", None), ("root", ROOTS), ("nobody", None)):
            said = failure(lambda: db.session(user, password=password))  # noqa: B023
            assert said == "This database was opened as user 'mia', for its sessions only"
    with opened(password=ROOTS) as db:
        assert ("mia", "nobody", "refused", "opener") in logins(db)


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("mia", ROOTS),
        ("mia", MIAS.upper()),
        ("mia", ""),
        ("mia", MIAS + " "),
        ("mia", "x" * 5_000),
        ("mia", "\ud800"),
        ("Mia", MIAS),
        ("tom", "any password"),
        ("ada", "any password"),
        ("nobody", MIAS),
        (None, MIAS),
    ],
)
def test_a_wrong_user_and_a_wrong_password_are_told_alike(
    opened: Any, user: str | None, password: str
) -> None:
    assert failure(lambda: opened(user=user, password=password)) == WRONG
    with opened(user="mia", password=MIAS) as db:
        assert db.session().user == "mia"


def test_a_database_that_asks_for_none_still_checks_what_is_given(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    with pytest.raises(StorageError, match="^There is no database at"):
        kalam.open(path, password=ROOTS)
    assert not path.exists()
    with kalam.open(path) as db:
        db.session().execute(f"CREATE USER 'mia' WITH PASSWORD '{MIAS}' ROLE user")
    assert failure(lambda: kalam.open(path, password=ROOTS)).startswith(
        "User 'root' has no password"
    )
    assert failure(lambda: kalam.open(path, user="mia", password=ROOTS)) == WRONG
    for given in ({"password": MIAS}, {}):
        with kalam.open(path, user="mia", **given) as db:
            assert db.session().user == "mia"
            assert failure(lambda: db.session("root")).startswith("This database was opened as")
    with kalam.open(path) as db:
        assert db.session("mia").user == "mia"
        assert failure(lambda: db.session("mia", password=ROOTS)) == WRONG


def test_a_failed_opening_leaves_the_directory_free(lab: Path) -> None:
    with kalam.open(lab, password=ROOTS) as db:
        for _ in range(3):
            assert failure(lambda: kalam.open(lab, password="wrong horse")) == WRONG
        db.session().execute("SELECT 1")
    from kalamdb_lab.engine import database

    assert str(lab) not in database._shared


def test_a_password_takes_effect_where_the_database_is_opened_next(lab: Path) -> None:
    with kalam.open(lab, password=ROOTS) as db:
        root = db.session()
        root.execute("ALTER USER 'root' SET PASSWORD 'another horse 3'")
        assert failure(lambda: kalam.open(lab, password=ROOTS)) == WRONG
        kalam.open(lab, password="another horse 3").close()
        root.execute("SELECT 1")


def test_a_dropped_user_is_told_so_only_with_its_password(opened: Any) -> None:
    with opened(password=ROOTS) as db:
        mia = db.session("mia")
        db.session().execute("DROP USER 'mia'")
        for attempt in (
            lambda: mia.execute("SELECT 1"),
            lambda: db.session("mia"),
            lambda: db.session("mia", password=MIAS),
        ):
            with pytest.raises(KalamError, match="^User 'mia' was dropped$"):
                attempt()
        assert failure(lambda: db.session("mia", password=ROOTS)) == WRONG


# --- bounded ------------------------------------------------------------------------------------


def exhaust(attempt: Callable[[], object]) -> None:
    for _ in range(FREE_ATTEMPTS):
        assert failure(attempt) == WRONG


@pytest.mark.parametrize("user", ["mia", "tom", "nobody"])
def test_after_some_wrong_passwords_none_is_looked_at_for_a_while(
    opened: Any, clock: FakeClock, user: str
) -> None:
    with opened(password=ROOTS) as db:
        exhaust(lambda: db.session(user, password="wrong horse"))
        for password in ("wrong horse", MIAS):
            said = failure(lambda: db.session(user, password=password))  # noqa: B023
            assert said == f"{WRONG}; try again in {FIRST_WAIT_S} s"
        assert failure(lambda: opened(user=user, password=MIAS)) == said
        clock.advance(FIRST_WAIT_S - 0.5)
        assert failure(lambda: db.session(user, password=MIAS)).endswith("try again in 1 s")
        db.session("root", password=ROOTS)
        clock.advance(0.5)
        if user == "mia":
            db.session(user, password=MIAS)
        else:
            assert failure(lambda: db.session(user, password=MIAS)) == WRONG


def test_the_wait_doubles_up_to_a_bound_and_is_forgotten(opened: Any, clock: FakeClock) -> None:
    with opened(password=ROOTS) as db:

        def wrong() -> object:
            return db.session("mia", password="wrong horse")

        exhaust(wrong)
        waits = []
        for _ in range(8):
            said = failure(wrong)
            waits.append(int(said.split()[-2]))
            clock.advance(waits[-1])
            assert failure(wrong) == WRONG
        assert waits == [min(FIRST_WAIT_S * 2**n, LONGEST_WAIT_S) for n in range(8)]
        clock.advance(WINDOW_S)
        exhaust(wrong)


def test_the_right_password_ends_the_count(opened: Any) -> None:
    with opened(password=ROOTS) as db:
        for _ in range(3):
            for _ in range(FREE_ATTEMPTS - 1):
                assert failure(lambda: db.session("mia", password="wrong horse")) == WRONG
            with opened(user="mia", password=MIAS) as mias:
                mias.session()


def test_a_session_without_a_password_does_not_end_the_count(opened: Any) -> None:
    with opened(password=ROOTS) as db:
        for _ in range(FREE_ATTEMPTS):
            assert failure(lambda: db.session("mia", password="wrong horse")) == WRONG
            assert db.session("mia").user == "mia"
        assert "try again" in failure(lambda: db.session("mia", password=MIAS))


def test_other_processes_count_along(lab: Path, clock: FakeClock) -> None:
    databases = [kalam.open(lab, password=ROOTS, clock=clock) for _ in range(FREE_ATTEMPTS)]
    for db in databases:
        assert failure(lambda: db.session("mia", password="wrong horse")) == WRONG  # noqa: B023
    finished(databases[0].session(), "STORAGE FLUSH ALL")
    for db in databases:
        assert "try again" in failure(lambda: db.session("mia", password=MIAS))  # noqa: B023
        db.close()


def test_a_clock_that_goes_back_locks_nobody_out(opened: Any, clock: FakeClock) -> None:
    with opened(password=ROOTS) as db:
        exhaust(lambda: db.session("mia", password="wrong horse"))
        clock.advance(-86_400)
        db.session("mia", password=MIAS)
        exhaust(lambda: db.session("mia", password="wrong horse"))
        assert failure(lambda: db.session("mia", password=MIAS)).endswith(f"in {FIRST_WAIT_S} s")


def test_tries_that_could_not_be_noted_are_counted(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(password=ROOTS) as db:

        def full(*_: object) -> None:
            raise StorageError("The disk is full; nothing was changed")

        monkeypatch.setattr(db._context.audit, "append", full)
        exhaust(lambda: db.session("mia", password="wrong horse"))
        assert "try again" in failure(lambda: db.session("mia", password=MIAS))
        assert db.session("tom").user == "tom"


# --- what remains -------------------------------------------------------------------------------


def test_each_opening_leaves_a_row_and_the_time(opened: Any, clock: FakeClock) -> None:
    clock.advance(60)
    with opened(user="mia", password=MIAS) as db:
        db.session()
    failure(lambda: opened(user="mia", password="wrong horse"))
    with opened(password=ROOTS) as db:
        rows = logins(db)
        assert rows[-3:] == [
            ("mia", "mia", "ok", "password"),
            ("mia", "mia", "failed", "password"),
            ("root", "root", "ok", "password"),
        ]
        clock.advance(60)
        db.session("tom")
        assert logins(db)[-2:] == [
            ("tom", "tom", "ok", "opener"),
            ("root", "root", "ok", "password"),
        ]
        seen = db.session().execute(
            "SELECT user_id, date_diff('second', created_at, last_login_at) FROM system.users "
            "ORDER BY user_id"
        )
        assert seen.rows() == [("ada", None), ("mia", 60), ("root", 120), ("tom", 120)]


def test_an_old_hash_is_made_anew_at_login(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from argon2 import PasswordHasher

    def hash_of_mia() -> str:
        with opened(password=ROOTS) as db:
            user = db._context.catalog.users.get("mia")
            assert user is not None
            return str(user.password_hash)

    before = hash_of_mia()
    opened(user="mia", password=MIAS).close()
    assert hash_of_mia() == before
    dearer = PasswordHasher(time_cost=2, memory_cost=64, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", lambda: dearer)
    failure(lambda: opened(user="mia", password="wrong horse"))
    opened(user="mia", password=MIAS).close()
    after = hash_of_mia()
    assert before != after
    assert "t=2" in after
    opened(user="mia", password=MIAS).close()
    assert hash_of_mia() == after


def test_ibis_and_notebooks_ask_too(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ibis

    from kalamdb_lab.notebook import connections

    with pytest.raises(PasswordNeededError):
        ibis.kalam.connect(lab)
    with pytest.raises(LoginFailedError, match=f"^{WRONG}$"):
        ibis.kalam.connect(lab, user="mia", password=ROOTS)
    con = ibis.kalam.connect(lab, user="mia", password=MIAS)
    assert con.session.user == "mia"
    assert con.session.origin == "ibis"
    assert MIAS not in repr(pickle.dumps(con.__getstate__()))
    con.disconnect()

    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return {"Password of 'root': ": ROOTS, "Password of 'mia': ": MIAS}[prompt]

    monkeypatch.setattr(connections.getpass, "getpass", answer)
    opened = connections.Connections()
    for user in ("root", "mia"):
        session = opened.open(str(lab), user=user, namespace="default", name=user).session
        assert (session.user, session.origin) == (user, "notebook")
    assert len(asked) == 2
    opened.close_all()

    def nobody(_: str) -> str:
        raise EOFError

    monkeypatch.setattr(connections.getpass, "getpass", nobody)
    with pytest.raises(PasswordNeededError, match="asks for a password"):
        opened.open(str(lab), user="mia", namespace="default")


def test_what_checks_passwords_is_imported_when_there_is_one(tmp_path: Path) -> None:
    code = (
        "import sys, kalamdb_lab\n"
        f"kalamdb_lab.open({str(tmp_path / 'lab.kalam')!r}).session().execute('SELECT 1')\n"
        "print('argon2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
