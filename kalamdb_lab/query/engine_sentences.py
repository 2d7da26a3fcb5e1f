"""Sentences for what the engine finds wrong, where they depend on what it says."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kalamdb_lab.errors import (
    QUOTED_TEXT_LIMIT,
    AmbiguousError,
    DimensionMismatchError,
    GroupingError,
    InvalidDefinitionError,
    InvalidValueError,
    KalamError,
    NotFoundError,
    TypeMismatchError,
    ValueOutOfRangeError,
)
from kalamdb_lab.query import functions
from kalamdb_lab.query.allowed import function_refusal
from kalamdb_lab.query.relations import Relation
from kalamdb_lab.query.views import VIEW_ALIAS, BrokenViewError


@dataclass(frozen=True, slots=True)
class StatementNames:
    """What a statement names, for its errors: nothing here is hidden from its reader.

    Attributes
    ----------
    aliases : dict of str to tuple of Relation
    views : dict of str to frozenset of str
        The names in the text of each view that was inlined.
    literals : frozenset of str
        Texts in the statement, which may be quoted.
    quoted : frozenset of str
        Names that the statement writes in double quotes.
    """

    aliases: Mapping[str, tuple[Relation, ...]]
    views: Mapping[str, frozenset[str]]
    literals: frozenset[str]
    quoted: frozenset[str] = frozenset()

    def columns(self, alias: str | None = None) -> list[str]:
        """Return the columns that may be named, of one alias or of all."""
        groups: Iterable[tuple[Relation, ...]]
        groups = self.aliases.values() if alias is None else [self.aliases.get(alias, ())]
        return [
            column.name
            for relation in itertools.chain.from_iterable(groups)
            for column in relation.columns
        ]


@dataclass(frozen=True, slots=True)
class Case:
    """One fault as it is being explained: what matched, in which statement."""

    match: re.Match[str]
    names: StatementNames
    values: Mapping[str, object]

    def __getitem__(self, group: int | str) -> str:
        return self.match[group] or ""

    def get(self, group: str) -> str:
        """Return a group that the pattern may not have."""
        return self.match.groupdict().get(group) or ""

    def quotable(self, text: str) -> str | None:
        """Return ``'text'`` if the statement or its parameters say it, else None."""
        given = {value for value in self.values.values() if isinstance(value, str)}
        if text in self.names.literals or text in given:
            return f"'{text[:QUOTED_TEXT_LIMIT]}'"
        return None


def saying(error: Callable[[str], KalamError], sentence: str) -> Callable[[Case], KalamError]:
    r"""Return what raises ``error`` with a sentence in which ``\1`` is the first group."""
    return lambda case: error(case.match.expand(sentence))


# --- names ------------------------------------------------------------------------------


def _near(name: str, known: Iterable[str]) -> list[str]:
    folded = {column.lower(): column for column in known if column.lower() != name.lower()}
    found = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return [folded[near] for near in found]


def unknown_column(case: Case) -> KalamError:
    """A column that no source has; one that only a view names is the view's fault."""
    name = case[1]
    columns = case.names.columns()
    for view, mentioned in case.names.views.items():
        if name.lower() in mentioned and name.lower() not in map(str.lower, columns):
            return BrokenViewError(f"View {view} references missing column '{name}'")
    error = NotFoundError("Column", name, nearby=_near(name, columns))
    if name in case.names.quoted and not error.nearby:
        error.message += "; write text in single quotes"
    return error


def unknown_column_of(case: Case) -> KalamError:
    """A column that one alias does not have."""
    alias, name = case["alias"], case["name"]
    columns = case.names.columns(alias.lower())
    return NotFoundError("Column", name, within=alias, nearby=_near(name, columns))


def unknown_table(case: Case) -> KalamError:
    """A qualifier that is nothing in FROM."""
    error = NotFoundError("Table or alias", case[1])
    error.message = f"Table or alias '{case[1]}' is not in FROM"
    error.args = (error.message,)
    return error


def ambiguous(case: Case) -> KalamError:
    """A column that several sources have."""
    found = set(re.findall(r"[\"']([^\"'.]+)\.", case["uses"]))
    in_order = {alias: at for at, alias in enumerate(case.names.aliases)}
    places = sorted(found, key=lambda name: (in_order.get(name.lower(), len(in_order)), name))
    where = f": it is in {' and '.join(places)}" if len(places) > 1 else ""
    return AmbiguousError(f"Column '{case['name']}' is ambiguous{where}")


def not_grouped(case: Case) -> KalamError:
    """A column that is neither grouped nor aggregated."""
    return GroupingError(f"Column '{case[1]}' must appear in GROUP BY or in an aggregate")


def unknown_function(case: Case) -> KalamError:
    """A function that this version of the engine does not have in this place."""
    name = case[1].lower()
    if name in functions.WINDOWS:
        return no_window(case)
    if name in functions.ALLOWED:  # of another version of the engine
        return NotFoundError("Function", name)
    return function_refusal(name)


def no_window(_: Case) -> KalamError:
    """A window function without OVER, or in a place that cannot have one."""
    return GroupingError("A window function cannot stand here; it needs OVER (...)")


def misplaced(case: Case) -> KalamError:
    """An aggregate or window function in WHERE, GROUP BY and the like."""
    what = "An aggregate" if case["what"] == "aggregate" else "A window function"
    return GroupingError(f"{what} cannot stand in {case['clause'].upper()}")


