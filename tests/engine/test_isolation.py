"""No statement of one user shows, counts or stumbles over anything of another."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from isolation_sql import SCHEMA, statements

from kalamdb_lab import KalamError
from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished

MARKS = {user: f"{user}{secrets.token_hex(6)}" for user in ("mia", "tom", "root", "sven")}
"""Values that nobody can guess; upper case counts too."""

Outcome = tuple[str, object]

FEW = settings(
    # A script is short enough to be read as it is; making it shorter would take minutes.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Lab:
    """One database: ``mia`` acts, and where there is noise others act too."""

    def __init__(self, opened: Any, *, noise: bool) -> None:
        self.noise = noise
        self.root = opened.session(namespace="default")
        for user, role in (("mia", "user"), ("tom", "user"), ("sven", "service")):
            self.root.execute(f"CREATE USER '{user}' INTERNAL ROLE {role}")
        self.opened = opened
        self.sessions: dict[str, Session] = {}

    def start_anew(self) -> None:
        self.root.execute("USE default; DROP NAMESPACE IF EXISTS lab CASCADE")
        self.root.execute(SCHEMA)
        secret = MARKS["root"]
        self.root.execute(
            "INSERT INTO genres VALUES (1, 'Jazz', 3), (2, 'Folk', NULL), (3, 'm', 1)"
        )
        self.root.execute(f"INSERT INTO plans VALUES (1, '{secret}', 1), (2, '{secret}', 2)")
        self.sessions = {user: self.opened.session(user, "lab") for user in ("mia", "tom", "sven")}
        for user in ("mia", "tom", "sven") if self.noise else ("mia",):
            mark = MARKS[user]
            for table in ("notes", "plays"):
                self.sessions[user].execute(
                    f"INSERT INTO {table} VALUES (1, '{mark}', 3), (2, '{mark}x', NULL), "
                    f"(4, '{mark}', {len(user) + 2}), (5, NULL, 1)"
                )
                self.sessions[user].execute(f"DELETE FROM {table} WHERE id = 4")

    def run(self, user: str, sql: str) -> Outcome:
        """Return what a user got, as far as it does not depend on what is promised to nobody."""
        try:
            result = self.sessions[user].execute(sql)
        except KalamError as error:
            # Which of several equal keys is named depends on the order of the rows.
            text = "" if error.code == "DUPLICATE_KEY" else str(error)
            assert error.code != "INTERNAL", (sql, error)
            assert_nothing_foreign(user, sql, str(error))
            return error.code, text
        rows = sorted(map(repr, result.rows()))
        shown = f"{result!r} {result.columns} {rows} {result.message} {result._repr_html_()}"
        assert_nothing_foreign(user, sql, shown)
        return "ok", (result.columns, rows, result.rows_affected)


def assert_nothing_foreign(user: str, sql: str, text: str) -> None:
    for other, mark in MARKS.items():
        if other != user and (user, other) != ("sven", "root"):
            reached = user == "sven" and f"EXECUTE AS USER '{other}'" in sql
            assert reached or mark.lower() not in text.lower(), (user, sql, text)


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory, opener: Any) -> Iterator[tuple[Lab, Lab]]:
    opened = [opener(tmp_path_factory.mktemp(name) / "lab.kalam") for name in ("full", "alone")]
    yield Lab(opened[0], noise=True), Lab(opened[1], noise=False)
    for one in opened:
        one.database.close()


maintenance = st.sampled_from(["STORAGE FLUSH TABLE notes", "STORAGE COMPACT TABLE notes"])
actors = [
    *[st.tuples(st.just("mia"), statements(MARKS["mia"], "mia"))] * 3,
    st.tuples(st.just("mia"), statements(MARKS["mia"], "tom")),
    st.tuples(st.just("tom"), statements(MARKS["tom"], "mia")),
    st.tuples(st.just("root"), maintenance),
]
steps = st.integers(0, len(actors) - 1).flatmap(actors.__getitem__)


@pytest.mark.slow
@settings(FEW, max_examples=20)
@given(script=st.lists(steps, min_size=4, max_size=10))
def test_what_mia_gets_does_not_depend_on_tom(
    labs: tuple[Lab, Lab], script: list[tuple[str, str]]
) -> None:
    """The same statements in a database where nobody else ever was give the same answers."""
    full, alone = labs
    for lab in labs:
        lab.start_anew()
    for user, sql in script:
        if user == "root":
            for lab in labs:
                finished(lab.root, sql)
        elif user == "tom":
            full.run("tom", sql)
        else:
            assert full.run("mia", sql) == alone.run("mia", sql), sql
    for table in ("notes", "plays", "bin"):
        assert full.run("mia", f"SELECT * FROM {table}") == alone.run(
            "mia", f"SELECT * FROM {table}"
        )


@pytest.mark.slow
@settings(FEW, max_examples=10)
@given(
    script=st.lists(
        statements(MARKS["sven"], "sven")
        | statements(MARKS["sven"], "mia")
        | statements(MARKS["sven"], "dora"),
        min_size=4,
        max_size=8,
    )
)
def test_a_service_reaches_others_by_execute_as_only(
    labs: tuple[Lab, Lab], script: list[str]
) -> None:
    full, _ = labs
    full.start_anew()
    for sql in script:
        writes_down = re.search(r"(INSERT INTO|UPDATE|DELETE FROM) (?!notes|plays)", sql)
        if writes_down is None:  # what a service writes into a SHARED table is there for others
            full.run("sven", sql)


def test_the_twin_that_is_allowed_shows_the_marks(labs: tuple[Lab, Lab]) -> None:
    """The marks are there to be found: without isolation the tests above would fail."""
    full, _ = labs
    full.start_anew()
    own = full.sessions["mia"].execute("SELECT v FROM notes").rows()
    assert MARKS["mia"] in repr(own)
    everything = full.root.execute("SELECT * FROM all_users('lab.notes')").rows()
    assert all(MARKS[user] in repr(everything) for user in ("mia", "tom", "sven"))
    acted = full.sessions["sven"].execute("EXECUTE AS USER 'tom' (SELECT v FROM notes)").rows()
    assert MARKS["tom"] in repr(acted)
    assert MARKS["root"] in repr(full.sessions["sven"].execute("SELECT v FROM plans").rows())


def test_stats_manifest_and_plans_are_those_of_the_own_scope(labs: tuple[Lab, Lab]) -> None:
    for lab in labs:
        lab.start_anew()
        finished(lab.root, "STORAGE FLUSH TABLE notes")
        lab.sessions["mia"].execute("INSERT INTO notes VALUES (9, 'x', 1)")
    answers = []
    for lab in labs:
        mia = lab.sessions["mia"]
        stats = mia.execute("SHOW STATS FOR TABLE notes").rows()[0]
        manifest = [(*row[:3], row[4]) for row in mia.execute("SHOW MANIFEST").rows()]
        plan = mia.execute("EXPLAIN SELECT * FROM notes WHERE id > 1").rows()
        answers.append(((*stats[:6], stats[7], stats[10]), manifest, plan))
    assert answers[0] == answers[1]
