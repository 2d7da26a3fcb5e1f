"""``kalam check``: what a database holds, and what of it is damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from kalamdb_lab.cli.connecting import UNUSABLE, PathArgument, failed
from kalamdb_lab.errors import KalamError

if TYPE_CHECKING:
    from kalamdb_lab.engine.check import Report, TableReport
    from kalamdb_lab.engine.rebuild import Rebuilt

DAMAGED: Final = 1


def check(
    path: PathArgument,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="Make a lost or damaged catalog again from the segments. Close all notebooks "
            "on the database first. The old catalog is kept.",
        ),
    ] = False,
) -> None:
    """Read everything that a database holds and say what is damaged.

    The bytes of a table are those of its Parquet files, without vectors and indexes.

    Works while others use the database, and changes nothing without --rebuild.

    Exit code: 0 all is sound, 1 something is damaged or lost, 2 no database, or it cannot be read.
    """
    try:
        if rebuild:
            from kalamdb_lab.engine.rebuild import rebuild_database

            rebuilt = rebuild_database(path)
            _show_rebuilt(rebuilt)
            is_fine = rebuilt.is_whole
        else:
            from kalamdb_lab.engine.check import check_database

            report = check_database(path)
            _show_report(report)
            is_fine = report.is_sound
    except KalamError as error:
        raise failed(str(error), UNUSABLE) from None
    if not is_fine:
        raise typer.Exit(DAMAGED)


def _show_report(report: Report) -> None:
    if not report.catalog_is_sound:
        typer.echo(f"The catalog of '{report.path}' is missing or damaged.")
        typer.echo(f"Run: kalam check {report.path} --rebuild")
        return
    _show_tables(report)
    for table in report.affected:
        typer.echo(_fault(table))
    for table in report.tables:
        if table.damaged_indexes:
            typer.echo(
                f"{table.name}: the index of {_count(table.damaged_indexes, 'segment')} is damaged "
                "or missing; searches do without it. DROP INDEX and CREATE INDEX build it anew."
            )
    if report.orphans:
        typer.echo(
            f"{_count(report.orphans, 'file')} in its storages that no table uses: merged, dropped "
            "or unfinished segments, which no query reads."
        )
    if report.is_sound:
        typer.echo(f"'{report.path}' is sound.")
        return
    names = [table.name for table in report.affected]
    rest = "Other tables can be used; restore these from a backup."
    if any(name.startswith("system.") for name in names):
        rest = "It may not open without its system tables; restore it from a backup."
    typer.echo(f"'{report.path}' is damaged: {', '.join(names)}. {rest}")


def _show_tables(report: Report) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("table", overflow="fold")
    for column in ("partitions", "segments", "rows", "bytes"):
        shown.add_column(column, justify="right", no_wrap=True)
    for table in report.tables:
        numbers = (table.partitions, table.segments, table.rows, table.size_bytes)
        shown.add_row(table.name, *(f"{number:,}" for number in numbers))
    Console(highlight=False).print(shown)


def _fault(table: TableReport) -> str:
    parts: list[str] = []
    if table.damaged:
        parts.append(f"{_count(table.damaged, 'segment')} damaged")
    if table.missing:
        parts.append(f"{_count(table.missing, 'segment')} missing")
    if parts:
        parts.append(f"{_count(table.lost_rows, 'row')} cannot be read")
    if table.damaged_commits:
        parts.append(f"{_count(table.damaged_commits, 'unflushed commit')} damaged")
    return f"{table.name}: {', '.join(parts)}"


def _show_rebuilt(rebuilt: Rebuilt) -> None:
    say = typer.echo
    say(
        f"'{rebuilt.path}' has a new catalog: {_count(rebuilt.tables, 'table')}, "
        f"{_count(rebuilt.users, 'user')}, {_count(rebuilt.segments, 'segment')}, "
        f"{_count(rebuilt.rows, 'row')}."
    )
    if rebuilt.kept_as is not None:
        say(f"The old one is kept as {rebuilt.kept_as}.")
    say(
        "Changes that were not flushed are lost: rows inserted since the last flush of their table "
        "are gone, rows updated or deleted since are as they were then."
    )
    for table, count in sorted(rebuilt.lost.items()):
        say(f"{table}: {_count(count, 'segment')} damaged or missing")
    if rebuilt.lost_rows:
        say(f"{_count(rebuilt.lost_rows, 'row')} of these cannot be read.")
    for table in rebuilt.unremembered:
        say(f"{table}: nothing says which rows had been deleted or replaced; they may be back")
    for table, count in sorted(rebuilt.undefined.items()):
        say(
            f"{table}: {_count(count, 'segment')} without a definition: dropped, or created after "
            "the last flush; the files stay"
        )
    if rebuilt.left_out:
        say(f"{_count(rebuilt.left_out, 'segment')} left out: merged, dropped or never finished.")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
