"""Showing things in the output of the running cell."""

from __future__ import annotations

from IPython.display import display

from kalamdb_lab.arrow.pictures import Grid, Line, Look, Preview

__all__ = ["Grid", "Line", "Look", "Preview", "show"]


def show(thing: object) -> None:
    """Show something in the output of the running cell."""
    display(thing)  # type: ignore[no-untyped-call]
