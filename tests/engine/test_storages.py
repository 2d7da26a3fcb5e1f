"""Storages: defined, changed, checked, dropped, and the same in every process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from storage_places import SECRET, SHARED, USER, VAULT, check_rows, described, moving, places

from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import KalamError
from kalamdb_lab.handlers import storages
from kalamdb_lab.segments import manifest_file
from kalamdb_lab.segments.storage import Storage
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


# --- definitions ----------------------------------------------------------------------------------


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
        ("TYPE filesystem PATH '/etc/passwd'", "PATH '/etc/passwd' is not a directory"),
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
    finished(root, "ALTER STORAGE nas SET NAME 'n'; STORAGE FLUSH TABLE system.storages")
    definition = fresh.database._context.catalog.storages.get("nas")
    assert definition.credentials == credentials
    assert SECRET not in repr(definition)
    log = lab / "jobs.log"
    assert not log.exists() or SECRET not in log.read_text()


# --- checking and dropping ------------------------------------------------------------------------


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
    finished(root, "STORAGE COMPACT TABLE notes; DROP TABLE notes")
    (lab / "vault" / "mine.txt").write_text("mine")
    root.execute("DROP STORAGE vault")
    assert [file.name for file in (lab / "vault").rglob("*")] == ["mine.txt"]
    assert refused(root, VAULT).code == "NOT_EMPTY"
    (lab / "vault" / "mine.txt").unlink()
    root.execute(VAULT)
    fresh.clock.advance(3_600)
    root.execute("CREATE TABLE t (id INT) WITH (STORAGE_ID = 'vault'); INSERT INTO t VALUES (1)")
    finished(root, "STORAGE FLUSH TABLE t; STORAGE COMPACT TABLE t; DROP TABLE t")


def test_a_storage_whose_making_was_cut_short_can_be_made_again(root: Session, lab: Path) -> None:
    root.execute(VAULT)
    mark = (lab / "vault" / ".kalam-storage").read_bytes()
    root.execute("DROP STORAGE vault")
    (lab / "vault").mkdir(exist_ok=True)
    (lab / "vault" / ".kalam-storage").write_bytes(mark)
    root.execute(VAULT)
    root.execute("CREATE TABLE t (id INT) WITH (STORAGE_ID = 'vault'); INSERT INTO t VALUES (1)")
    finished(root, "STORAGE FLUSH TABLE t")
    assert places(lab) == {"vault/studio/t"}


def test_a_drop_that_was_cut_short_behind_its_commit_leaves_no_segments(
    root: Session, lab: Path, fresh: Any, opener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.execute(VAULT)
    orphan = lab / "vault" / "studio" / "t" / "s-000900.parquet"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"of a flush that was cut short")
    other = opener(lab, fresh.clock).session()

    def clear(storage: Storage) -> None:
        if "vault" not in described(other):
            raise KeyboardInterrupt  # the commit is done
        manifest_file.clear(storage)

    monkeypatch.setattr(storages, "clear", clear)
    with pytest.raises(BaseException):  # noqa: B017, PT011
        root.execute("DROP STORAGE vault")
    assert "vault" not in described(root)
    assert not places(lab)


# --- other processes ------------------------------------------------------------------------------


def test_storages_changed_by_another_process_hold_at_once(
    root: Session, lab: Path, fresh: Any, opener: Any
) -> None:
    other = opener(lab, fresh.clock)
    there = other.session()
    root.execute(VAULT)
    there.execute("CREATE USER TABLE t (id INT PRIMARY KEY) WITH (STORAGE_ID = 'vault')")
    finished(there, "INSERT INTO t VALUES (1); STORAGE FLUSH TABLE t")
    root.execute(
        "ALTER STORAGE vault SET USER_TABLES_TEMPLATE 'v/{namespace}/{tableName}/{userId}'"
    )
    finished(there, "INSERT INTO t VALUES (2); STORAGE FLUSH TABLE t")
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
    finished(root, "STORAGE FLUSH TABLE t")
    assert places(lab) == {"second/studio/t"}
    check_rows(there, "t", [(1,)])
    other.database.close()
