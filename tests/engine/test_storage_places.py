"""Where segments go: templates, storages of users, rebuilds, and storages out of reach."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from storage_places import SECRET, VAULT, check_rows, described, moving, places

from kalamdb_lab.engine.check import check_database
from kalamdb_lab.engine.rebuild import rebuild_database
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import KalamError
from kalamdb_lab.testing.jobs import finished


@pytest.fixture
def lab(tmp_path: Path, fresh: Any) -> Path:
    """The directory of `fresh`, which has the users mia and tom."""
    fresh.session().execute(
        "CREATE USER 'mia' INTERNAL ROLE user; CREATE USER tom INTERNAL ROLE user"
    )
    return tmp_path / "lab.kalam"


@pytest.fixture
def root(lab: Path, fresh: Any) -> Session:
    session: Session = fresh.session()
    return session


# --- templates ------------------------------------------------------------------------------------


def test_segments_follow_the_template_of_their_kind(root: Session, lab: Path, fresh: Any) -> None:
    root.execute(VAULT)
    root.execute(
        "CREATE USER TABLE notes (id INT PRIMARY KEY) WITH (STORAGE_ID = 'vault');"
        "CREATE TABLE plans (id INT) WITH (STORAGE_ID = 'vault'); INSERT INTO plans VALUES (1)"
    )
    fresh.session("mia").execute("INSERT INTO notes VALUES (1)")
    fresh.session("tom").insert("notes", {"id": list(range(9))})  # a segment at once
    finished(root, "STORAGE FLUSH ALL IN studio")
    found = places(lab)
    assert "vault/studio/plans" in found
    shards = {place.split("/")[4]: place.split("/")[3] for place in found - {"vault/studio/plans"}}
    assert set(shards) == {"mia", "tom"}
    assert all(shard.startswith("shard_") for shard in shards.values())


def test_the_count_of_shards_is_obeyed(root: Session, lab: Path) -> None:
    root.execute(f"{VAULT} CONFIG '{{\"shards\": 1}}'")
    root.execute("CREATE USER TABLE t (id INT PRIMARY KEY) WITH (STORAGE_ID = 'vault')")
    for user in "abcdefgh":
        root.execute(f"EXECUTE AS USER '{user}' (INSERT INTO t VALUES (1))")
    finished(root, "STORAGE FLUSH TABLE t")
    assert {place.split("/")[3] for place in places(lab)} == {"shard_0"}


def test_a_changed_template_holds_for_new_segments_and_old_ones_stay_readable(
    root: Session, lab: Path, fresh: Any, opener: Any
) -> None:
    mia = fresh.session("mia")
    rows = moving(root, mia)
    old, new = sorted(places(lab))
    assert old.startswith("vault/studio/notes/shard_")
    assert new == "vault/u/studio/notes/mia"
    assert places(lab, "manifest.json") == {old, new}
    check_rows(mia, "notes", rows)
    report = check_database(lab)
    assert (report.is_sound, report.orphans) == (True, 0)
    fresh.database.close()
    again = opener(lab, fresh.clock)
    check_rows(again.session("mia"), "notes", rows)
    # Keys of rows in the old place are taken, in the new one too.
    for key in (3, 4):
        with pytest.raises(KalamError, match="Duplicate primary key"):
            again.session("mia").execute(f"INSERT INTO notes VALUES ({key}, '')")
    finished(again.session(), "STORAGE COMPACT TABLE notes")
    check_rows(again.session("mia"), "notes", rows)
    manifest = again.session().execute("SHOW MANIFEST FOR TABLE notes").rows()
    assert len(manifest) == 1, "compaction moves what it merges"
    assert (lab / new / f"{manifest[0][3]}.parquet").exists()
    again.database.close()
    assert check_database(lab).is_sound


# --- rebuilds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("compacted", [False, True])
def test_a_rebuild_finds_both_places(
    root: Session, lab: Path, fresh: Any, opener: Any, compacted: bool
) -> None:
    mia = fresh.session("mia")
    rows = moving(root, mia)
    if compacted:
        finished(root, "STORAGE COMPACT TABLE notes")
    segments = len(root.execute("SHOW MANIFEST FOR TABLE notes").rows())
    fresh.database.close()
    for file in lab.glob("catalog.sqlite*"):
        file.unlink()
    rebuilt = rebuild_database(lab)
    assert (rebuilt.is_whole, rebuilt.rows, rebuilt.segments) == (True, len(rows), segments)
    again = opener(lab, fresh.clock)
    check_rows(again.session("mia"), "notes", rows)
    assert described(again.session())["vault"][5] == "u/{namespace}/{tableName}/{userId}"
    again.database.close()
    assert check_database(lab).is_sound


def test_tables_that_share_a_directory_lose_nothing_by_a_rebuild(
    root: Session, lab: Path, fresh: Any, opener: Any
) -> None:
    root.execute(
        "CREATE STORAGE vault TYPE filesystem PATH 'vault'"
        " SHARED_TABLES_TEMPLATE 'x/{namespace}/{tableName}';"
        "CREATE NAMESPACE a; CREATE NAMESPACE x;"
        "CREATE TABLE a.tom (id INT PRIMARY KEY) WITH (STORAGE_ID = 'vault');"
        "CREATE USER TABLE x.a (id INT PRIMARY KEY) WITH (STORAGE_ID = 'vault')"
    )
    tables = {"a.tom": root, "x.a": fresh.session("tom")}
    for change in ("INSERT INTO {} VALUES (1), (2)", "DELETE FROM {} WHERE id = 1"):
        for table, session in tables.items():
            session.execute(change.format(table))
            finished(root, f"STORAGE FLUSH TABLE {table}")
    assert {file.parent for file in lab.rglob("vault/**/*.parquet")} == {lab / "vault/x/a/tom"}
    fresh.database.close()
    for file in lab.glob("catalog.sqlite*"):
        file.unlink()
    rebuilt = rebuild_database(lab)
    assert (rebuilt.is_whole, rebuilt.rows) == (True, 2)
    again = opener(lab, fresh.clock)
    check_rows(again.session(), "a.tom", [(2,)])
    check_rows(again.session("tom"), "x.a", [(2,)])
    again.database.close()
    assert check_database(lab).is_sound


def test_a_rebuild_waits_for_a_storage_that_is_out_of_reach(
    root: Session, lab: Path, fresh: Any, opener: Any
) -> None:
    rows = moving(root, fresh.session("mia"))
    fresh.database.close()
    for file in lab.glob("catalog.sqlite*"):
        file.unlink()
    (lab / "vault").rename(lab.parent / "away")
    with pytest.raises(KalamError, match=r"^Storage 'vault' is unreachable$"):
        rebuild_database(lab)
    assert not list(lab.glob("catalog.sqlite*"))
    (lab.parent / "away").rename(lab / "vault")
    assert rebuild_database(lab).is_whole
    again = opener(lab, fresh.clock)
    check_rows(again.session("mia"), "notes", rows)
    again.database.close()


def test_credentials_survive_a_rebuild(root: Session, lab: Path, fresh: Any, opener: Any) -> None:
    root.execute(
        f"CREATE STORAGE nas TYPE filesystem PATH 'nas' CREDENTIALS '{{\"k\": \"{SECRET}\"}}'"
    )
    finished(root, "CREATE TABLE t (id INT); INSERT INTO t VALUES (1); STORAGE FLUSH TABLE t")
    fresh.database.close()
    for file in lab.glob("catalog.sqlite*"):
        file.unlink()
    rebuild_database(lab)
    again = opener(lab, fresh.clock)
    definition = again.database._context.catalog.storages.get("nas")
    assert definition.credentials == f'{{"k": "{SECRET}"}}'
    assert described(again.session())["nas"][6] == "***"
    again.database.close()


# --- storages of users ----------------------------------------------------------------------------


@pytest.fixture
def own(root: Session) -> Session:
    """Storages vault and attic, tables that follow the user's storage and one that does not."""
    root.execute(
        "CREATE STORAGE vault TYPE filesystem PATH 'vault';"
        "CREATE STORAGE attic TYPE filesystem PATH 'attic';"
        "CREATE USER TABLE notes (id INT PRIMARY KEY)"
        " WITH (STORAGE_ID = 'vault', USE_USER_STORAGE = TRUE);"
        "CREATE USER TABLE fixed (id INT PRIMARY KEY)"
    )
    return root


