"""What a statement may consist of: node classes and functions, by allow-list."""

from __future__ import annotations

import difflib
from collections.abc import Set as AbstractSet
from typing import Final

from sqlglot import exp

from kalamdb_lab.errors import (
    KalamError,
    NotAllowedError,
    NotFoundError,
    NotSupportedError,
    SqlSyntaxError,
    TypeMismatchError,
)
from kalamdb_lab.query import functions

_STRUCTURE: Final = """
    Add Alias Aliases All And Any Array AtTimeZone Between BitwiseAnd BitwiseLeftShift BitwiseNot
    BitwiseOr BitwiseRightShift BitwiseXor Boolean Bracket CTE Case Cast Collate Column ColumnDef
    Cube CurrentDate CurrentTime CurrentTimestamp CurrentUser DPipe DataType DataTypeParam
    Distinct Div Dot EQ Escape Except Exists Extract Filter From GT GTE Glob Group Grouping
    GroupingSets Having HavingMax ILike Identifier IgnoreNulls In IntDiv Intersect Interval
    IntervalSpan Is JSONExtract JSONExtractScalar JSONPath JSONPathKey JSONPathRoot
    JSONPathSubscript Join Lambda LT LTE Lateral Like Limit Literal Mod Mul NEQ Neg Not Null
    NullSafeEQ NullSafeNEQ Offset Or Order Ordered Paren Placeholder PropertyEQ Qualify RegexpLike
    RegexpFullMatch RespectNulls Rollup Select SimilarTo Slice Star Sub Subquery Table TableAlias
    ToMap TryCast Tuple Union Unnest Values Var When Where Window WindowSpec With WithinGroup
    ArrayContainsAll ArrayContainedBy ArrayOverlaps Kwarg
"""

_FUNCTION_NODES: Final = """
    Abs Acos Acosh Anonymous AnyValue ApproxDistinct ApproxQuantile ApproxTopK ArgMax ArgMin
    ArrayAgg ArrayAppend ArrayConcat ArrayContains ArrayDistinct ArrayFilter ArrayIntersect
    ArrayMax ArrayMin ArrayPosition ArrayPrepend ArrayReverse ArraySize ArraySlice ArrayToString
    Ascii Asin Asinh Atan Atan2 Atanh Avg BitLength BitwiseAndAgg BitwiseOrAgg BitwiseXorAgg Cbrt
    Ceil Chr Coalesce Concat ConcatWs Contains Corr Cos Cosh CosineDistance Cot Count CountIf
    CovarPop CovarSamp CumeDist Date DateAdd DateBin DateDiff DateFromParts DateSub DateTrunc Day
    DayOfMonth DayOfWeek DayOfWeekIso DayOfYear Dayname Decode Degrees DenseRank Encode EndsWith
    EuclideanDistance Exp Explode Factorial First FirstValue Flatten Floor Format FromBase64
    GenerateSeries Greatest GroupConcat Hex Hour If IsInf IsNan JSONArray JSONKeyValue JSONKeys
    JSONObject JSONRemove JSONSet JSONStripNulls JSONType JarowinklerSimilarity Kurtosis Lag Last
    LastDay LastValue Lead Least Left Length Levenshtein Ln Log LogicalAnd LogicalOr Lower LowerHex
    MD5 Map MapFromEntries MapKeys Max Median Min Minute Mode Month Monthname NthValue Ntile
    Nullif Overlay Pad ParseJSON PercentRank PercentileCont PercentileDisc Pi Pow Quantile
    Quarter Radians Rand Rank RegexpExtract RegexpExtractAll RegexpReplace RegexpSplit
    RegrAvgx RegrAvgy RegrCount RegrIntercept RegrR2 RegrSlope RegrSxx RegrSxy RegrSyy Repeat
    Replace Reverse Right Round RowNumber SHA SHA2 Second Sign Sin Sinh Skewness SortArray Split
    SplitPart Sqrt StartsWith Stddev StddevPop StddevSamp StrPosition StrToDate StrToTime Struct
    StructExtract Substring Sum Tan Tanh TimeFromParts TimeToStr TimeToUnix TimestampFromParts
    TimestampTrunc ToBase64 ToBinary ToDays Transform Translate Trim Trunc Try Typeof Unhex
    Unicode UnixToTime Upper Uuid Variance VariancePop Week WeekOfYear Year
"""

