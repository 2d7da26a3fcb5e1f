"""Files of a database are opened by storages and by the catalog, and by nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import kalamdb_lab

PACKAGE = Path(kalamdb_lab.__file__).parent

OPENING = frozenset(
    """open read_bytes read_text write_bytes write_text touch OSFile memory_map FileSystemDataset
    ParquetFile ParquetWriter ParquetDataset read_table write_table read_metadata read_schema
    dataset write_dataset open_file open_stream open_csv read_csv write_csv read_json read_feather
    write_feather iterdir rglob glob iglob scandir listdir unlink rmdir rmtree mkdir makedirs
    mkdtemp mkstemp NamedTemporaryFile TemporaryDirectory rename renames removedirs symlink_to
    hardlink_to copyfile copytree copy2 move LocalFileSystem open_group open_array""".split()
)
"""Calls by their last name that open, list, make or delete files, on whatever they are called."""

OF_MODULES = {
    "os": frozenset({"walk", "fwalk", "remove", "replace", "link", "truncate", "utime"}),
    "shutil": frozenset({"copy", "copyfileobj", "make_archive", "unpack_archive"}),
    "sqlite3": frozenset({"connect"}),
    "duckdb": frozenset({"connect"}),
}
"""Calls whose names mean something else elsewhere."""

ALLOWED: dict[str, str] = {
    "segments/storage.py": "*",
    "segments/base_directory.py": "*",
    "segments/backup_file.py": "iterdir open rename rmdir",
    "store/": "*",
    # What a storage gave is decoded there, from memory.
    "segments/reader.py": "ParquetFile",
    "segments/recovery.py": "read_table",
    "segments/verification.py": "ParquetFile",
    "segments/writer.py": "write_table",
    "segments/registered_files.py": "ParquetFile glob",
    "segments/csv_files.py": "open_csv read_csv",
    # The directory of the database itself, its settings, and the log of jobs.
    "config.py": "read_text write_text",
    "engine/directory.py": "iterdir mkdir",
    "jobs/journal.py": "open",
    # A private place for what does not fit into memory; no database but in memory.
    "query/duck.py": "connect mkdtemp rmtree",
    # Files of users, outside of the database.
    "cli/": "*",
    "demo/": "*",
    "ibis_backend/files.py": "*",
    "ibis_backend/tables.py": "rename",  # columns of an expression
    "notebook/": "*",
    "widgets/grid.py": "read_text",  # the script and the style sheet that come with it
}


def calls(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of each call that may open a file."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Name(id=name) if name in OPENING:
                yield node.lineno, name
            case ast.Attribute(value=ast.Name(id=module), attr=name) if (
                name in OPENING or name in OF_MODULES.get(module, ())
            ):
                yield node.lineno, name
            case ast.Attribute(attr=name) if name in OPENING:
                yield node.lineno, name


def allowed(path: str) -> str:
    return next((names for place, names in ALLOWED.items() if path.startswith(place)), "")


def test_no_file_is_opened_but_through_a_storage_or_the_catalog() -> None:
    breaches: dict[str, str] = {}
    used = set()
    for file in sorted(PACKAGE.rglob("*.py")):
        path = file.relative_to(PACKAGE).as_posix()
        names = allowed(path)
        for line, name in calls(file.read_text(encoding="utf-8")):
            used.add((path, name))
            if names != "*" and name not in names.split():
                breaches[f"{path}:{line}"] = name
    assert breaches == {}
    granted = {(place, name) for place, names in ALLOWED.items() for name in names.split()}
    stale = {(p, n) for p, n in granted - used if n != "*"}
    assert not stale, "what is no longer needed is no longer allowed"


def test_a_breach_would_be_found() -> None:
    found = {
        name
        for _, name in calls(
            "import os, pathlib\n"
            "open('x')\n"
            "pathlib.Path('x').read_bytes()\n"
            "(base / 'x').open('rb')\n"
            "pq.read_table(path)\n"
            "os.walk(base)\n"
            "storage.walk(base); storage.write('x', b''); text.replace('a', 'b')\n"
        )
    }
    assert found == {"open", "read_bytes", "read_table", "walk"}
