"""Guards inside the arguments of functions that could grow without bound, or divide by zero.

The engine neither counts such values against its memory limit nor can be interrupted while it
makes one. A guard stands in the argument: a CASE around the call does not help, because the
engine folds the constant call in its other branch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from sqlglot import exp

from kalamdb_lab.errors import LimitError, NotSupportedError, TypeMismatchError

MAX_VALUE_BYTES: Final = 64 << 20
_MAX_WORST_CASE_BYTES: Final = 8 * MAX_VALUE_BYTES
_MAX_PADDED: Final = MAX_VALUE_BYTES // 4
_MAX_ELEMENTS: Final = MAX_VALUE_BYTES // 64
_MAX_DISTANCE_STEPS: Final = 4_000_000
_SIMPLE_NODES: Final = 12

DIVISION_BY_ZERO: Final = "kalam:division-by-zero"
VALUE_TOO_LARGE: Final = "kalam:value-too-large"
TEXTS_TOO_LONG: Final = "kalam:texts-too-long"
"""What a guard makes the engine say; no text of a user gets into it."""

_LAMBDA: Final = "__g"
_VOLATILE = (exp.Rand, exp.Uuid, exp.Query, exp.Window, exp.Lambda)
_DYNAMIC_WIDTH: Final = {
    "format": re.compile(r"[0-9]{5}|\{[^}]*\{"),
    "printf": re.compile(r"[0-9]{5}|\*"),
}
_DISTANCES: Final = frozenset(
    {"levenshtein", "damerau_levenshtein", "jaro_similarity", "jaro_winkler_similarity"}
)

Build = Callable[[Sequence[exp.Expr]], exp.Expr]


def call(name: str, *arguments: exp.Expr) -> exp.Anonymous:
    """Return a call that prints as it is written here."""
    return exp.Anonymous(this=name, expressions=list(arguments))


def fault(sentinel: str) -> exp.Expr:
    """Return an expression that fails with ``sentinel`` where it is evaluated."""
    return call("error", exp.Literal.string(sentinel))


def once(values: Sequence[exp.Expr], build: Build) -> exp.Expr:
    """Return ``build(values)``, with each value evaluated once however often it is used.

    Cheap values are written twice, which the engine evaluates once. Others, and those with
    guards of their own (they would double at each level), are bound as a lambda's argument.
    """
    if all(_is_simple(value) for value in values):
        return build(values)
    name = exp.to_identifier(_LAMBDA)
    if len(values) == 1:
        bound: exp.Expr = values[0]
        fields: list[exp.Expr] = [exp.column(name.copy())]
    else:
        keys = [f"v{number}" for number in range(len(values))]
        bound = exp.Struct(
            expressions=[
                exp.PropertyEQ(this=exp.to_identifier(key), expression=value)
                for key, value in zip(keys, values, strict=True)
            ]
        )
        fields = [
            call("struct_extract", exp.column(name.copy()), exp.Literal.string(key)) for key in keys
        ]
    function = exp.Lambda(this=build(fields), expressions=[name], colon=True)
    listed = call("list_transform", call("list_value", bound), function)
    return call("list_extract", listed, exp.Literal.number(1))


def _is_simple(node: exp.Expr) -> bool:
    for count, part in enumerate(node.walk()):
        if count >= _SIMPLE_NODES or isinstance(part, _VOLATILE):
            return False
        if isinstance(part, exp.Anonymous) and part.name.lower() in ("error", "random", "uuidv7"):
            return False
    return True


def divisor(node: exp.Expr) -> exp.Expr:
    """Return an operand that fails where it is zero."""
    bare = node
    while isinstance(bare, (exp.Paren, exp.Neg)):
        bare = bare.this
    if isinstance(bare, exp.Literal) and not bare.is_string and float(bare.name) != 0:
        return node
    return once(
        [node],
        lambda value: _if(
            exp.EQ(this=exp.paren(value[0].copy()), expression=exp.Literal.number(0)),
            DIVISION_BY_ZERO,
            value[0],
        ),
    )


def _if(condition: exp.Expr, sentinel: str, value: exp.Expr) -> exp.Expr:
    branch = exp.If(this=condition, true=fault(sentinel))
    return exp.Case(ifs=[branch], default=value.copy())


def _bytes(value: exp.Expr) -> exp.Expr:
    """Return about how many bytes a value of any type has."""
    return call("strlen", exp.cast(value.copy(), "TEXT"))


def _above(size: exp.Expr, limit: int) -> exp.Expr:
    return exp.GT(this=size, expression=exp.Literal.number(limit))


def _product(left: exp.Expr, right: exp.Expr) -> exp.Expr:
    return exp.Mul(this=exp.paren(left), expression=exp.paren(right))


def _plus_one(value: exp.Expr) -> exp.Expr:
    return exp.Add(this=value, expression=exp.Literal.number(1))


def guarded(node: exp.Expr) -> exp.Expr | None:
    """Return what a call that may grow becomes, or None for other nodes.

    Raises
    ------
    LimitError
        Its constants alone are too large.
    """
    name = node.name.lower() if isinstance(node, exp.Anonymous) else ""
    if name:
        return _guarded_call(name, node.expressions)
    guard = _GUARDS.get(type(node))
    return None if guard is None else guard(node)


def _guarded_call(name: str, arguments: list[exp.Expr]) -> exp.Expr | None:
    if name == "repeat" and len(arguments) == 2:
        return _repeat(*arguments)
    if name in ("lpad", "rpad") and len(arguments) >= 2:
        return _pad(name, arguments)
    if name in _DISTANCES:
        return _distance(name, arguments)
    if name in _DYNAMIC_WIDTH:
        return _formatted(name, arguments)
    return None


def _repeat(text: exp.Expr, times: exp.Expr) -> exp.Expr:
    count = _whole(times)
    if count is not None and isinstance(text, exp.Literal):
        _refuse_above(len(text.name.encode()) * count, MAX_VALUE_BYTES)
        return call("repeat", text, times)

    def build(values: Sequence[exp.Expr]) -> exp.Expr:
        value, number = values
        size = exp.Mul(this=exp.cast(number.copy(), "DOUBLE"), expression=_bytes(value))
        limited = _if(_above(size, MAX_VALUE_BYTES), VALUE_TOO_LARGE, number)
        return call("repeat", value.copy(), limited)

    return once([text, times], build)


def _pad_node(node: exp.Expr) -> exp.Expr:
    fill = node.args.get("fill_pattern")
    arguments = [node.this, node.expression, exp.Literal.string(" ") if fill is None else fill]
    return _pad("lpad" if node.args.get("is_left") else "rpad", arguments)


def _pad(name: str, arguments: Sequence[exp.Expr]) -> exp.Expr:
    text, length, *fill = arguments
    count = _whole(length)
    if count is not None:
        _refuse_above(count, _MAX_PADDED)
        return call(name, text, length, *fill)
    limited = once(
        [length], lambda value: _if(_above(value[0].copy(), _MAX_PADDED), VALUE_TOO_LARGE, value[0])
    )
    return call(name, text, limited, *fill)


def _series(node: exp.Expr) -> exp.Expr | None:
    if isinstance(node.parent, (exp.Table, exp.Lateral)):
        return None  # a table function: rows, which are counted and can be interrupted
    start, end, step = node.args["start"], node.args["end"], node.args.get("step")
    name = "range" if node.args.get("is_end_exclusive") else "generate_series"
    first, last = _whole(start), _whole(end)
    stride = 1 if step is None else _whole(step)
    if first is not None and last is not None and stride is not None:
        _refuse_above((last - first) // stride if stride else 0, _MAX_ELEMENTS)
        return call(name, start, end, *([] if step is None else [step]))

    def build(values: Sequence[exp.Expr]) -> exp.Expr:
        low, high, *by = values
        pace = by[0] if by else exp.Literal.number(1)
        numbers = [_try(value, "DOUBLE") for value in (low, high, pace)]
        instants = [call("epoch", _try(value, "TIMESTAMP")) for value in (low, high)]
        interval = call("epoch", _try(pace, "INTERVAL"))
        too_far = exp.Or(this=_too_far(numbers), expression=_too_far([*instants, interval]))
        limited = _if(too_far, VALUE_TOO_LARGE, high)
        return call(name, low.copy(), limited, *(part.copy() for part in by))

    return once([start, end, *([] if step is None else [step])], build)


def _try(value: exp.Expr, kind: str) -> exp.Expr:
    """Return a value as ``kind``, or NULL where it is of another: the types are not known here."""
    return exp.TryCast(
        this=exp.cast(value.copy(), "TEXT"), to=exp.DataType.build(kind, dialect="duckdb")
    )


def _too_far(values: Sequence[exp.Expr]) -> exp.Expr:
    """Return whether from the first to the second it takes too many steps of the third.

    Steps of nothing are left to the engine, which refuses them where it gets there at all.
    """
    low, high, pace = values
    distance = call("abs", exp.Sub(this=high, expression=low))
    step = call("nullif", call("abs", pace), exp.Literal.number(0))
    return exp.GT(this=distance, expression=_product(exp.Literal.number(_MAX_ELEMENTS), step))


def _replace(node: exp.Expr) -> exp.Expr:
    text, old, new = node.this, node.expression, node.args.get("replacement")
    if new is None:
        return node
    is_fixed = isinstance(old, exp.Literal) and isinstance(new, exp.Literal)
    if is_fixed and len(new.name.encode()) <= len(old.name.encode()):
        return call("replace", text, old, new)

    def build(values: Sequence[exp.Expr]) -> exp.Expr:
        value, was, becomes = values
        size = _product(_bytes(value), _bytes(becomes))
        per = call("greatest", _bytes(was), exp.Literal.number(1))
        limit = _product(exp.Literal.number(_MAX_WORST_CASE_BYTES), per)
        limited = _if(exp.GT(this=size, expression=limit), VALUE_TOO_LARGE, becomes)
        return call("replace", value.copy(), was.copy(), limited)

    return once([text, old, new], build)


def _regexp_replace(node: exp.Expr) -> exp.Expr:
    text, pattern, new = node.this, node.expression, node.args.get("replacement")
    flags = node.args.get("modifiers")
    if new is None:
        return node
    rest = [] if flags is None else [flags]
    first_only = flags is None or (isinstance(flags, exp.Literal) and "g" not in flags.name)
    if first_only and isinstance(new, exp.Literal) and len(new.name) <= 256:
        return call("regexp_replace", text, pattern, new, *rest)

    def build(values: Sequence[exp.Expr]) -> exp.Expr:
        value, becomes = values
        # Every match writes the text and, for each \1 in it, at most what it matched.
        size = _product(
            _plus_one(_bytes(value)),
            _plus_one(_product(exp.Literal.number(2), _bytes(becomes))),
        )
        limited = _if(_above(size, _MAX_WORST_CASE_BYTES), VALUE_TOO_LARGE, becomes)
        # The pattern stays outside the lambda, where a constant is compiled once.
        return call("regexp_replace", value.copy(), pattern.copy(), limited, *rest)

    return once([text, new], build)


def _distance(name: str, arguments: Sequence[exp.Expr]) -> exp.Expr:
    if len(arguments) < 2 or None in arguments:
        raise TypeMismatchError(f"{name}() does not take these arguments")

    def build(values: Sequence[exp.Expr]) -> exp.Expr:
        left, right, *more = values
        steps = _product(_bytes(left), _bytes(right))
        limited = _if(_above(steps, _MAX_DISTANCE_STEPS), TEXTS_TOO_LONG, left)
        return call(name, limited, right.copy(), *(part.copy() for part in more))

    return once(arguments, build)


def _formatted(name: str, arguments: Sequence[exp.Expr]) -> exp.Expr:
    pattern = _DYNAMIC_WIDTH[name]
    if not arguments:
        return call(name)
    form, *values = arguments
    if isinstance(form, exp.Literal):
        if pattern.search(form.name):
            raise NotSupportedError(f"Widths above 9,999 are not supported in {name}()")
        return call(name, form, *values)
    checked = once(
        [form],
        lambda given: _if(
            call("regexp_matches", given[0].copy(), exp.Literal.string(pattern.pattern)),
            VALUE_TOO_LARGE,
            given[0],
        ),
    )
    return call(name, checked, *values)


def _joined(node: exp.Expr) -> exp.Expr | None:
    separator = node.expression
    if isinstance(separator, exp.Literal) and len(separator.name) <= 64:
        return None

    def build(values: Sequence[exp.Expr]) -> exp.Expr:
        items, between = values
        size = _product(call("len", items.copy()), _bytes(between))
        limited = _if(_above(size, MAX_VALUE_BYTES), VALUE_TOO_LARGE, items)
        return call("array_to_string", limited, between.copy())  # the engine wants a constant

    if not _is_simple(separator):
        raise NotSupportedError("array_to_string() takes a constant separator")
    return once([node.this], lambda items: build([*items, separator]))


def _whole(node: exp.Expr) -> int | None:
    negative = isinstance(node, exp.Neg)
    inner = node.this if negative else node
    if isinstance(inner, exp.Literal) and not inner.is_string and inner.name.isdecimal():
        return -int(inner.name) if negative else int(inner.name)
    return None


def _refuse_above(size: int, limit: int) -> None:
    if size > limit:
        raise LimitError(f"A value exceeds the limit of {MAX_VALUE_BYTES >> 20} MiB")


_GUARDS: Final[dict[type[exp.Expr], Callable[[exp.Expr], exp.Expr | None]]] = {
    exp.Repeat: lambda node: _repeat(node.this, node.args["times"]),
    exp.Pad: _pad_node,
    exp.GenerateSeries: _series,
    exp.Replace: _replace,
    exp.RegexpReplace: _regexp_replace,
    exp.Levenshtein: lambda node: _distance("levenshtein", [node.this, node.expression]),
    exp.JarowinklerSimilarity: lambda node: _distance(
        "jaro_winkler_similarity",
        [node.this, node.expression],  # sqlglot compares in upper case
    ),
    exp.Format: lambda node: _formatted("format", [node.this, *node.expressions]),
    exp.ArrayToString: _joined,
}
