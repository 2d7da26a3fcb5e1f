"""The engine's errors in the words of the language.

Nothing that the engine says is passed on: it quotes stored values, paths and internal names.
What is recognised gets the sentence of the language; the rest becomes an InternalError whose
number finds the details in the log.
"""

from __future__ import annotations

import difflib
import itertools
import logging
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kalamdb_lab.errors import (
    QUOTED_TEXT_LIMIT,
    AmbiguousError,
    DivisionByZeroError,
    GroupingError,
    InternalError,
    InvalidDefinitionError,
    InvalidValueError,
    KalamError,
    LimitError,
    NotFoundError,
    SqlSyntaxError,
    TooLargeError,
    TypeMismatchError,
    ValueOutOfRangeError,
)
from kalamdb_lab.query import functions, guards
from kalamdb_lab.query.allowed import function_refusal
from kalamdb_lab.query.duck import EngineError
from kalamdb_lab.query.names import VIEW_ALIAS, BrokenViewError
from kalamdb_lab.query.relations import Relation

_log = logging.getLogger(__name__)


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
    """

    aliases: Mapping[str, tuple[Relation, ...]]
    views: Mapping[str, frozenset[str]]
    literals: frozenset[str]

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
class _Case:
    """One fault as it is being explained."""

    match: re.Match[str]
    names: StatementNames
    values: Mapping[str, object]

    def __getitem__(self, group: int | str) -> str:
        return self.match[group] or ""

    def quotable(self, text: str) -> str | None:
        """Return ``'text'`` if the statement or its parameters say it, else None."""
        given = {value for value in self.values.values() if isinstance(value, str)}
        if text in self.names.literals or text in given:
            return f"'{text[:QUOTED_TEXT_LIMIT]}'"
        return None


def translated(
    fault: EngineError, names: StatementNames, values: Mapping[str, object] | None = None
) -> KalamError:
    """Return the error that a user sees for what the engine said."""
    for kind, pattern, explain in _RULES:
        if kind is None or kind == fault.kind:
            match = pattern.search(fault.text)
            if match is not None:
                return explain(_Case(match, names, values or {}))
    number = secrets.token_hex(4)
    _log.error("engine fault %s: %s: %s", number, fault.kind, fault.text)
    return InternalError(f"Internal error {number}; the log has the details")


# --- names ------------------------------------------------------------------------------


def _near(name: str, known: Iterable[str]) -> list[str]:
    folded = {column.lower(): column for column in known}
    found = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return [folded[near] for near in found]


def _column(case: _Case) -> KalamError:
    name = case[1]
    for view, mentioned in case.names.views.items():
        if name.lower() in mentioned and name.lower() not in map(str.lower, case.names.columns()):
            return BrokenViewError(f"View {view} references missing column '{name}'")
    return NotFoundError("Column", name, nearby=_near(name, case.names.columns()))


def _column_of(case: _Case) -> KalamError:
    alias, name = case["alias"], case["name"]
    columns = case.names.columns(alias.lower())
    return NotFoundError("Column", name, within=alias, nearby=_near(name, columns))


def _table(case: _Case) -> KalamError:
    name = case[1]
    error = NotFoundError("Table or alias", name)
    error.message = f"Table or alias '{name}' is not in FROM"
    error.args = (error.message,)
    return error


def _ambiguous(case: _Case) -> KalamError:
    places = sorted(set(re.findall(r"[\"']([^\"'.]+)\.", case["uses"])))
    where = f": it is in {' and '.join(places)}" if len(places) > 1 else ""
    return AmbiguousError(f"Column '{case['name']}' is ambiguous{where}")


def _grouping(case: _Case) -> KalamError:
    return GroupingError(f"Column '{case[1]}' must appear in GROUP BY or in an aggregate")


def _function(case: _Case) -> KalamError:
    name = case[1].lower()
    if name in functions.WINDOWS:
        return _no_window(case)
    if name in functions.ALLOWED:  # of another version of the engine
        return NotFoundError("Function", name)
    return function_refusal(name)


def _no_window(_: _Case) -> KalamError:
    return GroupingError("A window function cannot stand here; it needs OVER (...)")


def _column_count(case: _Case) -> KalamError:
    name, is_view = case["name"], case["name"].startswith(VIEW_ALIAS)
    what = f"View {name.removeprefix(VIEW_ALIAS)}" if is_view else f"'{name}'"
    return InvalidDefinitionError(
        f"{what} lists {case['lists']} columns but its query returns {case['has']}"
    )


# --- values -----------------------------------------------------------------------------

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


def _type(name: str) -> str:
    plain = name.strip().strip('"').upper()
    return _TYPE_NAMES.get(plain, re.sub(r",(?=\S)", ", ", plain))


def _conversion(case: _Case) -> KalamError:
    """A text that is not of the type; only what the statement itself says is quoted."""
    text, kind, column = case["text"], _type(case["type"]), case["column"]
    if kind == "DECIMAL(38, 0)":
        kind = "UUID"  # 1.5.6 names the integer behind it
    quoted = case.quotable(text)
    if kind == "UUID":
        return InvalidValueError(f"Column '{column}': invalid UUID" if column else "Invalid UUID")
    if quoted is not None:
        return TypeMismatchError(f"Cannot convert {quoted} to {kind}")
    where = f" in column '{column}'" if column else ""
    return TypeMismatchError(f"Cannot cast TEXT to {kind}{where}")


def _calendar(case: _Case) -> KalamError:
    kind, text, column = case["type"].upper(), case["text"], case["column"]
    kind = {"TIMESTAMP WITH TIME ZONE": "DATETIME"}.get(kind, kind)
    quoted = case.quotable(text)
    if quoted is not None:
        return InvalidValueError(f"Invalid {kind} {quoted}")
    where = f" in column '{column}'" if column else ""
    return TypeMismatchError(f"Cannot cast TEXT to {kind}{where}")


def _out_of_range(case: _Case) -> KalamError:
    groups = case.match.groupdict()
    name, column = groups.get("type"), groups.get("column")
    subject = f"Column '{column}': value" if column else "A value"
    place = f" for {_type(name)}" if name else ""
    return ValueOutOfRangeError(f"{subject} is out of range{place}")


def _overflow(case: _Case) -> KalamError:
    return ValueOutOfRangeError(
        f"The result of {case['operation']} is out of range for {_type(case['type'])}"
    )


def _no_function(case: _Case) -> KalamError:
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


def _cast(case: _Case) -> KalamError:
    return TypeMismatchError(f"Cannot cast {_type(case['from'])} to {_type(case['to'])}")


def _comparison(case: _Case) -> KalamError:
    return TypeMismatchError(
        f"Cannot compare {_type(case['from'])} with {_type(case['to'])}; use CAST"
    )


def _says(error: Callable[[str], KalamError], sentence: str) -> Callable[[_Case], KalamError]:
    return lambda case: error(case.match.expand(sentence))


_CALL = r"['\"](?P<name>.+?)\((?P<arguments>.*?)\)['\"]\."
_SOURCE = r"(?: when casting from source column (?P<column>.+))?$"

_TEMPORAL = (
    r"^(?:invalid )?(?P<type>date|time|timestamp(?: with time zone)?) field "
    r"(?:value out of range|format): \"(?P<text>.*?)\"(?:, expected format is \(.*?\))?"
)
_TOO_LARGE = (
    r"^(?:Type \S+ with value .* can't be cast because the value is out of range for the "
    r"destination type (?P<type>[\w(), ]+?)|Casting value .* to type (?P<type2>\S+) failed.*)"
)

_RULES: list[tuple[str | None, re.Pattern[str], Callable[[_Case], KalamError]]] = [
    (kind, re.compile(pattern, re.DOTALL), explain)
    for kind, pattern, explain in (
        (None, guards.DIVISION_BY_ZERO, lambda _: DivisionByZeroError("Division by zero")),
        (
            None,
            guards.VALUE_TOO_LARGE,
            lambda _: LimitError("A value exceeds the limit of 64 MiB"),
        ),
        (
            None,
            guards.TEXTS_TOO_LONG,
            lambda _: LimitError("Texts to compare exceed the limit of 2,000 characters"),
        ),
        (None, r"[Dd]ivision by zero", lambda _: DivisionByZeroError("Division by zero")),
        # names
        ("Binder", r'^Referenced column "(.+?)" not found', _column),
        ("Binder", r'^Referenced column "(.+?)" was not found', _column),
        ("Binder", r'^Column "(.+?)" in (?:EXCLUDE|REPLACE|RENAME) list not found', _column),
        ("Binder", r'^column "(.+?)" in (?:EXCLUDE|REPLACE|RENAME) list', _column),
        (
            "Binder",
            r'^(?:Values list|Table) "(?P<alias>.+?)" does not have a column named "(?P<name>.+?)"',
            _column_of,
        ),
        ("Binder", r'^Column "(.+?)" does not exist on', _column),
        ("Binder", r'^Column with name "?(.+?)"? does not exist', _column),
        (
            "Binder",
            r'^Column "?(.+?)"? (?:does not|cannot).* USING',
            _column,
        ),
        ("Binder", r'^Referenced table "(.+?)" not found', _table),
        (
            "Binder",
            r'^Ambiguous reference to column name "(?P<name>.+?)" \(use: (?P<uses>.+)\)',
            _ambiguous,
        ),
        (
            "Binder",
            r'^Ambiguous reference to table "(.+?)"',
            _says(
                InvalidDefinitionError,
                r"Table or alias '\1' appears twice in FROM; give each its own alias",
            ),
        ),
        ("Binder", r'^column "?(.+?)"? must appear in the GROUP BY', _grouping),
        ("Binder", r'^Could not find key "(.+?)" in struct', _says(
            lambda message: NotFoundError("Field", message), r"\1"
        )),
        ("Catalog", r"^(?:\w+ )*Function with name \"?(\w+)\"? does not exist", _function),
        # counts
        (
            "Binder",
            r'^table "(?P<name>.+?)" has (?P<has>\d+) columns available but (?P<lists>\d+)',
            _column_count,
        ),
        (
            "Binder",
            r"^Set operations can only apply to expressions with the same number",
            lambda _: InvalidDefinitionError(
                "The queries of UNION, EXCEPT or INTERSECT have different numbers of columns"
            ),
        ),
        (
            "Binder",
            r"^Subquery returns (\d+) columns - expected (\d+)",
            _says(InvalidDefinitionError, r"A subquery returns \1 columns where \2 is expected"),
        ),
        (
            None,
            r"^More than one row returned by a subquery",
            lambda _: InvalidValueError("A subquery used as a value returned more than one row"),
        ),
        (
            "Binder",
            r"^(\w+ )?BY? ?term out of range - should be between 1 and (\d+)",
            _says(InvalidDefinitionError, r"Positions in \1BY are 1 to \2"),
        ),
        (
            "Binder",
            r"^ORDER term out of range - should be between 1 and (\d+)",
            _says(InvalidDefinitionError, r"Positions in ORDER BY are 1 to \1"),
        ),
        # aggregates and windows out of place
        (
            "Binder",
            r"^(\w+)(?: BY)? clause cannot contain (aggregate|window)",
            lambda case: GroupingError(
                f"{'An aggregate' if case[2] == 'aggregate' else 'A window function'} cannot "
                f"stand in {case[1].upper()}"
            ),
        ),
        (
            "Binder",
            r"^aggregate function calls cannot (?:be nested|contain window)",
            lambda _: GroupingError("Aggregates cannot be nested"),
        ),
        (
            "Binder",
            r"^at least one window function must appear",
            lambda _: GroupingError("QUALIFY needs a window function"),
        ),
        (
            "Binder",
            r"[Ww]indow function(?:s| calls)",
            _no_window,
        ),
        # types
        (
            "Binder",
            r"^No function matches the given name and argument types " + _CALL,
            _no_function,
        ),
        (
            "Binder",
            r"^Could not choose a best candidate function for the function call " + _CALL,
            _no_function,
        ),
        (
            "Binder",
            r"^Cannot compare values of type (?P<from>.+?) and (?:type )?(?P<to>.+?)(?: in| -|$)",
            _comparison,
        ),
        (
            "Binder",
            r"^Cannot mix values of type (?P<from>.+?) and (?P<to>.+?) in",
            _comparison,
        ),
        (
            None,
            r"^Unimplemented type for cast \((?P<from>.+) -> (?P<to>.+)\)",
            _cast,
        ),
        (
            "Binder",
            r"^UNNEST\(\) can only be applied to lists",
            lambda _: TypeMismatchError("unnest() takes a list or a struct"),
        ),
        (
            "Binder",
            r"must be a constant|argument .* constant",
            lambda _: InvalidDefinitionError("An argument must be a constant here"),
        ),
        (
            "Binder",
            r"ircular reference",
            lambda _: InvalidDefinitionError("A recursive CTE needs UNION or UNION ALL"),
        ),
        (
            "Binder",
            r"^LIMIT/OFFSET cannot be negative",
            lambda _: InvalidValueError("LIMIT and OFFSET cannot be negative"),
        ),
        # values
        (
            "Conversion",
            r"^Could not convert string '(?P<text>.*)' to (?P<type>\w+)" + _SOURCE,
            _conversion,
        ),
        (
            "Conversion",
            _TEMPORAL + _SOURCE,
            _calendar,
        ),
        (
            None,
            r"Malformed JSON",
            lambda _: InvalidValueError("Invalid JSON"),
        ),
        (
            "Conversion",
            _TOO_LARGE + _SOURCE,
            lambda case: _out_of_range(case)
            if case["type"]
            else ValueOutOfRangeError(f"A value is out of range for {_type(case['type2'])}"),
        ),
        (
            "Conversion",
            r"^Could not cast value .* to (?P<type>DECIMAL\(\d+,\d+\))" + _SOURCE,
            _out_of_range,
        ),
        (
            "Out of Range",
            r"^Overflow in (?P<operation>\w+) of (?P<type>\w+)",
            _overflow,
        ),
        (
            "Conversion",
            r"^Cannot cast list with length (\d+) to array with length (\d+)",
            _says(TypeMismatchError, r"Expected \2 dimensions, got \1"),
        ),
        ("Out of Range", r"", lambda _: ValueOutOfRangeError("A value is out of range")),
        (
            "Conversion",
            r"extract specifier \"(?P<text>.*?)\" not recognized",
            lambda case: InvalidValueError(
                f"Unknown unit of time {case.quotable(case['text']) or 'in a text'}"
            ),
        ),
        ("Conversion", r"", lambda _: TypeMismatchError("A value cannot be cast to the type")),
        (
            "Invalid Input",
            r"^(?:missing|unexpected|invalid|bad) .*(?:\)|\]|\(|:|escape|repetition|class)",
            lambda _: InvalidValueError("Invalid regular expression"),
        ),
        (
            "Invalid Input",
            r"^Could not parse string|^Failed to parse format|format specifier",
            lambda _: InvalidValueError("A text does not fit the format"),
        ),
        (
            "Invalid Input",
            r"^Failed to cast value: Could not convert",
            lambda _: TypeMismatchError("An argument has the wrong type; use CAST"),
        ),
        (
            "Invalid Input",
            r"",
            lambda _: InvalidValueError("A function does not take a value that it was given"),
        ),
        (
            "Out of Memory",
            r"",
            lambda _: LimitError("The statement exceeds the limit of memory; narrow it"),
        ),
        (
            None,
            r"[Mm]ax(?:imum)? expression depth",
            lambda _: TooLargeError("The statement nests too deep; shorten its expressions"),
        ),
        (
            "Parser",
            r"",
            lambda _: SqlSyntaxError("Syntax error: the statement cannot be read"),
        ),
        (
            "Binder",
            r"^The parameter \$?\w* ?cannot",
            lambda _: InvalidDefinitionError("A parameter cannot stand here"),
        ),
    )
]