_IBIS_ONLY: Final = "TableSample Cast TsOrDsToDate TimestampAdd TimestampSub Xor"

_TEXT_NODES: Final = frozenset(
    getattr(exp, name) for name in f"{_STRUCTURE} {_FUNCTION_NODES}".split() if hasattr(exp, name)
)
_TREE_NODES: Final = _TEXT_NODES | {
    getattr(exp, name) for name in _IBIS_ONLY.split() if hasattr(exp, name)
}

_TOLD = (exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp, exp.CurrentUser)
_ROWS = (exp.GenerateSeries, exp.Unnest, exp.Explode)
_NAMED_CALLS = (exp.Anonymous, exp.AnonymousAggFunc, exp.ParameterizedAgg, exp.CombinedAggFunc)
_BY_NAME: Final = functions.ALLOWED | functions.OWN | functions.VECTOR_FUNCTIONS
_AGGREGATE_TAKERS: Final = frozenset(
    {"list_aggr", "list_aggregate", "array_aggr", "array_aggregate", "aggregate"}
)
_WRITTEN: Final = {"current_version": "version"}
_NOT_SUPPORTED: Final[dict[type[exp.Expr], str]] = {
    exp.Comprehension: "A list comprehension",
    exp.Lock: "FOR UPDATE",
    exp.Into: "INTO",
    exp.Pivot: "PIVOT",
    exp.TableSample: "SAMPLE",
    exp.Summarize: "SUMMARIZE",
    exp.Columns: "COLUMNS(...)",
}


def check(
    tree: exp.Expression, *, text: bool, local: AbstractSet[str] = frozenset()
) -> frozenset[str]:
    """Refuse a tree that holds anything off the lists.

    Parameters
    ----------
    text : bool
        True for SQL text; trees of ibis may hold a little more.
    local : set of str
        Names in lower case of functions that are allowed beside those on the list.

    Returns
    -------
    frozenset of str
        Which of ``local`` are called.

    Raises
    ------
    NotAllowedError, NotFoundError
        A function or table function, by name.
    NotSupportedError, SqlSyntaxError
        Anything else.
    """
    nodes = _TEXT_NODES if text else _TREE_NODES
    if not isinstance(tree, (exp.Query, exp.Values)):
        raise NotSupportedError(f"{tree.key.upper()} is not supported in a query")
    called: set[str] = set()
    pending: list[exp.Expr] = [tree]
    while pending:
        node = pending.pop()
        if type(node) not in nodes:
            raise _refusal(node)
        if not text and any(type(value) is tuple for value in node.args.values()):
            # sqlglot prints the nodes of a tuple and walks past them
            raise NotSupportedError(f"A tuple in {node.key.upper()} is not supported; use a list")
        if isinstance(node, exp.Anonymous) and node.name.lower() in local:
            called.add(node.name.lower())
        else:
            _check_node(node)
        pending.extend(node.iter_expressions())
    return frozenset(called)


def _check_node(node: exp.Expr) -> None:
    if isinstance(node, exp.Anonymous):
        _check_call(node)
    elif isinstance(node, _TOLD) and node.args.get("this") is not None:
        raise TypeMismatchError(f"{node.sql_name()}() takes no arguments")
    elif isinstance(node, exp.Lateral):
        _check_lateral(node.this)
    elif isinstance(node, exp.Table):
        _check_table(node)
    elif isinstance(node, exp.Star):
        _check_star(node)
    elif isinstance(node, exp.Dot):
        if isinstance(node.expression, exp.Func):
            raise NotAllowedError(f"Function '{_spelled(node)}' is not allowed")
    elif isinstance(node, exp.Join):
        method = node.args.get("method")
        if method in ("NATURAL", "POSITIONAL"):
            raise NotSupportedError(f"{method} JOIN is not supported; use USING")


