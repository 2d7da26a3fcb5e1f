"""Which cell shows which live views, so that running a cell again ends those it showed before."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any, Protocol


class View(Protocol):
    """Something live in a cell's output."""

    def stop(self) -> None:
        """End it."""
        ...


@dataclass(slots=True)
class _Run:
    number: int
    views: list[weakref.ref[View]] = field(default_factory=list)


class ShownViews:
    """The live views in the outputs of cells, by the cell; it keeps none of them alive.

    `Out` and what a notebook keeps by itself would let a view go on whose output is gone.
    """

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    def begin(self, shell: Any) -> None:
        """End what an earlier run of the present cell shows."""
        cell = _cell_id(shell)
        run = self._runs.get(cell) if cell else None
        if run is not None and run.number != shell.execution_count:
            del self._runs[cell]
            for ref in run.views:
                view = ref()
                if view is not None:
                    view.stop()

    def add(self, shell: Any, view: View) -> None:
        """Take note of a view that the present cell shows."""
        cell = _cell_id(shell)
        if cell:
            run = self._runs.setdefault(cell, _Run(shell.execution_count))
            run.views.append(weakref.ref(view))


def _cell_id(shell: Any) -> str:
    """Return the id of the cell that runs; empty where there are no cells with ids."""
    ask = getattr(shell, "get_parent", None)
    parent: dict[str, Any] = (ask() if ask is not None else None) or {}
    return str(parent.get("metadata", {}).get("cellId") or "")
