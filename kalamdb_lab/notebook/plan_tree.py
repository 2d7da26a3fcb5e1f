"""EXPLAIN's rows as a tree, the outermost step first."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kalamdb_lab.model.readable import plural, printable

if TYPE_CHECKING:
    import pyarrow as pa

_STYLE = """<style>
.kalam-plan{font-size:13px;line-height:1.6;font-family:var(--jp-code-font-family,monospace);\
white-space:pre;overflow-x:auto}
.kalam-plan b{font-weight:600}
.kalam-plan i{font-style:normal;opacity:.5}
.kalam-plan span{opacity:.7}
</style>"""


class PlanTree:
    """How a statement would be run.

    Parameters
    ----------
    rows : pyarrow.Table
        What EXPLAIN answers: ``depth`` says how deep each step stands.
    notes : sequence of str
        What stands below the tree.
    """

    def __init__(self, rows: pa.Table, notes: Sequence[str] = ()) -> None:
        self.rows = rows
        self._notes = " · ".join(note for note in notes if note)
        self._steps = rows.to_pylist()

    def __repr__(self) -> str:
        lines = [
            " ".join(part for part in (branch, *_said(step)) if part)
            for branch, step in zip(_branches(self._steps), self._steps, strict=True)
        ]
        return printable_lines([*lines, self._notes])

    def _repr_html_(self) -> str:
        lines = []
        for branch, step in zip(_branches(self._steps), self._steps, strict=True):
            operation, *rest = (html.escape(printable(part)) for part in _said(step))
            shown = " ".join(part for part in rest if part)
            lines.append(
                f"<i>{branch}</i>{' ' if branch else ''}<b>{operation}</b> <span>{shown}</span>"
            )
        if self._notes:
            lines.append(f"<span>{html.escape(self._notes)}</span>")
        return f'{_STYLE}<div class="kalam-plan">{"<br>".join(lines)}</div>'


def printable_lines(lines: Sequence[str]) -> str:
    """Return lines of text, each without characters that are no text."""
    return "\n".join(printable(line).rstrip() for line in lines if line)


def _said(step: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return what is done, to what, in detail, and at which cost."""
    costs = []
    if step["segments_total"] is not None:
        kept, total = step["segments_kept"], step["segments_total"]
        costs.append(f"{kept:,} of {plural(total, 'segment')}" if total else "")
    if step["estimated_rows"] is not None:
        costs.append(f"about {plural(step['estimated_rows'], 'row')}")
    cost = ", ".join(item for item in costs if item)
    operation, detail = step["operation"], step["detail"] or ""
    if detail.lower().startswith(f"{operation.lower()} "):
        detail = detail[len(operation) + 1 :]
    return operation, step["target"] or "", detail, f"({cost})" if cost else ""


def _branches(steps: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines in front of each step that show below which one it stands."""
    depths = [step["depth"] for step in steps]
    branches = []
    for at, depth in enumerate(depths):
        parts = []
        for level in range(1, depth + 1):
            following = next((d for d in depths[at + 1 :] if d <= level), -1)
            goes_on = following == level
            if level == depth:
                parts.append("├─" if goes_on else "└─")
            else:
                parts.append("│ " if goes_on else "  ")
        branches.append(" ".join(parts))
    return branches
