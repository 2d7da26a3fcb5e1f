"""What holds for the package as a whole: what importing it costs, and how others find it."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import kalamdb_lab

HEAVY = {"IPython", "duckdb", "ibis", "numpy", "pandas", "polars", "pyarrow", "sqlglot", "zarr"}


def test_import_loads_nothing_heavy() -> None:
    """``import kalamdb_lab`` costs a few milliseconds; the engine comes with the first `open`."""
    code = "import sys, kalamdb_lab; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "kalamdb_lab" in loaded
    assert loaded & HEAVY == set()


def test_ibis_finds_the_backend_by_its_entry_point() -> None:
    (found,) = importlib.metadata.entry_points(group="ibis.backends", name="kalam")
    assert found.value == "kalamdb_lab.ibis_backend"


def test_version_is_that_of_the_distribution() -> None:
    assert kalamdb_lab.__version__ == importlib.metadata.version("kalamdb-lab")


def test_types_are_published() -> None:
    assert (Path(kalamdb_lab.__file__).parent / "py.typed").is_file()
