"""What Tab offers, to whom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

import kalamdb_lab as kalam
from kalamdb_lab.cli.completion import SqlCompleter
from kalamdb_lab.engine.session import Session


@pytest.fixture(scope="module")
def database(made_lab: Path) -> Iterator[kalam.engine.database.Database]:
    with kalam.open(made_lab) as db:
        yield db


@pytest.fixture
def session(database) -> Session:
    return database.session()


def offered(session: Session, text: str) -> list[str]:
    """Return what Tab offers at the ``|`` of a text."""
    before, _, after = text.partition("|")
    document = Document(before + after, len(before))
    found = SqlCompleter(session).get_completions(document, CompleteEvent())
    return [completion.text for completion in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SEL|", ["SELECT"]),
        ("sel|", ["select"]),
        ("SELECT * FROM pl|", ["plans"]),
        ("SELECT * FROM PL|", ["plans"]),
        ("SELECT t| FROM plans", ["title", "table", "tables", "tblproperties", "then", "to", "transaction", "true", "type"]),
        ("SELECT p.co| FROM plans AS p", ["cost"]),
        ("SELECT plans.| FROM plans", ["id", "title", "cost"]),
        ("SELECT * FROM air.|", ["notes"]),
        ("SELECT bo| FROM air.notes", ["body"]),
        ("USE ai|", ["air"]),
        ("SELECT 'pl|", []),
        ("\\d pl|", []),
        ("SELECT gone.| FROM gone", []),
    ],
)  # fmt: skip
def test_keywords_and_names_are_offered(session: Session, text: str, expected: list[str]) -> None:
    assert offered(session, text) == expected


def test_names_follow_the_session(session: Session) -> None:
    assert offered(session, "SELECT * FROM note|") == []
    session.execute("USE air")
    assert offered(session, "SELECT * FROM note|") == ["notes"]
    session.execute('CREATE TABLE notebook ("two words" INT, plain INT)')
    assert offered(session, "SELECT * FROM note|") == ["notebook", "notes"]
    assert offered(session, "SELECT notebook.| FROM notebook") == ['"two words"', "plain"]
    session.execute("DROP TABLE notebook")
    assert offered(session, "SELECT * FROM note|") == ["notes"]


def test_nobody_is_offered_what_they_may_not_know(database, session: Session) -> None:
    mia = database.session("mia")
    for text, names in (
        ("USE sy|", ["system"]),
        ("SELECT * FROM system.au|", ["audit_logs"]),
        ("SELECT last_l| FROM system.users", ["last_login_at"]),
    ):
        assert offered(session, text) == names
        assert offered(mia, text) == []


def test_a_session_that_has_ended_offers_nothing(database) -> None:
    session = database.session()
    session.close()
    assert offered(session, "SELECT * FROM pl|") == []
