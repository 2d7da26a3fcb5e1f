"""What a statement answered, as a cell shows it and as Python code gets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kalamdb_lab.model.readable import duration, plural
from kalamdb_lab.notebook.display import Grid, Line, Look, Preview
from kalamdb_lab.notebook.plan_tree import PlanTree

if TYPE_CHECKING:
    from kalamdb_lab.query.result import Result

ALL_HINT: Final = "--all shows all"

_DONE: Final = {"INSERT": "inserted", "UPDATE": "updated", "DELETE": "deleted"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A result, and what its footer says besides rows and time.

    Attributes
    ----------
    result : Result
        Its ``total_rows`` is more than its rows when they were capped.
    origins : tuple of str
        Where rows came from that are not the database's.
    is_plan : bool
        True if it is what EXPLAIN answers, which is shown as a tree.
    """

    result: Result
    notes: tuple[str, ...] = ()
    hint: str = ""
    origins: tuple[str, ...] = ()
    is_plan: bool = False

    def value(self, output: str) -> Any:
        """Return what Python code gets."""
        if not has_rows(self.result) or output == "result":
            return self.result
        return getattr(self.result, f"to_{output}")()

    def shown_as(self, output: str, look: Look) -> Any:
        """Return what a cell returns to be shown: a capped answer only lets itself be seen."""
        if output != "result" and has_rows(self.result) and not self.is_plan:
            return self.value(output)
        if self.result.total_rows > self.result.row_count:
            return self.view(look)
        return self.result

    def view(self, look: Look) -> Grid | Line | PlanTree:
        """Return the answer as it looks."""
        result = self.result
        time = duration(result.elapsed_ms) if look.show_time else ""
        if self.is_plan:
            return PlanTree(result.to_arrow(), (*self.notes, *self.origins))
        done = ""
        if result.rows_affected is not None:
            verb = _DONE.get(result.statement_kind, "changed")
            done = f"{plural(result.rows_affected, 'row')} {verb}"
        if not has_rows(result):
            return Line(done or result.message or "", time, *self.origins)
        table = result.to_arrow()
        shown = table if look.rows is None else table.slice(0, look.rows)
        kind = Grid if result.total_rows == result.row_count else Preview
        notes = (done, time, *self.notes, *self.origins)
        return kind(shown, result.total_rows, notes, look, hint=self.hint)


def has_rows(result: Result) -> bool:
    """Return whether the statement answered rows, rather than that it was done."""
    return result.message is None and bool(result.columns)
