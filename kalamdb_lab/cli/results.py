"""What statements answer, printed: rows to standard output, the rest out of their way."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final

import typer

from kalamdb_lab.cli.formats import ResultFormat
from kalamdb_lab.errors import InvalidOptionError
from kalamdb_lab.model.readable import duration, plural, printable

if TYPE_CHECKING:
    from rich.console import Console

    from kalamdb_lab.query.result import Result

SHOWN_ROWS: Final = 200
"""How many rows a table shows, unless the user says."""

_HINT: Final = "--rows and --format show more"
_BATCH_ROWS: Final = 10_000
_DONE: Final = {"INSERT": "inserted", "UPDATE": "updated", "DELETE": "deleted"}


class ResultPrinter:
    """Prints one result after the other.

    Parameters
    ----------
    rows : int
        With the format ``table``, so many rows are computed and shown; 0 is all.
    is_shell : bool
        Footers say how long it took, and no empty lines are left between results.

    Raises
    ------
    InvalidOptionError
        The format is binary and would go to a terminal.
    """

    def __init__(
        self,
        result_format: ResultFormat,
        *,
        rows: int = SHOWN_ROWS,
        is_shell: bool = False,
    ) -> None:
        self._format = result_format
        self._out = standard_output()
        self._has_shown = False
        self._was_table = False
        self._is_shell = is_shell
        self.row_limit = rows if rows and result_format is ResultFormat.TABLE else None
        if result_format is ResultFormat.ARROW and self._out.isatty():
            raise InvalidOptionError("Arrow is binary; send it to a file or a pipe")

    def show(self, result: Result) -> None:
        """Print the answer of a statement."""
        has_rows = result.message is None and bool(result.columns)
        done = ""
        if result.rows_affected is not None:
            verb = _DONE.get(result.statement_kind, "changed")
            done = f"{plural(result.rows_affected, 'row')} {verb}"
        time = duration(result.elapsed_ms) if self._is_shell else ""
        if self._format is not ResultFormat.TABLE:
            if has_rows:
                self._write(result)
            # What is no row must not stand among the rows that a pipe reads.
            elif line := done or result.message:
                typer.echo(printable(line), err=True)
        elif has_rows:
            from kalamdb_lab.cli.table_view import print_table

            self._part()
            notes = tuple(note for note in (done, time) if note)
            print_table(terminal(), result.to_arrow(), result.total_rows, notes=notes, hint=_HINT)
        elif line := " · ".join(part for part in (done or result.message, time) if part):
            self._part(is_table=False)
            typer.echo(printable(line))

    def _part(self, *, is_table: bool = True) -> None:
        """Leave an empty line around a table, and between two results of other formats."""
        if self._has_shown and (is_table or self._was_table) and not self._is_shell:
            typer.echo()
        self._has_shown, self._was_table = True, is_table

    def _write(self, result: Result) -> None:
        from kalamdb_lab.cli.formats import FileFormat
        from kalamdb_lab.cli.row_text import json_rows
        from kalamdb_lab.cli.writing import refuse_equal_names, row_writer

        table = result.to_arrow()
        if self._format is ResultFormat.JSON:
            refuse_equal_names(table.schema)
        if self._format is not ResultFormat.ARROW:
            self._part()
        batches = table.to_batches(max_chunksize=_BATCH_ROWS)
        if self._format is ResultFormat.JSON:
            lines = [line for batch in batches for line in json_rows(batch).splitlines()]
            self._out.write(b"[" + b",\n ".join(lines) + b"]\n")
        else:
            written = FileFormat.CSV if self._format is ResultFormat.CSV else FileFormat.ARROW
            with row_writer(self._out, table.schema, written, is_stream=True) as write:
                for batch in batches:
                    write(batch)
        self._out.flush()


def standard_output() -> BinaryIO:
    """Return standard output for bytes; each write takes all of them once it is flushed."""
    out: BinaryIO = typer.get_binary_stream("stdout")
    if isinstance(out, io.RawIOBase):  # by PYTHONUNBUFFERED; it may take a part of what it is given
        return io.BufferedWriter(io.FileIO(out.fileno(), "wb", closefd=False))
    return out


def terminal(*, err: bool = False) -> Console:
    """Return what writes styled text to standard output, plainly where that is no terminal."""
    from rich.console import Console

    return Console(stderr=err, highlight=False, markup=False, emoji=False)


@contextmanager
def progress(doing: str) -> Iterator[Callable[[int], None]]:
    """Say on a terminal what goes on, and give a function that takes the rows so far."""
    console = terminal(err=True)
    if not console.is_terminal:
        yield lambda _rows: None
        return
    with console.status(printable(doing)) as status:
        yield lambda rows: status.update(f"{printable(doing)} {plural(rows, 'row')}")