def _check_call(node: exp.Anonymous) -> None:
    if isinstance(node.parent, exp.Table):
        return  # a table function, looked at with its table
    name = node.name.lower()
    if name in functions.VECTOR_FUNCTIONS and len(node.expressions) != 2:
        raise TypeMismatchError(f"{name.upper()}() takes two vectors")
    if name not in _BY_NAME or not isinstance(node.this, str):
        raise function_refusal(name)
    if name in functions.OWN and node.expressions:
        raise TypeMismatchError(f"{name.upper()}() takes no arguments")
    if name in _AGGREGATE_TAKERS:
        which = node.expressions[1] if len(node.expressions) > 1 else None
        if not isinstance(which, exp.Literal) or not which.is_string:
            raise SqlSyntaxError(f"Syntax error: expected a quoted aggregate name in {name}()")
        if which.name.lower() not in functions.AGGREGATES:
            raise function_refusal(which.name.lower())
    if name == "age" and len(node.expressions) < 2:
        raise NotSupportedError("age() of one argument is not supported; use age(NOW(), t)")


def _check_table(node: exp.Table) -> None:
    inner = node.this
    if isinstance(inner, exp.Identifier):
        return
    name = inner.name if isinstance(inner, exp.Anonymous) else ""
    if isinstance(inner, exp.Func):
        name = name or inner.sql_name()
        known = isinstance(inner, exp.GenerateSeries) or name.lower() in functions.TABLE_FUNCTIONS
        if known and node.args.get("db") is None:
            return
        name = _WRITTEN.get(name.lower(), name.lower())
        raise NotAllowedError(f"Table function '{name}' is not allowed")
    raise SqlSyntaxError(f"Syntax error near '{_spelled(node)}'")


def _check_lateral(inner: exp.Expr) -> None:
    if not isinstance(inner, exp.Func) or isinstance(inner, _ROWS):
        return
    name = (inner.name if isinstance(inner, exp.Anonymous) else inner.sql_name()).lower()
    if name not in functions.TABLE_FUNCTIONS | functions.REFUSED:  # these have words of their own
        raise NotAllowedError(f"Table function '{name}' is not allowed")


def _check_star(node: exp.Star) -> None:
    """``*`` stands in a select list or in count(*), never among other arguments."""
    parent = node.parent
    if isinstance(parent, exp.Column):
        parent = parent.parent
    if not isinstance(parent, (exp.Select, exp.Count)) and parent is not None:
        raise SqlSyntaxError("Syntax error near '*'")


def _refusal(node: exp.Expr) -> KalamError:
    known = next((words for kind, words in _NOT_SUPPORTED.items() if isinstance(node, kind)), None)
    if known is not None:
        return NotSupportedError(f"{known} is not supported")
    if isinstance(node.parent, exp.Table) and isinstance(node, exp.Func):
        name = node.name or node.sql_name()
        return NotAllowedError(f"Table function '{name.lower()}' is not allowed")
    if isinstance(node, _NAMED_CALLS):
        return function_refusal(node.name.lower())
    if isinstance(node, exp.Func):
        name = node.sql_name().lower()
        return NotAllowedError(f"Function '{_WRITTEN.get(name, name)}' is not allowed")
    return NotSupportedError(f"{node.key.upper()} is not supported")


def function_refusal(name: str) -> KalamError:
    """Return the error for a function that no statement may call."""
    if name in functions.REFUSED or name.startswith("__"):
        return NotAllowedError(f"Function '{name}' is not allowed")
    nearby = difflib.get_close_matches(name, _BY_NAME, n=1, cutoff=0.8)
    return NotFoundError("Function", name, nearby=nearby)


def _spelled(node: exp.Expr) -> str:
    names = [part.name for part in node.find_all(exp.Identifier, exp.Anonymous)]
    return ".".join(names[:4])