def modes(root: Session) -> dict[str, tuple[str, str | None]]:
    found = root.execute("SELECT user_id, storage_mode, storage_id FROM system.users").rows()
    return {user: (mode, storage) for user, mode, storage in found}


def test_rows_of_a_user_go_to_its_own_storage_where_the_table_follows_it(
    own: Session, lab: Path, fresh: Any, opener: Any
) -> None:
    own.set_user_storage("mia", "Attic")
    assert modes(own) == {
        "mia": ("user", "attic"), "root": ("table", None), "tom": ("table", None),
    }  # fmt: skip
    mia, tom = fresh.session("mia"), fresh.session("tom")
    for session in (mia, tom):
        session.execute("INSERT INTO notes VALUES (1); INSERT INTO fixed VALUES (1)")
    finished(own, "STORAGE FLUSH ALL IN studio")
    first = {"attic/studio/notes/mia", "vault/studio/notes/tom"}
    first |= {f"storage/studio/fixed/{user}" for user in ("mia", "tom")}
    assert places(lab) == first
    own.set_user_storage("mia", None)
    assert modes(own)["mia"] == ("table", None)
    mia.execute("INSERT INTO notes VALUES (2); DELETE FROM notes WHERE id = 1")
    finished(own, "STORAGE FLUSH TABLE notes")
    assert places(lab) == first | {"vault/studio/notes/mia"}
    check_rows(mia, "notes", [(2,)])
    assert check_database(lab).is_sound
    fresh.database.close()
    for file in lab.glob("catalog.sqlite*"):
        file.unlink()
    assert rebuild_database(lab).is_whole
    again = opener(lab, fresh.clock)
    check_rows(again.session("mia"), "notes", [(2,)])
    check_rows(again.session("tom"), "notes", [(1,)])
    again.database.close()


