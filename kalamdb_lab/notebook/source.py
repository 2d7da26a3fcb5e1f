"""The cell that runs: its text, and what the user's code does with the value of a magic."""

from __future__ import annotations

import dis
import enum
import sys
from dataclasses import dataclass
from types import FrameType

from kalamdb_lab.notebook.cell_text import CellStatement, secret_literals, statements


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a cell or line as the user sees it, and where SQL begins in it."""

    text: str
    line_start: int
    is_cell: bool

    @classmethod
    def of(cls, line: str, cell: str | None) -> Source:
        """Return the source of a magic that IPython took apart."""
        head = "%kalam " if cell is None else "%%kalam "
        body = "" if cell is None else f"\n{cell}"
        return cls(f"{head}{line}{body}", len(head), cell is not None)

    def statements(self, sql_start: int) -> list[CellStatement]:
        """Return the statements after ``sql_start`` in the magic's line; offsets are the cell's."""
        start = self.line_start + sql_start
        return statements(" " * start + self.text[start:])

    def secrets(self) -> list[str]:
        """Return the passwords in it; the dashes of options do not begin a comment."""
        head, mark, body = self.text.partition("\n")
        return secret_literals(head.replace("--", "  ") + mark + body)


class Use(enum.Enum):
    """What becomes of the value of a magic."""

    PRINTED = "printed"
    DROPPED = "dropped"
    KEPT = "kept"


def use_of_value() -> Use:
    """Return what the user's code does with the value of the running line magic.

    The line ``%kalam SELECT ...`` is for the eye, ``rows = %kalam SELECT ...`` is for Python;
    what tells them apart is the instruction after the call in the user's code.
    """
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - the one way to the caller's code
    while frame is not None and frame.f_code.co_name != "run_line_magic":
        frame = frame.f_back
    user = None if frame is None else frame.f_back
    if user is None:
        return Use.KEPT
    last = user.f_lasti
    instructions = (item for item in dis.get_instructions(user.f_code) if item.offset > last)
    following = next(instructions, None)
    if following is None:
        return Use.KEPT
    if following.opname == "CALL_INTRINSIC_1":
        return Use.PRINTED if following.arg == 1 else Use.KEPT  # INTRINSIC_PRINT
    return {"POP_TOP": Use.DROPPED, "PRINT_EXPR": Use.PRINTED}.get(following.opname, Use.KEPT)
