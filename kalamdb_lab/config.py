"""Settings of one database directory: ``kalam.toml``, read once when the directory is opened."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, Self, get_args

from kalamdb_lab.errors import InvalidOptionError

Durability = Literal["full", "normal"]

SETTINGS_FILE = "kalam.toml"

_TEMPLATE = """\
# Settings of this database; read when it is opened.

# "full": an acknowledged commit survives power loss. "normal": the last commits may be lost
# with the power, never consistency.
durability = "full"

# A writer waits this long for another one before it is told that the database is busy.
busy_timeout_s = 10.0

# Memory that one query may use, and memory for decoded segments that are read again.
query_memory_bytes = 4_000_000_000
cache_bytes = 1_500_000_000

# A result that is held in memory as a whole ends with an error beyond this size.
result_bytes = 8_000_000_000

# When hot rows of tables without a FLUSH_POLICY go to segments: "rows:N" as soon as a scope has N,
# "interval:N" N seconds after the first, "rows:N,interval:N", or "none": by STORAGE FLUSH alone.
flush_policy = "rows:10000"

# A job that cannot be done now (a busy database, a full disk) is tried again after this long, then
# after twice and four times as long.
job_retry_s = 1.0

# How far back a reader of changes may resume.
log_retention_s = 3600

# How long files of merged segments stay for readers in other processes that may still use them.
retired_segment_grace_s = 600

# How long the files of dropped tables stay on the disk.
dropped_table_retention_hours = 0

# VACUUM erases all rows of users that were dropped longer ago than this; without it none.
# dropped_user_retention_days = 30

# An insert of at least this many rows becomes a segment at once.
bulk_rows = 5_000

# CREATE INDEX ... USING ANN builds an index for segments with at least this many vectors; smaller
# ones are searched as fast without.
index_from_rows = 50_000

# How many events may wait for a subscriber who does not read them, before it is told that it lags.
live_queue_events = 10_000

# Whether INSERT, UPDATE and DELETE leave a row in system.audit_logs too.
audit_dml = false
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``kalam.toml`` may say; the file that a new database gets explains each line."""

    durability: Durability = "full"
    busy_timeout_s: float = 10.0
    query_memory_bytes: int = 4_000_000_000
    cache_bytes: int = 1_500_000_000
    result_bytes: int = 8_000_000_000
    flush_policy: str = "rows:10000"
    job_retry_s: float = 1.0
    log_retention_s: int = 3600
    retired_segment_grace_s: int = 600
    dropped_table_retention_hours: int = 0
    dropped_user_retention_days: int | None = None
    bulk_rows: int = 5_000
    index_from_rows: int = 50_000
    live_queue_events: int = 10_000
    audit_dml: bool = False

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read the settings of a directory; without a file they have their defaults.

        Raises
        ------
        InvalidOptionError
            If the file is no TOML, or a setting is unknown or out of its range.
        """
        try:
            text = (directory / SETTINGS_FILE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls()
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidOptionError(f"{SETTINGS_FILE} is not valid TOML: {error}") from None
        defaults = {item.name: item.default for item in fields(cls)}
        for name, value in values.items():
            if name not in defaults:
                raise InvalidOptionError(f"{SETTINGS_FILE} has an unknown setting '{name}'")
            _check(name, value, defaults[name])
        return cls(**values)

    @staticmethod
    def write_template(directory: Path) -> None:
        """Write the commented defaults into a new directory."""
        (directory / SETTINGS_FILE).write_text(_TEMPLATE, encoding="utf-8")


def _check(name: str, value: object, default: object) -> None:
    if name == "durability":
        if value not in get_args(Durability):
            raise InvalidOptionError(f"{SETTINGS_FILE}: durability is 'full' or 'normal'")
    elif isinstance(default, str):
        if not isinstance(value, str):
            raise InvalidOptionError(f"{SETTINGS_FILE}: {name} is a text")
    elif isinstance(default, bool):
        if not isinstance(value, bool):
            raise InvalidOptionError(f"{SETTINGS_FILE}: {name} is true or false")
    elif isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise InvalidOptionError(f"{SETTINGS_FILE}: {name} is a number, 0 or more")
    elif not isinstance(default, float) and not isinstance(value, int):
        raise InvalidOptionError(f"{SETTINGS_FILE}: {name} is a whole number")
