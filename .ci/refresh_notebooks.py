"""Run the notebooks and keep their outputs, free of anything that is this machine's.

Usage: ``python .ci/refresh_notebooks.py [notebook ...]`` from the root of the checkout; without
names all of ``notebooks/``. Cells tagged ``nbval-check-output`` are compared by CI afterwards.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def refresh(path: Path) -> None:
    """Run one notebook in its own folder and write it back."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name=KERNEL["name"],
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,
        record_timing=False,
    )
    client.execute()
    notebook.metadata["language_info"] = {"name": "python"}
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02}"  # or every run would change every cell
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            # It names what only the kernel of this run had; readers see the HTML beside it.
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


def main(arguments: list[str]) -> None:
    """Refresh the notebooks that were named, or all."""
    os.environ["KALAMDB_LAB_TESTING"] = "1"
    paths = [Path(argument) for argument in arguments] or sorted(ROOT.glob("notebooks/*.ipynb"))
    for path in paths:
        refresh(path)
        print(f"{path.name} is fresh.")


if __name__ == "__main__":
    main(sys.argv[1:])