def column_count(case: Case) -> KalamError:
    """An alias or view with more column names than columns."""
    name, is_view = case["name"], case["name"].startswith(VIEW_ALIAS)
    what = f"View {name.removeprefix(VIEW_ALIAS)}" if is_view else f"'{name}'"
    return InvalidDefinitionError(
        f"{what} lists {case['lists']} columns but its query returns {case['has']}"
    )


# --- types and values -------------------------------------------------------------------

_TYPE_NAMES = {
    "INT8": "TINYINT",
    "INT16": "SMALLINT",
    "INT32": "INT",
    "INT64": "BIGINT",
    "INT128": "DECIMAL(38, 0)",
    "UINT8": "UTINYINT",
    "UINT16": "USMALLINT",
    "UINT32": "UINTEGER",
    "UINT64": "UBIGINT",
    "UINT128": "DECIMAL(38, 0)",
    "BOOL": "BOOLEAN",
    "VARCHAR": "TEXT",
    "BLOB": "BYTES",
    "INTEGER": "INT",
    "HUGEINT": "DECIMAL(38, 0)",
    "TIMESTAMP WITH TIME ZONE": "DATETIME",
    "INTEGER_LITERAL": "INT",
    "STRING_LITERAL": "TEXT",
}
_TYPE_WORD = re.compile(
    r"\b(?:" + "|".join(sorted(_TYPE_NAMES, key=len, reverse=True)) + r")\b(?! WITH)"
)


def _type(name: str) -> str:
    plain = name.strip().strip('"').upper()
    return re.sub(r",(?=\S)", ", ", _TYPE_WORD.sub(lambda word: _TYPE_NAMES[word[0]], plain))


def not_convertible(case: Case) -> KalamError:
    """A text that is not of the type; only what the statement itself says is quoted."""
    kind, column = _type(case["type"]), case["column"]
    if kind in ("UUID", "DECIMAL(38, 0)"):  # 1.5.6 names the integer behind a UUID
        return InvalidValueError(f"Column '{column}': invalid UUID" if column else "Invalid UUID")
    quoted = case.quotable(case["text"])
    if quoted is not None:
        return TypeMismatchError(f"Cannot convert {quoted} to {kind}")
    where = f" in column '{column}'" if column else ""
    return TypeMismatchError(f"Cannot cast TEXT to {kind}{where}")


def not_a_date(case: Case) -> KalamError:
    """A text that is no date or time."""
    kind, column = _type(case["type"]), case["column"]
    quoted = case.quotable(case["text"])
    if quoted is not None:
        return InvalidValueError(f"Invalid {kind} {quoted}")
    where = f" in column '{column}'" if column else ""
    return TypeMismatchError(f"Cannot cast TEXT to {kind}{where}")


def out_of_range(case: Case) -> KalamError:
    """A number that its type cannot hold."""
    name, column = case["type"] or case.get("kind"), case.get("column")
    subject = f"Column '{column}': value" if column else "A value"
    return ValueOutOfRangeError(f"{subject} is out of range for {_type(name)}")


def no_vector(case: Case) -> KalamError:
    """A text that is no vector of the dimension."""
    wanted, column = case["wanted"], case.get("column")
    text = case["text"].strip()
    got = text.count(",") + 1 if text[1:-1].strip() else 0
    if text.startswith("[") and text.endswith("]") and got != int(wanted):
        subject = f"Column '{column}' expects" if column else "Expected"
        return DimensionMismatchError(f"{subject} {wanted} dimensions, got {got}")
    quoted = case.quotable(case["text"])
    if quoted is not None:
        return TypeMismatchError(f"Cannot convert {quoted} to EMBEDDING({wanted})")
    where = f" in column '{column}'" if column else ""
    return TypeMismatchError(f"Cannot cast TEXT to EMBEDDING({wanted}){where}")


def overflow(case: Case) -> KalamError:
    """An operation whose result its type cannot hold."""
    return ValueOutOfRangeError(
        f"The result of {case['operation']} is out of range for {_type(case['type'])}"
    )


def wrong_arguments(case: Case) -> KalamError:
    """A function or operator that is not there for these types."""
    name = case["name"].strip('"')
    arguments = ", ".join(_type(part) for part in _split(case["arguments"]))
    if re.fullmatch(r"\w+", name):
        return TypeMismatchError(f"{name}() does not take ({arguments}); use CAST")
    return TypeMismatchError(f"Operator {name} does not take ({arguments}); use CAST")


def _split(arguments: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for at, character in enumerate(arguments):
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append(arguments[start:at])
            start = at + 1
    parts.append(arguments[start:])
    return [part for part in parts if part.strip()]


def no_cast(case: Case) -> KalamError:
    """A CAST that does not exist."""
    return TypeMismatchError(f"Cannot cast {_type(case['from'])} to {_type(case['to'])}")


def no_comparison(case: Case) -> KalamError:
    """Two types that do not compare."""
    return TypeMismatchError(
        f"Cannot compare {_type(case['from'])} with {_type(case['to'])}; use CAST"
    )


def no_combination(case: Case) -> KalamError:
    """Two types without a common one."""
    return TypeMismatchError(
        f"Cannot combine {_type(case['from'])} with {_type(case['to'])}; use CAST"
    )