def test_only_system_sets_the_storage_of_a_user(own: Session, fresh: Any) -> None:
    own.execute("CREATE USER dora INTERNAL ROLE dba")
    for user in ("mia", "dora"):
        for target in ("mia", "nobody"):
            with pytest.raises(
                KalamError, match=r"^Only 'system' role can manage users$"
            ) as caught:
                fresh.session(user).set_user_storage(target, "attic")
            assert caught.value.code == "PERMISSION_DENIED"
    with pytest.raises(KalamError, match=r"^User 'nobody' not found$"):
        own.set_user_storage("nobody", "attic")
    with pytest.raises(KalamError, match=r"^Storage 'nas' not found$"):
        own.set_user_storage("mia", "nas")
    assert modes(own)["mia"] == ("table", None)
    own.execute("BEGIN")
    with pytest.raises(KalamError, match="not allowed inside a transaction"):
        own.set_user_storage("mia", "attic")
    own.execute("ROLLBACK")
    own.set_user_storage("mia", "attic")
    audited = own.execute(
        "SELECT actor_user_id, target, outcome FROM system.audit_logs WHERE action = 'ALTER_USER'"
        " AND target = 'mia' ORDER BY timestamp"
    ).rows()
    assert ("root", "mia", "ok") in audited
    assert ("dora", "mia", "refused") in audited


