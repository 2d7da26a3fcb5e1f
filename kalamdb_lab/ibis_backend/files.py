"""Files of the Python user, read into and written from the session by pyarrow.

The engine never opens them: it can open nothing but its own directory. They are read as the
process that runs Python may read them, which is no right of the database.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ibis.expr.datatypes as dt
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.json
import pyarrow.parquet
from ibis import util

from kalamdb_lab.arrow.frames import normalise_table
from kalamdb_lab.errors import NotFoundError
from kalamdb_lab.ibis_backend.execution import Execution
from kalamdb_lab.ibis_backend.results import ibis_arrow_type

if TYPE_CHECKING:
    import ibis.expr.types as ir

Paths = str | Path | Iterable[str | Path]


def read_files(paths: Paths, suffix: str, read: Callable[[str], pa.Table]) -> pa.Table:
    """Return the rows of files, folders or patterns as one table.

    Raises
    ------
    NotFoundError
        Nothing is there by one of the names.
    """
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    found: list[str] = []
    for path in util.normalize_filenames(given):
        if Path(path).is_dir():
            matches = sorted(str(file) for file in Path(path).rglob(f"*.{suffix}"))
        else:
            matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - absolute patterns
        if not matches:
            raise NotFoundError("File", path)
        found += matches
    tables = [read(path) for path in found]
    return pa.concat_tables(tables, promote_options="permissive")


class Files(Execution):
    """Reading and writing files, as the other backends of ibis do."""

    def _local_table(self, rows: pa.Table, name: str | None, kind: str) -> ir.Table:
        chosen = name or util.gen_name(kind)
        self._set_local(chosen, normalise_table(rows.replace_schema_metadata(None)))
        return self.table(chosen)

    def read_parquet(
        self, paths: Paths, /, *, table_name: str | None = None, **kwargs: Any
    ) -> ir.Table:
        """Read Parquet files into a table that only this connection sees.

        Parameters
        ----------
        paths
            Files, folders or patterns. Folders named ``key=value`` become columns.
        table_name
            What to call it.
        **kwargs
            For ``pyarrow.dataset.Scanner``, such as ``columns`` or ``filter``.

        Raises
        ------
        NotFoundError
            Nothing is there by one of the names.
        """

        def read(path: str) -> pa.Table:
            files = pyarrow.dataset.dataset(path, format="parquet", partitioning="hive")
            rows = files.to_table(**kwargs)
            stored = pyarrow.parquet.read_schema(path).names
            for at, field in enumerate(rows.schema):  # numbers in folder names come as int32
                if field.name not in stored and pa.types.is_integer(field.type):
                    rows = rows.set_column(at, field.name, rows.column(at).cast(pa.int64()))
            return rows

        return self._local_table(read_files(paths, "parquet", read), table_name, "read_parquet")

    def read_csv(
        self,
        paths: Paths,
        /,
        *,
        table_name: str | None = None,
        types: Mapping[str, str | dt.DataType] | None = None,
        **kwargs: Any,
    ) -> ir.Table:
        """Read CSV files, compressed or not, into a table that only this connection sees.

        Parameters
        ----------
        paths
            Files, folders or patterns.
        table_name
            What to call it.
        types
            Types of some columns; those of the others are inferred.
        **kwargs
            For ``pyarrow.csv.read_csv``: ``read_options``, ``parse_options``, ``convert_options``.

        Raises
        ------
        NotFoundError
            Nothing is there by one of the names.
        """
        stated = {name: ibis_arrow_type(dt.dtype(dtype)) for name, dtype in (types or {}).items()}
        kwargs.setdefault(
            "convert_options",
            pyarrow.csv.ConvertOptions(
                column_types=stated, strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
        )
        rows = read_files(paths, "csv", lambda path: pyarrow.csv.read_csv(path, **kwargs))
        return self._local_table(rows, table_name, "read_csv")

    def read_json(
        self, paths: Paths, /, *, table_name: str | None = None, **kwargs: Any
    ) -> ir.Table:
        """Read files of one JSON object per line into a table that only this connection sees.

        Parameters
        ----------
        paths
            Files, folders or patterns.
        table_name
            What to call it.
        **kwargs
            For ``pyarrow.json.read_json``: ``read_options``, ``parse_options``.

        Raises
        ------
        NotFoundError
            Nothing is there by one of the names.
        """
        rows = read_files(paths, "json", lambda path: pyarrow.json.read_json(path, **kwargs))
        return self._local_table(rows, table_name, "read_json")

    def to_parquet(
        self,
        expr: ir.Table,
        /,
        path: str | Path,
        *,
        params: Mapping[ir.Scalar, Any] | None = None,
        partition_by: str | Iterable[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write an expression's rows to a Parquet file.

        Parameters
        ----------
        expr, path, params
            As for the other backends.
        partition_by
            Columns: ``path`` becomes a folder with a folder ``column=value`` for each value.
        **kwargs
            For ``pyarrow.parquet.ParquetWriter`` (``pyarrow.dataset.write_dataset`` with
            ``partition_by``).
        """
        with self.to_pyarrow_batches(expr, params=params) as reader:
            if partition_by is not None:
                names = [partition_by] if isinstance(partition_by, str) else list(partition_by)
                pyarrow.dataset.write_dataset(
                    reader,
                    path,
                    format="parquet",
                    partitioning=names,
                    partitioning_flavor="hive",
                    **kwargs,
                )
                return
            with pyarrow.parquet.ParquetWriter(path, reader.schema, **kwargs) as writer:
                for batch in reader:
                    writer.write_batch(batch)

    def to_csv(
        self,
        expr: ir.Table,
        /,
        path: str | Path,
        *,
        params: Mapping[ir.Scalar, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write an expression's rows to a CSV file; options are those of ``pyarrow.csv``."""
        with (
            self.to_pyarrow_batches(expr, params=params) as reader,
            pyarrow.csv.CSVWriter(path, reader.schema, **kwargs) as writer,
        ):
            for batch in reader:
                writer.write_batch(batch)

    def to_json(self, expr: ir.Table, /, path: str | Path, **kwargs: Any) -> None:
        """Write an expression's rows as a JSON array of objects; options are pandas'."""
        options = {"orient": "records", "date_format": "iso", **kwargs}
        self.execute(expr).to_json(path, **options)
