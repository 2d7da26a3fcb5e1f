"""Templates of directories: where the segments of a partition lie inside their storage."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import xxhash

from kalamdb_lab.errors import InvalidOptionError
from kalamdb_lab.model.ids import TableId

SHARED_TEMPLATE = "{namespace}/{tableName}"
USER_TEMPLATE = "{namespace}/{tableName}/{userId}"
DEFAULT_SHARDS = 16
MOST_SHARDS = 65_536

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_-")
_LONGEST_VALUE = 120
_LONGEST = {"namespace": 64, "tableName": 64, "userId": _LONGEST_VALUE, "shard": 11}
"""Bytes of each placeholder's value at most."""
_LONGEST_NAME = 255
"""Bytes of a file or directory name at most, on every file system in use."""
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_UNFIT = re.compile(r"[\x00-\x1f\x7f\\*?\[\]~%]")
_MOST_TABLES = 10_000


def encoded(value: str) -> str:
    """Return ``value`` as part of a path that no other value shares, on any file system.

    All bytes but ``a-z 0-9 _ -`` are percent-encoded: a dot could climb out of the directory, and
    capitals would meet small letters where a file system does not tell them apart. What is then
    too long for a file name is cut and ends in ``~`` and a SHA-256.
    """
    raw = value.encode("utf-8", "surrogatepass")
    text = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)
    if len(text) <= _LONGEST_VALUE:
        return text
    digest = hashlib.sha256(raw).hexdigest()
    return text[: _LONGEST_VALUE - len(digest) - 1].rsplit("%", 1)[0] + "~" + digest


def checked_template(name: str, template: str) -> str:
    """Return the template of SHARED_TABLES_TEMPLATE or USER_TABLES_TEMPLATE, or refuse it."""
    is_user = name == "USER_TABLES_TEMPLATE"
    if _UNFIT.search(template) or any(part in ("", ".", "..") for part in template.split("/")):
        raise InvalidOptionError(f"{name} must be a relative path without '..'")
    found = _PLACEHOLDER.findall(template)
    literals = _PLACEHOLDER.sub("\0", template).split("\0")
    if any("{" in literal or "}" in literal for literal in literals):
        raise InvalidOptionError(f"{name} contains a brace that is not part of a placeholder")
    allowed = {"namespace", "tableName"} | ({"userId", "shard"} if is_user else set())
    for placeholder in found:
        if placeholder not in allowed:
            raise InvalidOptionError(f"{name} does not take {{{placeholder}}}")
        if found.count(placeholder) > 1:
            raise InvalidOptionError(f"{name} contains {{{placeholder}}} twice")
    order = [placeholder for placeholder in found if placeholder != "shard"]
    for placeholder in ("namespace", "tableName", "userId")[: 3 if is_user else 2]:
        if placeholder not in order:
            raise InvalidOptionError(f"{name} must contain {{{placeholder}}}")
    if order.index("namespace") > order.index("tableName"):
        raise InvalidOptionError(f"{name} must contain {{namespace}} before {{tableName}}")
    if is_user and order[-1] != "userId":
        raise InvalidOptionError(f"{name} must contain {{tableName}} before {{userId}}")
    # "ab" + "c" and "a" + "bc" must not meet in one directory.
    if any(re.search(r"[^A-Za-z0-9_]", literal) is None for literal in literals[1:-1]):
        raise InvalidOptionError(f"{name} must separate its placeholders, as in {USER_TEMPLATE}")
    longest = _PLACEHOLDER.sub(lambda match: "x" * _LONGEST[match[1]], template)
    if any(len(part.encode("utf-8", "replace")) > _LONGEST_NAME for part in longest.split("/")):
        raise InvalidOptionError(f"{name} makes names of more than {_LONGEST_NAME} bytes")
    return template


def shards_of(config: str | None) -> int:
    """Return the count of shards that CONFIG asks for, or refuse it."""
    if config is None:
        return DEFAULT_SHARDS
    values = json_object("CONFIG", config)
    for name in values:
        if name != "shards":
            raise InvalidOptionError(f"Unknown CONFIG key '{name[:40]}'; use shards")
    shards = values.get("shards", DEFAULT_SHARDS)
    if isinstance(shards, bool) or not isinstance(shards, int) or not 1 <= shards <= MOST_SHARDS:
        raise InvalidOptionError(f"CONFIG shards must be a whole number, 1 to {MOST_SHARDS:,}")
    return shards


def json_object(name: str, text: str) -> dict[str, Any]:
    """Return the JSON object that an option holds; refuse all else without quoting it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidOptionError(f"{name} must be a JSON object")
    return value


class Templates:
    """Both templates of one storage. The names in them are resolved once per table.

    Parameters
    ----------
    shared, user : str
        For SHARED and SYSTEM tables, and for USER tables.
    shards : int
        Count of values of ``{shard}``, at least 1.
    """

    def __init__(self, shared: str, user: str, shards: int) -> None:
        self._shared_template = checked_template("SHARED_TABLES_TEMPLATE", shared)
        self._user_template = checked_template("USER_TABLES_TEMPLATE", user)
        self._shards = shards
        self._shared: dict[TableId, str] = {}
        self._user: dict[TableId, str] = {}

    def directory(self, table_id: TableId, user: str | None = None) -> str:
        """Return the directory of a partition; ``user`` is None for SHARED and SYSTEM tables."""
        if user is None:
            return self._shared.get(table_id) or self._resolved(
                self._shared, self._shared_template, table_id
            )
        directory = self._user.get(table_id) or self._resolved(
            self._user, self._user_template, table_id
        )
        # Encoded values hold no braces, so none is taken for a placeholder.
        directory = directory.replace("{userId}", encoded(user))
        return directory.replace("{shard}", self._shard(user)) if "{" in directory else directory

    def _resolved(self, known: dict[TableId, str], template: str, table_id: TableId) -> str:
        path = template.replace("{namespace}", encoded(table_id.namespace))
        path = path.replace("{tableName}", encoded(table_id.name))
        if len(known) >= _MOST_TABLES:  # of tables that were dropped, most of them
            known.clear()
        known[table_id] = path
        return path

    def _shard(self, user: str) -> str:
        number = xxhash.xxh3_64_intdigest(user.encode("utf-8", "surrogatepass")) % self._shards
        return f"shard_{number}"
