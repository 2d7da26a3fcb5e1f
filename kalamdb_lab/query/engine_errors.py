"""The engine's errors in the words of the language.

Nothing that the engine says is passed on: it quotes stored values, paths and internal names.
What is recognised gets the sentence of the language; the rest becomes an InternalError whose
number finds the details in the log.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Mapping

from kalamdb_lab.errors import (
    DimensionMismatchError,
    DivisionByZeroError,
    GroupingError,
    InternalError,
    InvalidDefinitionError,
    InvalidValueError,
    KalamError,
    LimitError,
    NotFoundError,
    NotSupportedError,
    SqlSyntaxError,
    StorageError,
    TooLargeError,
    TypeMismatchError,
    ValueOutOfRangeError,
)
from kalamdb_lab.query import engine_sentences as say
from kalamdb_lab.query import guards
from kalamdb_lab.query.duck import EngineError
from kalamdb_lab.query.engine_sentences import Case, StatementNames

__all__ = ["StatementNames", "translated"]

_log = logging.getLogger(__name__)

_Explain = Callable[[Case], KalamError]

_TWO_TYPES = r"(?P<from>.+?) and (?:type )?(?P<to>.+?)(?: in| -|$)"
_CALL = r"['\"](?P<name>.+?)\((?P<arguments>.*?)\)['\"]\."
_SOURCE = r"(?: when casting from source column (?P<column>.+))?$"
_TEMPORAL = (
    r"^(?:invalid )?(?P<type>date|time|timestamp(?: with time zone)?) field "
    r"(?:value out of range|format): \"(?P<text>.*?)\"(?:, expected format is \(.*?\))?"
)
_OUTSIDE = (
    r"^(?:Type \S+ with value .* can't be cast because the value is out of range for the "
    r"destination type (?P<type>[\w(), ]+?)|Casting value .* to type (?P<kind>\S+) failed.*)"
)
_ALONE = (
    r"^(?:Parameter not supported in )?(ORDER BY|GROUP BY|DISTINCT ON) "
    r"(?:clause$|non-integer literal)"
)
_LISTS = r"^Cannot (?:mix|combine|concatenate)(?: values| lists)?(?: of)?(?: types?)?(?: of)? "
_ABOUT_ARGUMENTS = (
    r"arguments?\b|takes|can only|must be|requires|Parameter|No matching|lambda|[Kk]ey|cannot be"
)

_EXPLAINED: dict[str, _Explain] = {
    # names
    r'^Referenced column "?(.+?)"? (?:was )?not found': say.unknown_column,
    r'^[Cc]olumn "(.+?)" in (?:EXCLUDE|REPLACE|RENAME) list': say.unknown_column,
    r'^Column(?: with name)? "?(.+?)"? does not exist': say.unknown_column,
    r'^Column "?(.+?)"? (?:does not|cannot).* USING': say.unknown_column,
    r'^(?:Values list|Table) "(?P<alias>.+?)" does not have a column named "(?P<name>.+?)"': (
        say.unknown_column_of
    ),
    r'^Referenced table "(.+?)" not found': say.unknown_table,
    r"^Cannot extract field '.+?' from expression \"([^()'\[{]+?)\" because": say.unknown_table,
    r'^Cannot extract field from expression "(.+?)\.\*"': say.unknown_table,
    r"^Cannot extract field '(.+?)' from expression": say.saying(
        TypeMismatchError, r"Field '\1' is taken from a value that is no STRUCT"
    ),
    r'^Ambiguous reference to column name "(?P<name>.+?)" \(use: (?P<uses>.+)\)': say.ambiguous,
    r'^Ambiguous reference to table "(.+?)"': say.saying(
        InvalidDefinitionError,
        r"Table or alias '\1' appears twice in FROM; give each its own alias",
    ),
    r'^column "?(.+?)"? must appear in the GROUP BY': say.not_grouped,
    r'^Could not find key "(?P<name>.+?)" in struct': lambda case: NotFoundError(
        "Field", case["name"]
    ),
    r"^(?:\w+ )*Function with name \"?(\w+)\"? does not exist": say.unknown_function,
    r"^Python exception occurred while executing the UDF: ([^\n]{1,300})": say.saying(
        InvalidValueError, r"A Python function failed: \1"
    ),
    # counts
    r'^table "(?P<name>.+?)" has (?P<has>\d+) columns available but (?P<lists>\d+)': (
        say.column_count
    ),
    r"^Subquery returns (\d+) columns - expected (\d+)": say.saying(
        InvalidDefinitionError, r"A subquery returns \1 columns where \2 is expected"
    ),
    r"^ORDER term out of range - should be between 1 and (\d+)": say.saying(
        InvalidDefinitionError, r"Positions in ORDER BY are 1 to \1"
    ),
    r"^GROUP BY term out of range - should be between 1 and (\d+)": say.saying(
        InvalidDefinitionError, r"Positions in GROUP BY are 1 to \1"
    ),
    _ALONE: say.saying(
        InvalidDefinitionError,
        r"A constant cannot stand alone in \1; use a column, an expression or a position",
    ),
    # aggregates and windows out of place
    r"^(?P<clause>\w+)(?: BY)? clause cannot contain (?P<what>aggregate|window)": say.misplaced,
    r"[Ww]indow functions? (?:are|is|calls)": say.no_window,
    # types
    r"^No function matches the given name and argument types " + _CALL: say.wrong_arguments,
    r"^Could not choose a best candidate function for the function call " + _CALL: (
        say.wrong_arguments
    ),
    r"^Macro (\w+)\(\) does not support": say.saying(
        TypeMismatchError, r"\1() does not take these arguments"
    ),
    r"^Function '\"?(?P<name>\w+)\"?' has a template|in function: '(?P<other>\w+)\(": (
        lambda case: TypeMismatchError(
            f"{case['name'] or case['other']}() does not take these arguments; use CAST"
        )
    ),
    r"^Cannot compare values of type " + _TWO_TYPES: say.no_comparison,
    _LISTS + _TWO_TYPES: say.no_combination,
    r"^Unimplemented type for cast \((?P<from>.+) -> (?P<to>.+)\)": say.no_cast,
    # values
    r"^Could not convert string '(?P<text>.*)' to (?P<type>\w+)" + _SOURCE: say.not_convertible,
    _TEMPORAL + _SOURCE: say.not_a_date,
    _OUTSIDE + _SOURCE: say.out_of_range,
    r"^Could not cast value .* to (?P<type>DECIMAL\(\d+,\d+\))" + _SOURCE: say.out_of_range,
    r"^Overflow in (?P<operation>\w+) of (?P<type>\w+)": say.overflow,
    r"^Cannot cast (?:list with length|array of size) (\d+) to array [a-z ]+(\d+)": say.saying(
        DimensionMismatchError, r"Expected \2 dimensions, got \1"
    ),
    r"^Type VARCHAR with value '(?P<text>.*)' can't be cast to the destination type "
    r"\w+\[(?P<wanted>\d+)\](?:, the size of the array must match the destination type)?"
    + _SOURCE: (say.no_vector),
    r"extract specifier \"(?P<text>.*?)\" not recognized": lambda case: InvalidValueError(
        f"Unknown unit of time {case.quotable(case['text']) or 'in a text'}"
    ),
}
"""Faults whose sentence depends on what the engine says."""

_FIXED: dict[str, tuple[type[KalamError], str]] = {
    guards.DIVISION_BY_ZERO: (DivisionByZeroError, "Division by zero"),
    guards.VALUE_TOO_LARGE: (LimitError, "A value exceeds the limit of 64 MiB"),
    guards.TEXTS_TOO_LONG: (
        LimitError,
        "Texts to compare exceed the limit of 2,000 characters",
    ),
    r"[Dd]ivision by zero": (DivisionByZeroError, "Division by zero"),
    r"[Mm]ax(?:imum)? expression depth": (
        TooLargeError,
        "The statement nests too deep; shorten its expressions",
    ),
    r"^Set operations can only apply to expressions with the same number": (
        InvalidDefinitionError,
        "The queries of UNION, EXCEPT or INTERSECT have different numbers of columns",
    ),
    r"^More than one row returned by a subquery": (
        InvalidValueError,
        "A subquery used as a value returned more than one row",
    ),
    r"^aggregate function calls cannot (?:be nested|contain)": (
        GroupingError,
        "Aggregates cannot be nested",
    ),
    r"^at least one window function must appear": (
        GroupingError,
        "QUALIFY needs a window function",
    ),
    r"^UNNEST\(\) can only be applied to lists": (
        TypeMismatchError,
        "unnest() takes a list or a struct",
    ),
    r"must be a constant|argument .* constant": (
        InvalidDefinitionError,
        "An argument must be a constant here",
    ),
    r"must be INNER or LEFT for a LATERAL": (
        InvalidDefinitionError,
        "A lateral reference needs an INNER or LEFT JOIN",
    ),
    r"ircular reference": (
        InvalidDefinitionError,
        "A recursive CTE needs UNION or UNION ALL",
    ),
    r"^Invalid escape string": (InvalidValueError, "ESCAPE takes one character"),
    r"^Aggregate functions are not supported here": (
        GroupingError,
        "An aggregate cannot stand here",
    ),
    r"^Correlated columns not supported in LIMIT": (
        NotSupportedError,
        "A column in LIMIT or OFFSET is not supported",
    ),
    r"^GROUPING (?:function|statement) (?:is not|cannot)": (
        GroupingError,
        "grouping() belongs beside GROUP BY",
    ),
    r"^Unimplemented type for case expression": (
        NotSupportedError,
        "CASE and COALESCE of an EMBEDDING are not supported here; upgrade the engine to version 2",
    ),
    r"^UNNEST not supported here": (NotSupportedError, "unnest() in this place is not supported"),
    r"^Can't extract something from an empty struct": (
        TypeMismatchError,
        "An empty row has no fields",
    ),
    r"^Alias .* referenced - but the expression has side effects": (
        NotSupportedError,
        "Naming fresh ids within the same SELECT is not supported; use a subquery",
    ),
    r"Cannot cast STRUCTs of different size$": (
        TypeMismatchError,
        "Rows of different size do not compare",
    ),
    r"^RANGE frames must have only one ORDER BY": (
        InvalidDefinitionError,
        "A RANGE frame needs exactly one ORDER BY expression",
    ),
    r"is not an aggregate function$": (
        GroupingError,
        "Only an aggregate or window function takes OVER",
    ),
    r"^INSERT statement cannot contain aggregates": (
        GroupingError,
        "An aggregate cannot stand in VALUES",
    ),
    r"^\* expression without FROM clause": (
        SqlSyntaxError,
        "Syntax error: * needs a table in FROM",
    ),
    r"^LIMIT/OFFSET cannot be negative": (
        InvalidValueError,
        "LIMIT and OFFSET cannot be negative",
    ),
    r"Malformed JSON": (InvalidValueError, "Invalid JSON"),
    r"^JSON path error": (InvalidValueError, "Invalid JSON path"),
    r"Unknown TimeZone": (InvalidValueError, "Unknown time zone"),
}
"""Faults with one sentence."""

_BY_KIND: tuple[tuple[str, str, type[KalamError], str], ...] = (
    (
        "Invalid Input",
        r"^(?:missing|unexpected|invalid|bad) .*(?:\)|\]|\(|:|escape|repetition|class)",
        InvalidValueError,
        "Invalid regular expression",
    ),
    (
        "Invalid Input",
        r"^Could not parse string|^Failed to parse format|format specifier",
        InvalidValueError,
        "A text does not fit the format",
    ),
    (
        "Invalid Input",
        r"^Failed to cast value: Could not convert",
        TypeMismatchError,
        "An argument has the wrong type; use CAST",
    ),
    (
        "Invalid Input",
        "",
        InvalidValueError,
        "A function does not take a value that it was given",
    ),
    (
        "Not implemented",
        "",
        TypeMismatchError,
        "A function does not take these arguments; check their types",
    ),
    (
        "Binder",
        _ABOUT_ARGUMENTS,
        TypeMismatchError,
        "A function does not take these arguments; check their types",
    ),
    ("Out of Range", "", ValueOutOfRangeError, "A value is out of range"),
    ("Conversion", "", TypeMismatchError, "A value cannot be cast to the type"),
    ("Parser", "", SqlSyntaxError, "Syntax error: the statement cannot be read"),
    ("Out of Memory", "", LimitError, "The statement exceeds the limit of memory; narrow it"),
    ("IO", "", StorageError, "A file of the database cannot be read"),
)
"""What is left of a kind of fault."""


def _fixed(error: type[KalamError], sentence: str) -> _Explain:
    return lambda _: error(sentence)


_RULES: list[tuple[str | None, re.Pattern[str], _Explain]] = [
    *((None, re.compile(text, re.DOTALL), _fixed(*fixed)) for text, fixed in _FIXED.items()),
    *((None, re.compile(text, re.DOTALL), explain) for text, explain in _EXPLAINED.items()),
    *(
        (kind, re.compile(text, re.DOTALL), _fixed(error, sentence))
        for kind, text, error, sentence in _BY_KIND
    ),
]


def translated(
    fault: EngineError, names: StatementNames, values: Mapping[str, object] | None = None
) -> KalamError:
    """Return the error that a user sees for what the engine said.

    Parameters
    ----------
    values : mapping or None
        The parameters of the statement, which its errors may quote.
    """
    for kind, pattern, explain in _RULES:
        if kind is None or kind == fault.kind:
            match = pattern.search(fault.text)
            if match is not None:
                if isinstance(error := explain(Case(match, names, values or {})), StorageError):
                    _log.error("engine fault: %s: %s", fault.kind, fault.text)
                return error
    number = secrets.token_hex(4)
    _log.error("engine fault %s: %s: %s", number, fault.kind, fault.text)
    return InternalError(f"Internal error {number}; the log has the details")
