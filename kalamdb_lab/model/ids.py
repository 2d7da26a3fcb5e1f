"""Names and ids. A value of these types is valid once built; nobody checks it again."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kalamdb_lab.errors import InvalidDefinitionError, InvalidNameError, SqlSyntaxError

RESERVED_NAMESPACES = frozenset(
    {"system", "information_schema", "pg_catalog", "sys", "main", "temp", "kalam", "kalamdb"}
)
DEFAULT_NAMESPACE = "default"
SYSTEM_NAMESPACE = "system"
INFORMATION_SCHEMA = "information_schema"
ROOT_USER = "root"
SYSTEM_COLUMNS = ("_seq", "_deleted")

RESERVED_KEYWORDS = frozenset(
    """select from where group order having limit offset join on using union except intersect
    with as case when then else end and or not null is in like between exists distinct all any
    cast create alter drop insert update delete into set table primary references unique check
    constraint default true false""".split()
)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def checked_name(text: str, *, namespace: bool = False) -> str:
    """Return the folded name of a namespace, table, view, storage or index, or refuse it.

    ``default`` is a keyword, and a name of the one ``namespace``.
    """
    if text.startswith("_"):
        raise InvalidNameError(f"Name '{text}' is reserved: names cannot start with an underscore")
    if _NAME.fullmatch(text) is None:
        raise InvalidNameError(
            f"Invalid name '{text}': use letters, digits and underscores, starting with a letter, "
            "at most 64 characters"
        )
    folded = text.lower()
    if folded in RESERVED_KEYWORDS and not (namespace and folded == DEFAULT_NAMESPACE):
        raise InvalidNameError(f"Name '{folded}' is a reserved SQL keyword")
    return folded


def checked_column_name(text: str, *, quoted: bool) -> str:
    """Return a column name as it will be kept, or refuse it."""
    if text.lower() in SYSTEM_COLUMNS or text.lower().startswith("__kalam"):
        raise InvalidDefinitionError(f"Column name '{text}' is reserved")
    if quoted:
        if not 1 <= len(text) <= 128 or _CONTROL.search(text):
            raise InvalidNameError(
                f"Invalid column name '{text[:40]}': use 1 to 128 characters without control "
                "characters"
            )
        return text
    if text.startswith("_"):
        raise InvalidNameError(f"Name '{text}' is reserved: names cannot start with an underscore")
    if _NAME.fullmatch(text) is None:
        raise InvalidNameError(
            f"Invalid name '{text}': use letters, digits and underscores, starting with a letter, "
            "at most 64 characters"
        )
    return text


def checked_user_id(text: str) -> str:
    """Return a user id unchanged (it is never folded), or refuse it."""
    if not 1 <= len(text) <= 128 or _CONTROL.search(text):
        raise InvalidNameError(
            "Invalid user id: use 1 to 128 characters without control characters"
        )
    return text


@dataclass(frozen=True, slots=True, order=True)
class TableId:
    """The full name of a table or view. Both parts are folded; prints as ``namespace.table``."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}.{self.name}"

    @classmethod
    def of(cls, parts: tuple[str, ...], *, namespace: str) -> TableId:
        """Return the id of ``table`` or ``namespace.table`` as a statement wrote it."""
        if len(parts) > 2:
            raise SqlSyntaxError(
                f"Name '{'.'.join(parts)}' has too many parts; write namespace.table"
            )
        if len(parts) == 2:
            return cls(parts[0].lower(), parts[1].lower())
        return cls(namespace, parts[0].lower())


@dataclass(frozen=True, slots=True, order=True)
class PartitionKey:
    """One partition: a table's key (never reused) and a scope, empty for SHARED and SYSTEM."""

    table_key: int
    scope: str
