"""The lab extension that colours %%kalam cells: what is in it, and that the wheel brings it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import kalamdb_lab
from kalamdb_lab.sql.keywords import KEYWORDS

ROOT = Path(__file__).parents[2]
EXTENSION = ROOT / "kalamdb_lab" / "notebook" / "labextensions" / "kalamdb-lab"
INSTALLED = "share/jupyter/labextensions/kalamdb-lab"


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_it_has_the_version_of_the_package() -> None:
    package = json.loads((EXTENSION / "package.json").read_text())
    assert package["version"] == kalamdb_lab.__version__


def test_its_address_changes_with_what_is_in_it() -> None:
    """Browsers keep a file of an extension for a year unless it is found elsewhere."""
    package = json.loads((EXTENSION / "package.json").read_text())
    static = [path.read_bytes() for path in sorted((EXTENSION / "static").iterdir())]
    version = hashlib.sha256(b"".join(static)).hexdigest()[:12]
    assert package["jupyterlab"]["_build"]["load"] == f"static/remoteEntry.js?v={version}"


def test_it_colours_every_keyword_and_type() -> None:
    script = (EXTENSION / "static" / "highlighting.js").read_text()
    lists = re.findall(
        r"^const [A-Z_]+ = words\(([`\"])(.*?)\1\)", script, re.DOTALL | re.MULTILINE
    )
    coloured = {word.upper() for _, text in lists for word in text.split()}
    assert KEYWORDS - coloured == set()


def test_the_wheel_installs_it_where_jupyterlab_looks(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(
        ROOT / "kalamdb_lab", tmp_path / "kalamdb_lab", ignore=shutil.ignore_patterns("__pycache__")
    )
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "wheel"]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    data = f"kalamdb_lab-{kalamdb_lab.__version__}.data/data/{INSTALLED}/"
    with zipfile.ZipFile(wheel) as archive:
        installed = {
            name.removeprefix(data): archive.read(name)
            for name in archive.namelist()
            if name.startswith(data)
        }
    assert installed == files(EXTENSION)