def test_a_storage_is_not_dropped_while_a_user_or_rows_are_in_it(
    own: Session, lab: Path, fresh: Any, refused: Any
) -> None:
    own.set_user_storage("mia", "attic")
    fresh.session("mia").execute("INSERT INTO notes VALUES (1)")
    finished(own, "STORAGE FLUSH TABLE notes")
    assert str(refused(own, "DROP STORAGE attic")) == "Storage 'attic' is in use by user 'mia'"
    assert (
        str(refused(own, "DROP STORAGE vault")) == "Storage 'vault' is in use by table studio.notes"
    )
    own.set_user_storage("mia", None)
    assert (
        str(refused(own, "DROP STORAGE attic")) == "Storage 'attic' is in use by table studio.notes"
    )
    check_rows(fresh.session("mia"), "notes", [(1,)])
    own.execute("DROP TABLE notes; DROP STORAGE attic; DROP STORAGE vault")
    assert set(described(own)) == {"local"}
    assert places(lab) == set()


# --- out of reach ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["gone", "unmounted"])
def test_an_unreachable_storage_is_named_and_the_others_serve(
    own: Session, lab: Path, fresh: Any, refused: Any, loss: str
) -> None:
    own.set_user_storage("mia", "attic")
    mia, tom = fresh.session("mia"), fresh.session("tom")
    for session in (mia, tom):
        session.execute("INSERT INTO notes VALUES (1)")
    finished(own, "STORAGE FLUSH TABLE notes")
    fresh.database._context.reader._cache.clear()
    (lab / "attic").rename(lab.parent / "away")
    if loss == "unmounted":
        (lab / "attic").mkdir()
    error = refused(mia, "SELECT * FROM notes")
    assert (error.code, str(error)) == ("STORAGE", "Storage 'attic' is unreachable")
    check_rows(tom, "notes", [(1,)])
    assert own.execute("STORAGE CHECK attic EXTENDED").rows() == [
        ("attic", "unreachable", "Storage 'attic' is unreachable", None, None, None, 1)
    ]
    assert own.execute("STORAGE CHECK vault").rows()[0][1] == "healthy"
    assert {t.name for t in check_database(lab).affected} == {"studio.notes"}
    # What cannot be flushed stays hot, and other tables are worked on as ever.
    mia.execute("INSERT INTO notes VALUES (2); INSERT INTO fixed VALUES (2)")
    told = finished(own, "STORAGE FLUSH TABLE notes").rows()[0][3:]
    assert told == ("failed", "Storage 'attic' is unreachable")
    finished(own, "STORAGE FLUSH TABLE fixed; STORAGE COMPACT TABLE fixed")
    check_rows(mia, "fixed", [(2,)])
    shutil.rmtree(lab / "attic", ignore_errors=True)
    (lab.parent / "away").rename(lab / "attic")
    check_rows(mia, "notes", [(1,), (2,)])
    finished(own, "STORAGE FLUSH TABLE notes")
    check_rows(mia, "notes", [(1,), (2,)])


def test_an_unreachable_storage_does_not_hold_the_clean_up_of_others(
    own: Session, lab: Path, fresh: Any
) -> None:
    own.set_user_storage("mia", "attic")
    for user in ("mia", "tom"):
        fresh.session(user).execute("INSERT INTO notes VALUES (1)")
    finished(own, "STORAGE FLUSH TABLE notes")
    (lab / "attic").rename(lab.parent / "away")
    own.execute("DROP TABLE notes")
    fresh.clock.advance(3_600)
    own.execute("CREATE TABLE t (id INT); DROP TABLE t")
    assert "vault/studio/notes/tom" not in places(lab)
    (lab.parent / "away").rename(lab / "attic")
    own.execute("CREATE TABLE t (id INT); DROP TABLE t")
    assert places(lab) == set()


@pytest.mark.parametrize(
    "path", ["catalog.sqlite-journal", "catalog.sqlite/x", "jobs.log", "NODE-1"]
)
def test_a_storage_never_lies_where_the_database_keeps_its_files(
    fresh: Any, refused: Any, path: str
) -> None:
    s = fresh.session()
    error = refused(s, f"CREATE STORAGE j TYPE filesystem PATH '{path}'")
    assert str(error) == f"PATH '{path}' is where the database keeps its own files"
    error = refused(s, f"BACKUP DATABASE studio TO '{path}'")
    assert str(error) == f"'{path}' is where the database keeps its own files"
    s.execute("CREATE STORAGE j TYPE filesystem PATH 'catalogs'")
