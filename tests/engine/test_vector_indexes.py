"""CREATE INDEX and DROP INDEX as definitions: who may, what is refused, what is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kalamdb_lab.config import Settings
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import KalamError
from kalamdb_lab.testing.jobs import finished
from kalamdb_lab.vectors.probing import FEWEST_ROWS

TRACKS = "CREATE USER TABLE tracks (id INT PRIMARY KEY, genre TEXT, mood EMBEDDING(2))"


def listed(session: Session, table: str = "tracks") -> list[dict[str, Any]]:
    """The indexes of a table as ``system.tables`` shows them."""
    (row,) = session.execute(
        f"SELECT options FROM system.tables WHERE namespace_id = 'studio' AND table_name = '{table}'"
    ).rows()
    found: list[dict[str, Any]] = json.loads(row[0]).get("indexes", [])
    return found


def refused(session: Session, sql: str) -> tuple[str, str]:
    with pytest.raises(KalamError) as caught:
        session.execute(sql)
    return caught.value.code, str(caught.value)


def said(session: Session, sql: str) -> str:
    """The message of a statement, without the id of a job."""
    ((message,),) = finished(session, sql).rows()
    head, found, tail = str(message).partition(" CO-")
    return f"{head} CO-...{tail[8:]}" if found else head


@pytest.fixture
def tracks(s: Session) -> Session:
    s.execute(TRACKS)
    return s


def test_an_index_is_named_after_its_table_and_column(tracks: Session) -> None:
    message = said(tracks, "CREATE INDEX ON tracks USING ANN (MOOD)")
    assert message == "Index 'studio.tracks_mood_ann' created; job CO-... builds it"
    assert listed(tracks) == [{"name": "tracks_mood_ann", "column": "mood", "metric": "cosine"}]


def test_options_are_kept_and_shown(tracks: Session) -> None:
    options = "(METRIC = 'Inner_Product', LISTS = 64, PROBES = 8)"
    finished(tracks, f"CREATE INDEX Moods ON studio.tracks USING ANN (mood) WITH {options}")
    assert listed(tracks) == [
        {
            "name": "moods",
            "column": "mood",
            "metric": "inner_product",
            "lists": 64,
            "probes": 8,
        }
    ]


def test_alter_table_creates_and_drops_an_index_by_its_column(tracks: Session) -> None:
    finished(tracks, "ALTER TABLE tracks CREATE VECTOR INDEX mood USING L2")
    assert listed(tracks) == [{"name": "tracks_mood_ann", "column": "mood", "metric": "l2"}]
    assert said(tracks, "ALTER TABLE tracks DROP INDEX Mood") == (
        "Index 'studio.tracks_mood_ann' dropped"
    )
    assert listed(tracks) == []


def test_if_exists_and_if_not_exists_do_nothing_and_say_so(tracks: Session) -> None:
    assert said(tracks, "DROP INDEX IF EXISTS moods") == (
        "Index 'studio.moods' does not exist; nothing was done"
    )
    finished(tracks, "CREATE INDEX IF NOT EXISTS moods ON tracks USING ANN (mood)")
    for name in ("moods", "MOODS"):
        sql = f"CREATE INDEX IF NOT EXISTS {name} ON tracks USING ANN (mood)"
        assert said(tracks, sql) == "Index 'studio.moods' already exists; nothing was done"
    assert said(tracks, "DROP INDEX IF EXISTS Moods") == "Index 'studio.moods' dropped"


def test_an_index_is_looked_up_in_the_namespace_of_the_session_or_the_one_named(
    studio: Any, tracks: Session
) -> None:
    elsewhere = studio.session(namespace="default")
    finished(elsewhere, "CREATE INDEX moods ON studio.tracks USING ANN (mood)")
    assert refused(elsewhere, "DROP INDEX moods") == (
        "NOT_FOUND",
        "Index 'default.moods' not found",
    )
    assert said(elsewhere, "DROP INDEX studio.moods") == "Index 'studio.moods' dropped"


@pytest.mark.parametrize(
    ("sql", "code", "message"),
    [
        (
            "CREATE INDEX ON tracks USING ANN (genre)",
            "INVALID_DEFINITION",
            "Column 'genre' is not an EMBEDDING column",
        ),
        (
            "CREATE INDEX ON tracks USING ANN (mod)",
            "NOT_FOUND",
            "Column 'mod' not found in studio.tracks; did you mean 'mood'?",
        ),
        (
            "CREATE INDEX ON tracks USING ANN (_seq)",
            "INVALID_DEFINITION",
            "_seq is a system column and cannot be changed",
        ),
        ("CREATE INDEX ON nowhere USING ANN (a)", "NOT_FOUND", "Table 'studio.nowhere' not found"),
        (
            "CREATE INDEX ON tracks USING ANN (mood) WITH (SEED = 1)",
            "INVALID_OPTION",
            "Unknown index option 'SEED'",
        ),
        (
            "CREATE INDEX ON tracks USING ANN (mood) WITH (LISTS = 1, lists = 1)",
            "INVALID_OPTION",
            "Index option 'LISTS' appears twice",
        ),
        (
            "CREATE INDEX ON tracks USING ANN (mood) WITH (METRIC = 'hamming')",
            "INVALID_OPTION",
            "Unknown METRIC 'hamming'; use 'cosine', 'l2' or 'inner_product'",
        ),
        (
            "CREATE INDEX ON tracks USING ANN (mood) WITH (LISTS = 0)",
            "INVALID_OPTION",
            "LISTS must be a whole number from 1 to 65536",
        ),
        (
            "CREATE INDEX ON tracks USING ANN (mood) WITH (PROBES = 'many')",
            "INVALID_OPTION",
            "PROBES must be a whole number from 1 to 65536",
        ),
        (
            "CREATE INDEX ON tracks USING ANN (mood) WITH (LISTS = 8, PROBES = 9)",
            "INVALID_OPTION",
            "PROBES must not exceed LISTS, which is 8",
        ),
        (
            "CREATE INDEX ON all_moods USING ANN (mood)",
            "NOT_SUPPORTED",
            "studio.all_moods is a view and cannot be indexed",
        ),
        (
            "CREATE INDEX ON plays USING ANN (mood)",
            "NOT_SUPPORTED",
            "STREAM tables are not indexed: studio.plays",
        ),
        (
            "CREATE INDEX ON system.jobs USING ANN (job_id)",
            "NOT_SUPPORTED",
            "System table system.jobs cannot be indexed",
        ),
        (
            "CREATE INDEX ON found USING ANN (id)",
            "NOT_SUPPORTED",
            "studio.found is a registered table and cannot be indexed",
        ),
        ("DROP INDEX moods", "NOT_FOUND", "Index 'studio.moods' not found"),
        ("DROP INDEX system.moods", "INVALID_NAME", "Namespace 'system' is reserved"),
        (
            "ALTER TABLE tracks DROP INDEX mood",
            "NOT_FOUND",
            "Index 'mood' not found in studio.tracks",
        ),
    ],
)
def test_what_cannot_be_indexed_is_refused(
    studio: Any, tracks: Session, sql: str, code: str, message: str
) -> None:
    (Path(studio.database.path) / "found.csv").write_text("id\n1\n")
    tracks.execute("CREATE VIEW all_moods AS SELECT mood FROM tracks")
    tracks.execute("REGISTER TABLE found FROM 'found.csv'")
    tracks.execute(
        "CREATE STREAM TABLE plays (id INT PRIMARY KEY, mood EMBEDDING(2)) WITH (TTL_SECONDS = 9)"
    )
    assert refused(tracks, sql) == (code, message)
    assert listed(tracks) == []


def test_a_name_is_taken_once_in_a_namespace_and_a_column_has_one_index(tracks: Session) -> None:
    tracks.execute("CREATE TABLE books (id INT, plot EMBEDDING(3), cover EMBEDDING(3))")
    finished(tracks, "CREATE INDEX one ON tracks USING ANN (mood)")
    assert refused(tracks, "CREATE INDEX ONE ON books USING ANN (plot)") == (
        "ALREADY_EXISTS",
        "Index 'studio.one' already exists",
    )
    assert refused(tracks, "CREATE INDEX two ON tracks USING ANN (mood)") == (
        "INVALID_DEFINITION",
        "Column 'mood' of studio.tracks has an index already: one; drop it first",
    )
    finished(tracks, "CREATE INDEX ON books USING ANN (plot)")
    finished(tracks, "CREATE INDEX ON books USING ANN (cover)")
    assert [index["name"] for index in listed(tracks, "books")] == [
        "books_plot_ann",
        "books_cover_ann",
    ]
    assert refused(tracks, "DROP INDEX books_plot_an") == (
        "NOT_FOUND",
        "Index 'studio.books_plot_an' not found; did you mean 'studio.books_plot_ann'?",
    )


def test_a_column_whose_name_is_no_name_needs_one_for_its_index(s: Session) -> None:
    s.execute('CREATE TABLE books (id INT, "the plot" EMBEDDING(3))')
    code, message = refused(s, 'CREATE INDEX ON books USING ANN ("the plot")')
    assert (code, message.split(":")[0]) == ("INVALID_NAME", "Invalid name 'books_the plot_ann'")
    finished(s, 'CREATE INDEX plots ON books USING ANN ("the plot")')
    assert listed(s, "books")[0]["column"] == "the plot"


def test_an_index_follows_a_renamed_column_and_goes_with_a_dropped_one(tracks: Session) -> None:
    finished(tracks, "CREATE INDEX moods ON tracks USING ANN (mood)")
    tracks.execute("ALTER TABLE tracks RENAME COLUMN mood TO feeling")
    assert listed(tracks) == [{"name": "moods", "column": "feeling", "metric": "cosine"}]
    tracks.execute("ALTER TABLE tracks DROP COLUMN feeling")
    assert listed(tracks) == []
    tracks.execute("ALTER TABLE tracks ADD COLUMN feeling EMBEDDING(2)")
    assert listed(tracks) == []
    finished(tracks, "CREATE INDEX moods ON tracks USING ANN (feeling)")
    tracks.execute("ALTER TABLE tracks MODIFY COLUMN feeling TEXT")
    assert listed(tracks) == [], "texts are not searched"


def test_an_index_goes_with_its_table_and_its_name_is_free_then(tracks: Session) -> None:
    finished(tracks, "CREATE INDEX moods ON tracks USING ANN (mood)")
    tracks.execute("DROP TABLE tracks")
    assert refused(tracks, "DROP INDEX moods") == ("NOT_FOUND", "Index 'studio.moods' not found")
    tracks.execute(TRACKS)
    assert listed(tracks) == []
    finished(tracks, "CREATE INDEX moods ON tracks USING ANN (mood)")


def test_an_index_is_no_new_schema_version(tracks: Session) -> None:
    finished(tracks, "CREATE INDEX ON tracks USING ANN (mood); DROP INDEX tracks_mood_ann")
    assert len(tracks.execute("DESCRIBE TABLE tracks HISTORY").rows()) == 1


def test_definitions_of_indexes_outlive_a_restart(fresh: Any, opener: Any) -> None:
    session = fresh.session()
    session.execute(TRACKS)
    finished(session, "CREATE INDEX moods ON tracks USING ANN (mood) WITH (LISTS = 5)")
    fresh.database.close()
    again = opener(Path(fresh.database.path))
    try:
        assert listed(again.session()) == [
            {"name": "moods", "column": "mood", "metric": "cosine", "lists": 5}
        ]
        assert said(again.session(), "DROP INDEX moods") == "Index 'studio.moods' dropped"
    finally:
        again.database.close()


@pytest.mark.parametrize(
    "sql", ["CREATE INDEX ON tracks USING ANN (mood)", "DROP INDEX tracks_mood_ann"]
)
def test_indexes_are_ddl(studio: Any, tracks: Session, sql: str) -> None:
    if sql.startswith("DROP"):
        finished(tracks, "CREATE INDEX ON tracks USING ANN (mood)")
    before = listed(tracks)
    for user, role in (("mia", "user"), ("sven", "service")):
        denied = f"Role '{role}' cannot execute DDL statements; it needs dba or system"
        assert refused(studio.session(user), sql) == ("PERMISSION_DENIED", denied)
        missing = sql.replace("tracks", "planets")
        assert refused(studio.session(user), missing) == ("PERMISSION_DENIED", denied)
    tracks.execute("BEGIN")
    assert refused(tracks, sql) == (
        "TRANSACTION_STATE",
        "DDL is not allowed inside a transaction",
    )
    tracks.execute("ROLLBACK")
    assert listed(tracks) == before
    finished(studio.session("dora"), sql)
    assert listed(tracks) != before


def test_indexes_leave_audit_rows_with_their_table_or_name(studio: Any, tracks: Session) -> None:
    def rows() -> list[tuple[Any, ...]]:
        return tracks.execute(
            "SELECT action, target, outcome, actor_user_id FROM system.audit_logs "
            "WHERE action IN ('CREATE_INDEX', 'DROP_INDEX') ORDER BY audit_id"
        ).rows()

    before = len(rows())
    finished(studio.session("dora"), "CREATE INDEX ON tracks USING ANN (mood)")
    finished(tracks, "DROP INDEX tracks_mood_ann")
    finished(tracks, "ALTER TABLE tracks CREATE INDEX mood USING DOT")
    finished(tracks, "ALTER TABLE tracks DROP INDEX mood")
    refused(tracks, "ALTER TABLE tracks DROP INDEX mood")
    assert rows()[before:] == [
        ("CREATE_INDEX", "studio.tracks", "ok", "dora"),
        ("DROP_INDEX", "studio.tracks_mood_ann", "ok", "root"),
        ("CREATE_INDEX", "studio.tracks", "ok", "root"),
        ("DROP_INDEX", "studio.tracks", "ok", "root"),
        ("DROP_INDEX", "studio.tracks", "failed", "root"),
    ]


def test_an_index_is_built_where_a_search_reads_it() -> None:
    """Neither segments that are searched without one, nor some that could have one and do not."""
    assert Settings().index_from_rows == FEWEST_ROWS
