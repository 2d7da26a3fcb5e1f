"""Storages: defined, changed, dropped, checked; where segments go and where they stay."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from kalamdb_lab.engine.check import check_database
from kalamdb_lab.engine.rebuild import rebuild_database
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import KalamError

SECRET = "s3cr3t-k3y"
VAULT = (
    "CREATE STORAGE vault TYPE 'filesystem' PATH 'vault'"
    " USER_TABLES_TEMPLATE '{namespace}/{tableName}/{shard}/{userId}'"
)
SHARED, USER = "{namespace}/{tableName}", "{namespace}/{tableName}/{userId}"


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


def places(lab: Path, pattern: str = "*.parquet") -> set[str]:
    """Directories that hold segments of tables in studio, relative to the database."""
    found = (file.parent.relative_to(lab).as_posix() for file in lab.rglob(pattern))
    return {place for place in found if "studio" in place}


def described(session: Session) -> dict[str, tuple[Any, ...]]:
    return {row[0]: row[1:] for row in session.execute("SHOW STORAGES").rows()}


# --- definitions ------------------------------------------------------------------------------


def test_local_is_there_from_the_start_and_stays(root: Session, refused: Any) -> None:
    assert described(root) == {"local": ("local", "filesystem", None, "", SHARED, USER, None)}
    assert str(refused(root, "DROP STORAGE local")) == "Storage 'local' cannot be dropped"
    assert str(refused(root, "DROP STORAGE IF EXISTS LOCAL")) == "Storage 'local' cannot be dropped"
    again = refused(root, "CREATE STORAGE local TYPE filesystem PATH 'x'")
    assert str(again) == "Storage 'local' already exists"
    assert root.execute("STORAGE CHECK local").rows()[0][:2] == ("local", "healthy")


def test_clauses_stand_in_any_order_and_defaults_fill_the_rest(root: Session, lab: Path) -> None:
    root.execute(
        "CREATE STORAGE nas CONFIG '{\"shards\": 4}' SHARED_TABLES_TEMPLATE 's/{namespace}/{tableName}'"
        " BASE_DIRECTORY 'disks/nas' DESCRIPTION 'Slow' TYPE FileSystem NAME 'The NAS'"
        f' CREDENTIALS \'{{"key": "{SECRET}"}}\''
    )
    root.execute("CREATE STORAGE Plain TYPE 'filesystem' PATH 'plain'")
    assert described(root) == {
        "local": ("local", "filesystem", None, "", SHARED, USER, None),
        "nas": ("The NAS", "filesystem", "Slow", "disks/nas", f"s/{SHARED}", USER, "***"),
        "plain": ("plain", "filesystem", None, "plain", SHARED, USER, None),
    }
    row = root.execute("SELECT * FROM system.storages WHERE storage_id = 'nas'")
    assert row.columns == [
        "storage_id", "storage_name", "storage_type", "description", "base_directory",
        "shared_tables_template", "user_tables_template", "credentials", "config", "created_at",
        "updated_at",
    ]  # fmt: skip
    assert row.rows()[0][7:9] == ("***", '{"shards": 4}')
    assert (lab / "disks" / "nas").is_dir()


@pytest.mark.parametrize(
    ("clauses", "message"),
    [
        ("TYPE 's3' BUCKET 'b' REGION 'eu'", "Storage type 's3' is not supported yet"),
        ("TYPE gcs BUCKET 'b'", "Storage type 'gcs' is not supported yet"),
        ("TYPE 'azure' PATH 'x'", "Storage type 'azure' is not supported yet"),
        ("TYPE 'tape' PATH 'x'", "Unknown storage type 'tape'; use filesystem"),
        ("TYPE filesystem PATH 'x' BUCKET 'b'", "BUCKET is not supported for filesystem storages"),
        ("TYPE filesystem PATH 'x' REGION ''", "REGION is not supported for filesystem storages"),
        ("TYPE filesystem", None),
        ("PATH 'x'", None),
        (f"TYPE filesystem PATH 'x' CREDENTIALS '[\"{SECRET}\"]'",
         "CREDENTIALS must be a JSON object"),
        (f"TYPE filesystem PATH 'x' CREDENTIALS '{SECRET}'", "CREDENTIALS must be a JSON object"),
        ("TYPE filesystem PATH 'x' CONFIG 'null'", "CONFIG must be a JSON object"),
        ("TYPE filesystem PATH 'x' CONFIG '{\"shards\": \"many\"}'",
         "CONFIG shards must be a whole number, 1 to 65,536"),
        ("TYPE filesystem PATH 'x' CONFIG '{\"replicas\": 3}'",
         "Unknown CONFIG key 'replicas'; use shards"),
        ("TYPE filesystem PATH 'x' USER_TABLES_TEMPLATE '{namespace}/{tableName}'",
         "USER_TABLES_TEMPLATE must contain {userId}"),
        ("TYPE filesystem PATH 'x' SHARED_TABLES_TEMPLATE '{tableName}/{namespace}'",
         "SHARED_TABLES_TEMPLATE must contain {namespace} before {tableName}"),
        ("TYPE filesystem PATH 'x' SHARED_TABLES_TEMPLATE '{namespace}/{tableName}/{userId}'",
         "SHARED_TABLES_TEMPLATE does not take {userId}"),
        ("TYPE filesystem PATH 'x' SHARED_TABLES_TEMPLATE '/{namespace}/{tableName}'",
         "SHARED_TABLES_TEMPLATE must be a relative path without '..'"),
        ("TYPE filesystem PATH 'x' PATH 'y'", None),
        ("TYPE filesystem PATH 'x' COLOR 'red'", None),
        ("TYPE filesystem PATH ''", "A filesystem storage needs a PATH"),
        ("TYPE filesystem PATH 's3://bucket/x'", "PATH 's3://bucket/x' is a URL; name a directory"),
        ("TYPE filesystem PATH '~/x'", "PATH '~/x' starts with '~'; write the directory out"),
        ("TYPE filesystem PATH 'a/../../x'", "PATH must not contain '..'"),
        ("TYPE filesystem PATH '.'", "PATH '.' holds the database itself"),
        ("TYPE filesystem PATH 'storage/x'", "PATH 'storage/x' overlaps with storage 'local'"),
        ("TYPE filesystem PATH 'vault'", "PATH 'vault' overlaps with storage 'vault'"),
        ("TYPE filesystem PATH 'vault/x/y'", "PATH 'vault/x/y' overlaps with storage 'vault'"),
        ("TYPE filesystem PATH 'kalam.toml'", "PATH 'kalam.toml' is not a directory"),
        ("TYPE filesystem PATH '/nowhere/x/y'", "PATH '/nowhere/x/y' cannot be used: "
         "the directory it should lie in does not exist"),
    ],
)  # fmt: skip
def test_a_storage_that_cannot_be_is_refused_and_leaves_nothing(
    root: Session, lab: Path, refused: Any, clauses: str, message: str | None
) -> None:
    root.execute(VAULT)
    files, before = set(lab.iterdir()), described(root)
    error = refused(root, f"CREATE STORAGE x {clauses}")
    assert message is None or str(error) == message
    assert SECRET not in str(error)
    assert (set(lab.iterdir()), described(root)) == (files, before)
    root.execute("CREATE STORAGE x TYPE filesystem PATH 'x'")


def test_a_directory_that_holds_the_database_or_files_is_refused(
    root: Session, lab: Path, refused: Any
) -> None:
    (lab.parent / "mine").mkdir()
    (lab.parent / "mine" / "notes.txt").write_text("mine")
    for place, message in {
        lab.parent: "holds the database itself",
        lab / "storage" / "deep": "overlaps with storage 'local'",
        lab.parent / "mine": "is not empty; choose a new or empty directory",
    }.items():
        error = refused(root, f"CREATE STORAGE x TYPE filesystem PATH '{place}'")
        assert str(error) == f"PATH '{place}' {message}"
    place = lab.parent / "yours"
    place.mkdir()
    root.execute(f"CREATE STORAGE x TYPE filesystem PATH '{place}'")
    assert described(root)["x"][3] == str(place), "an absolute path is kept as given"
    # Files of two databases must not meet: each cleans up what it does not list.
    error = refused(root, f"CREATE STORAGE y TYPE filesystem PATH '{place}/below'")
    assert "overlaps" in str(error)


def test_names_follow_the_rules_of_names(root: Session, refused: Any) -> None:
    for name in ('"my disk"', "_disk", "select", "d" * 65):
        assert refused(root, f"CREATE STORAGE {name} TYPE filesystem PATH 'x'").code in (
            "INVALID_NAME",
            "SYNTAX",
        )
    root.execute("CREATE STORAGE \"NAS\" TYPE filesystem PATH 'x'")
    assert set(described(root)) == {"local", "nas"}


def test_what_exists_and_what_does_not_is_said(root: Session, lab: Path, refused: Any) -> None:
    root.execute(VAULT)
    assert str(refused(root, VAULT)) == "Storage 'vault' already exists"
    second = root.execute("CREATE STORAGE IF NOT EXISTS vault TYPE filesystem PATH 'elsewhere'")
    assert str(second.message) == "Storage 'vault' already exists; nothing was done"
    assert not (lab / "elsewhere").exists()
    for sql in ("ALTER STORAGE nas SET NAME 'n'", "DROP STORAGE nas", "STORAGE CHECK nas"):
        assert str(refused(root, sql)) == "Storage 'nas' not found"
    missing = root.execute("DROP STORAGE IF EXISTS nas")
    assert str(missing.message) == "Storage 'nas' does not exist; nothing was done"
    error = refused(root, "CREATE TABLE t (id INT) WITH (STORAGE_ID = 'nas')")
    assert str(error) == "Storage 'nas' not found"
    root.execute("CREATE TABLE t (id INT) WITH (STORAGE_ID = 'Vault')")


def test_alter_changes_what_it_names_and_checks_it(root: Session, refused: Any) -> None:
    root.execute(VAULT)
    root.execute(
        "ALTER STORAGE vault SET NAME 'Big' SET DESCRIPTION 'disk' SET CONFIG '{\"shards\": 2}'"
        " SET SHARED_TABLES_TEMPLATE 'all/{namespace}/{tableName}'"
    )
    assert described(root)["vault"] == (
        "Big", "filesystem", "disk", "vault", f"all/{SHARED}",
        "{namespace}/{tableName}/{shard}/{userId}", None,
    )  # fmt: skip
    before = described(root)
    for change, message in {
        "USER_TABLES_TEMPLATE '{namespace}/{tableName}'":
            "USER_TABLES_TEMPLATE must contain {userId}",
        "CONFIG '[]'": "CONFIG must be a JSON object",
        "NAME 'other' SET CONFIG '{\"x\": 1}'": "Unknown CONFIG key 'x'; use shards",
    }.items():  # fmt: skip
        assert str(refused(root, f"ALTER STORAGE vault SET {change}")) == message
    assert refused(root, "ALTER STORAGE vault SET PATH 'x'").code == "SYNTAX"
    assert described(root) == before


def test_only_dba_and_system_define_storages_and_see_where_they_lie(
    studio: Any, refused: Any
) -> None:
    statements = (
        "CREATE STORAGE shelf TYPE filesystem PATH 'shelf'",
        "ALTER STORAGE shelf SET NAME 's'",
        "STORAGE CHECK shelf EXTENDED",
        "DROP STORAGE shelf",
    )
    for user, role in {"mia": "user", "sven": "service"}.items():
        session = studio.session(user)
        for sql in statements:
            kind = "STORAGE CHECK" if "CHECK" in sql else None
            needs = "; it needs dba or system"
            assert str(refused(session, sql)) == (
                f"Role '{role}' cannot execute {kind or 'DDL statements'}{needs}"
            )
        shown = described(session)["local"]
        assert shown == ("local", "filesystem", None, None, SHARED, USER, None)
    dora = studio.session("dora")
    for sql in statements:
        dora.execute(sql)
    assert described(dora)["local"][3] == ""


def test_credentials_are_kept_and_shown_nowhere(root: Session, lab: Path, fresh: Any) -> None:
    credentials = f'{{"key": "{SECRET}"}}'
    sql = f"CREATE STORAGE nas TYPE filesystem PATH 'nas' CREDENTIALS '{credentials}'"
    results = [root.execute(sql), root.execute(sql.replace("STORAGE", "STORAGE IF NOT EXISTS"))]
    with pytest.raises(KalamError) as refusal:
        root.execute(sql)
    shown = [repr(result) + str(result.rows()) for result in results] + [repr(refusal.value)]
    queries = (
        "SHOW STORAGES",
        "SELECT * FROM system.storages",
        "SELECT * FROM system.audit_logs",
        "SELECT s.* FROM system.storages AS s",
        "DESCRIBE TABLE system.storages",
        "DESCRIBE TABLE system.storages HISTORY",
        "EXPLAIN SELECT credentials FROM system.storages",
        "STORAGE CHECK nas EXTENDED",
    )
    shown += [str(root.execute(query).rows()) for query in queries]
    assert not [text for text in shown if SECRET in text or "__kalam" in text]
    with pytest.raises(KalamError, match="not found"):
        root.execute("SELECT __kalam_credentials FROM system.storages")
    assert root.execute("SELECT storage_id FROM system.storages WHERE credentials = '***'").rows()
    root.execute("ALTER STORAGE nas SET NAME 'n'; STORAGE FLUSH TABLE system.storages")
    definition = fresh.database._context.catalog.storages.get("nas")
    assert definition.credentials == credentials
    assert SECRET not in repr(definition)
    log = lab / "jobs.log"
    assert not log.exists() or SECRET not in log.read_text()


# --- where segments go ------------------------------------------------------------------------


def test_segments_follow_the_template_of_their_kind(root: Session, lab: Path, fresh: Any) -> None:
    root.execute(VAULT)
    root.execute(
        "CREATE USER TABLE notes (id INT PRIMARY KEY) WITH (STORAGE_ID = 'vault');"
        "CREATE TABLE plans (id INT) WITH (STORAGE_ID = 'vault'); INSERT INTO plans VALUES (1)"
    )
    fresh.session("mia").execute("INSERT INTO notes VALUES (1)")
    fresh.session("tom").insert("notes", {"id": list(range(9))})  # a segment at once
    root.execute("STORAGE FLUSH ALL IN studio")
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
    root.execute("STORAGE FLUSH TABLE t")
    assert {place.split("/")[3] for place in places(lab)} == {"shard_0"}


def check_rows(session: Session, table: str, rows: list[tuple[Any, ...]]) -> None:
    assert session.execute(f"SELECT * FROM {table} ORDER BY 1").rows() == rows


def moving(root: Session, mia: Session) -> list[tuple[int, str]]:
    """Flush rows of mia into two places of storage vault; change what lies in the first."""
    root.execute(VAULT)
    root.execute(
        "CREATE USER TABLE notes (id INT PRIMARY KEY, body TEXT) WITH (STORAGE_ID = 'vault')"
    )
    mia.execute("INSERT INTO notes VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    root.execute("STORAGE FLUSH TABLE notes")
    root.execute(
        "ALTER STORAGE vault SET USER_TABLES_TEMPLATE 'u/{namespace}/{tableName}/{userId}'"
    )
    mia.execute("INSERT INTO notes VALUES (4, 'd'); DELETE FROM notes WHERE id = 2")
    mia.execute("UPDATE notes SET body = 'A' WHERE id = 1")
    root.execute("STORAGE FLUSH TABLE notes")
    return [(1, "A"), (3, "c"), (4, "d")]


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
    again.session().execute("STORAGE COMPACT TABLE notes")
    check_rows(again.session("mia"), "notes", rows)
    manifest = again.session().execute("SHOW MANIFEST FOR TABLE notes").rows()
    assert len(manifest) == 1, "compaction moves what it merges"
    assert (lab / new / f"{manifest[0][3]}.parquet").exists()
    again.database.close()
    assert check_database(lab).is_sound


@pytest.mark.parametrize("compacted", [False, True])
def test_a_rebuild_finds_both_places(
    root: Session, lab: Path, fresh: Any, opener: Any, compacted: bool
) -> None:
    mia = fresh.session("mia")
    rows = moving(root, mia)
    if compacted:
        root.execute("STORAGE COMPACT TABLE notes")
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
    root.execute("CREATE TABLE t (id INT); INSERT INTO t VALUES (1); STORAGE FLUSH TABLE t")
    fresh.database.close()
    for file in lab.glob("catalog.sqlite*"):
        file.unlink()
    rebuild_database(lab)
    again = opener(lab, fresh.clock)
    definition = again.database._context.catalog.storages.get("nas")
    assert definition.credentials == f'{{"k": "{SECRET}"}}'
    assert described(again.session())["nas"][6] == "***"
    again.database.close()


# --- storages of users ------------------------------------------------------------------------


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
    own.execute("STORAGE FLUSH ALL IN studio")
    first = {"attic/studio/notes/mia", "vault/studio/notes/tom"}
    first |= {f"storage/studio/fixed/{user}" for user in ("mia", "tom")}
    assert places(lab) == first
    own.set_user_storage("mia", None)
    assert modes(own)["mia"] == ("table", None)
    mia.execute("INSERT INTO notes VALUES (2); DELETE FROM notes WHERE id = 1")
    own.execute("STORAGE FLUSH TABLE notes")
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
    own.execute("STORAGE FLUSH TABLE notes")
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


# --- dropping, checking, losing ---------------------------------------------------------------


def test_a_dropped_storage_gives_its_directory_back(
    root: Session, lab: Path, fresh: Any, refused: Any
) -> None:
    rows = moving(root, fresh.session("mia"))
    assert (
        str(refused(root, "DROP STORAGE vault"))
        == "Storage 'vault' is in use by table studio.notes"
    )
    check_rows(fresh.session("mia"), "notes", rows)
    # Merged segments wait for readers; those do not hold the storage.
    root.execute("STORAGE COMPACT TABLE notes; DROP TABLE notes")
    (lab / "vault" / "mine.txt").write_text("mine")
    root.execute("DROP STORAGE vault")
    assert [file.name for file in (lab / "vault").rglob("*")] == ["mine.txt"]
    assert refused(root, VAULT).code == "NOT_EMPTY"
    (lab / "vault" / "mine.txt").unlink()
    root.execute(VAULT)
    fresh.clock.advance(3_600)
    root.execute("CREATE TABLE t (id INT) WITH (STORAGE_ID = 'vault'); INSERT INTO t VALUES (1)")
    root.execute("STORAGE FLUSH TABLE t; STORAGE COMPACT TABLE t; DROP TABLE t")


def test_a_check_writes_and_counts(root: Session, fresh: Any) -> None:
    moving(root, fresh.session("mia"))
    plain = root.execute("STORAGE CHECK vault")
    assert plain.columns == ["storage_id", "status", "message"]
    assert plain.rows() == [("vault", "healthy", "Files can be written and read")]
    extended = root.execute("STORAGE CHECK vault EXTENDED")
    assert extended.columns == [
        *plain.columns, "total_bytes", "free_bytes", "used_bytes", "segment_count",
    ]  # fmt: skip
    _, status, _, total, free, used, segments = extended.rows()[0]
    assert (status, segments) == ("healthy", 2)
    assert 0 < used < total
    assert free <= total


@pytest.mark.parametrize("loss", ["gone", "unmounted"])
def test_an_unreachable_storage_is_named_and_the_others_serve(
    own: Session, lab: Path, fresh: Any, refused: Any, loss: str
) -> None:
    own.set_user_storage("mia", "attic")
    mia, tom = fresh.session("mia"), fresh.session("tom")
    for session in (mia, tom):
        session.execute("INSERT INTO notes VALUES (1)")
    own.execute("STORAGE FLUSH TABLE notes")
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
    with pytest.raises(KalamError, match=r"Storage 'attic' is unreachable"):
        own.execute("STORAGE FLUSH TABLE notes")
    own.execute("STORAGE FLUSH TABLE fixed; STORAGE COMPACT TABLE fixed")
    check_rows(mia, "fixed", [(2,)])
    shutil.rmtree(lab / "attic", ignore_errors=True)
    (lab.parent / "away").rename(lab / "attic")
    check_rows(mia, "notes", [(1,), (2,)])
    own.execute("STORAGE FLUSH TABLE notes")
    check_rows(mia, "notes", [(1,), (2,)])


def test_an_unreachable_storage_does_not_hold_the_clean_up_of_others(
    own: Session, lab: Path, fresh: Any
) -> None:
    own.set_user_storage("mia", "attic")
    for user in ("mia", "tom"):
        fresh.session(user).execute("INSERT INTO notes VALUES (1)")
    own.execute("STORAGE FLUSH TABLE notes")
    (lab / "attic").rename(lab.parent / "away")
    own.execute("DROP TABLE notes")
    fresh.clock.advance(3_600)
    own.execute("CREATE TABLE t (id INT); DROP TABLE t")
    assert "vault/studio/notes/tom" not in places(lab)
    (lab.parent / "away").rename(lab / "attic")
    own.execute("CREATE TABLE t (id INT); DROP TABLE t")
    assert places(lab) == set()


# --- other processes --------------------------------------------------------------------------


def test_storages_changed_by_another_process_hold_at_once(
    root: Session, lab: Path, fresh: Any, opener: Any
) -> None:
    other = opener(lab, fresh.clock)
    there = other.session()
    root.execute(VAULT)
    there.execute("CREATE USER TABLE t (id INT PRIMARY KEY) WITH (STORAGE_ID = 'vault')")
    there.execute("INSERT INTO t VALUES (1); STORAGE FLUSH TABLE t")
    root.execute(
        "ALTER STORAGE vault SET USER_TABLES_TEMPLATE 'v/{namespace}/{tableName}/{userId}'"
    )
    there.execute("INSERT INTO t VALUES (2); STORAGE FLUSH TABLE t")
    assert "vault/v/studio/t/root" in places(lab)
    check_rows(root, "t", [(1,), (2,)])
    with pytest.raises(KalamError, match="is in use by table studio.t"):
        root.execute("DROP STORAGE vault")
    there.execute("DROP TABLE t")
    root.execute("DROP STORAGE vault")
    with pytest.raises(KalamError, match=r"^Storage 'vault' not found$"):
        there.execute("CREATE TABLE t (id INT) WITH (STORAGE_ID = 'vault')")
    there.execute("CREATE STORAGE vault TYPE filesystem PATH 'second'")
    root.execute("CREATE TABLE t (id INT) WITH (STORAGE_ID = 'vault'); INSERT INTO t VALUES (1)")
    root.execute("STORAGE FLUSH TABLE t")
    assert places(lab) == {"second/studio/t"}
    check_rows(there, "t", [(1,)])
    other.database.close()
