"""The options of CREATE TABLE: what each kind of table takes, and the words when it does not."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kalamdb_lab.errors import InvalidOptionError
from kalamdb_lab.model.tables import AccessLevel, FlushPolicy, TableKind, TableOptions

OptionValue = str | int | float | bool | None

_KINDS = {"USER": TableKind.USER, "SHARED": TableKind.SHARED, "STREAM": TableKind.STREAM}
_POLICY_PART = re.compile(r"(rows|interval):([0-9]{1,18})")


def table_kind(explicit: TableKind | None, options: Sequence[tuple[str, OptionValue]]) -> TableKind:
    """Return the kind that the statement and its TYPE option agree on; SHARED without either."""
    for name, value in options:
        if name.upper() == "TYPE":
            kind = _KINDS.get(str(value).upper())
            if kind is None:
                raise InvalidOptionError(
                    f"Unknown table type '{value}'; use USER, SHARED or STREAM"
                )
            if explicit is not None and kind is not explicit:
                raise InvalidOptionError(
                    f"Table type conflict: CREATE {explicit.value.upper()} TABLE with TYPE "
                    f"'{kind.value.upper()}'"
                )
            return kind
    return explicit if explicit is not None else TableKind.SHARED


def table_options(kind: TableKind, options: Sequence[tuple[str, OptionValue]]) -> TableOptions:
    """Return the options of a new table, or refuse what does not go with its kind.

    Whether the storage exists is not looked up here.
    """
    given = given_once(options)
    given.pop("TYPE", None)
    known = {
        "STORAGE_ID",
        "USE_USER_STORAGE",
        "FLUSH_POLICY",
        "DELETED_RETENTION_HOURS",
        "TTL_SECONDS",
        "ACCESS_LEVEL",
    }
    for name, _ in options:
        if name.upper() not in known and name.upper() != "TYPE":
            raise InvalidOptionError(f"Unknown table option '{name}'")
    stream = kind is TableKind.STREAM
    for name in ("STORAGE_ID", "FLUSH_POLICY", "DELETED_RETENTION_HOURS"):
        if stream and name in given:
            raise InvalidOptionError(f"{name} is not supported for STREAM tables")
    if "USE_USER_STORAGE" in given and kind is not TableKind.USER:
        raise InvalidOptionError("USE_USER_STORAGE is only supported for USER tables")
    if "TTL_SECONDS" in given and not stream:
        raise InvalidOptionError("TTL_SECONDS is only supported for STREAM tables")
    if "ACCESS_LEVEL" in given and kind is not TableKind.SHARED:
        raise InvalidOptionError("ACCESS_LEVEL is only supported for SHARED tables")
    if stream and "TTL_SECONDS" not in given:
        raise InvalidOptionError("STREAM tables require TTL_SECONDS")
    access = None
    if kind is TableKind.SHARED:
        access = access_level(given.get("ACCESS_LEVEL", "private"))
    return TableOptions(
        storage_id=None if stream else str(given.get("STORAGE_ID", "local")).lower(),
        use_user_storage=flag("USE_USER_STORAGE", given.get("USE_USER_STORAGE", False)),
        flush_policy=flush_policy(given["FLUSH_POLICY"]) if "FLUSH_POLICY" in given else None,
        deleted_retention_hours=_whole(
            given.get("DELETED_RETENTION_HOURS"),
            0,
            "DELETED_RETENTION_HOURS must be a whole number of hours, 0 or more",
        ),
        ttl_seconds=_whole(
            given.get("TTL_SECONDS"),
            1,
            "TTL_SECONDS must be a whole number of seconds, 1 or more",
        ),
        access_level=access,
    )


def access_level(value: OptionValue) -> AccessLevel:
    """Return the level of a name in any case."""
    try:
        return AccessLevel(str(value).lower())
    except ValueError:
        raise InvalidOptionError(
            f"Unknown ACCESS_LEVEL '{value}'; use PUBLIC, PRIVATE or RESTRICTED"
        ) from None


def given_once(
    options: Sequence[tuple[str, OptionValue]], *, thing: str = "Table"
) -> dict[str, OptionValue]:
    """Return options by their names in capitals; refuses one that is said twice."""
    given: dict[str, OptionValue] = {}
    for name, value in options:
        upper = name.upper()
        if upper in given:
            raise InvalidOptionError(f"{thing} option '{upper}' appears twice")
        given[upper] = value
    return given


def flush_policy(value: OptionValue) -> FlushPolicy:
    """Return a policy as FLUSH_POLICY and the setting of the database say it."""
    parts = [_POLICY_PART.fullmatch(part.strip()) for part in str(value).lower().split(",")]
    numbers = {match[1]: int(match[2]) for match in parts if match is not None}
    if (
        any(match is None for match in parts)
        or len(numbers) != len(parts)
        or min(numbers.values()) < 1
    ):
        raise InvalidOptionError(
            f"Invalid FLUSH_POLICY '{value}': use rows:N, interval:N or rows:N,interval:N "
            "with N of at least 1"
        )
    return FlushPolicy(numbers.get("rows"), numbers.get("interval"))


def default_flush_policy(setting: str) -> FlushPolicy | None:
    """Return the policy of tables without one; None if statements alone flush them ("none")."""
    return None if setting.strip().lower() == "none" else flush_policy(setting)


def flag(name: str, value: OptionValue) -> bool:
    """Return the value of an option that is TRUE or FALSE."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise InvalidOptionError(f"{name} must be TRUE or FALSE")


def _whole(value: OptionValue, lowest: int, message: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise InvalidOptionError(message)
    return value
