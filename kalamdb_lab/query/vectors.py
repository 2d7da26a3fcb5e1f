"""COSINE_DISTANCE, L2_DISTANCE and INNER_PRODUCT in the engine's words.

Exact by definition: a vector is float32, a distance is computed in DOUBLE, and rows are ranked
by it over all that WHERE leaves (see `rankings`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlglot import exp

from kalamdb_lab.errors import DimensionMismatchError, KalamError, TypeMismatchError
from kalamdb_lab.model.datatypes import KalamDataType, TypeKind, embedding
from kalamdb_lab.model.values import from_storage, to_storage, unwrapped
from kalamdb_lab.query import guards
from kalamdb_lab.query.constants import plain_value
from kalamdb_lab.query.duck import NO_DIRECTION_IS_NAN, EngineError
from kalamdb_lab.query.nearest import Cut, cuts_of
from kalamdb_lab.query.origins import Origin, Origins
from kalamdb_lab.query.rankings import Distance, Ranking, rankings_of, typed
from kalamdb_lab.query.relations import Parameter
from kalamdb_lab.query.scopes import Occurrence
from kalamdb_lab.tables.embedding import EmbeddedColumn, Embedder

FAULT: Final = "kalam_vector_fault"
"""Key in ``meta`` of a call that could not be written: the error to raise for it."""

_ENGINE_NAMES: Final = {
    "cosine_distance": "array_cosine_distance",
    "l2_distance": "array_distance",
    "inner_product": "array_inner_product",
}
_ON_LISTS: Final = "list_cosine_distance"
"""Ours over an EMBEDDING and over what stands in the statement, the engine's over other lists.

Trees of other tools may mean it by sqlglot's node for both."""
_VECTOR_KINDS: Final = (TypeKind.EMBEDDING, TypeKind.LIST)


@dataclass(frozen=True, slots=True)
class VectorValue:
    """A vector that the statement holds or is given, known before it runs.

    Attributes
    ----------
    name : str
        Of the engine's parameter that stands for it.
    source : object
        None, a text, a `Parameter`, or a tuple of numbers and `Parameter`.
    column : str or None
        The column that it meets; faults name it.
    embedded : EmbeddedColumn or None
        That column, if its vectors are made by an embedding function: then a text that is no
        vector is made one.
    """

    name: str
    source: object
    data_type: KalamDataType
    column: str | None
    embedded: EmbeddedColumn | None = None

    @property
    def numbers(self) -> tuple[int, ...]:
        """The placeholders in it."""
        items = self.source if isinstance(self.source, tuple) else (self.source,)
        return tuple(item.number for item in items if isinstance(item, Parameter))

    def text(self, given: Mapping[int, object]) -> str | None:
        """Return the text that it is, if that is to be embedded: any but ``[...]``."""
        value = self.source
        if isinstance(value, Parameter):
            value = unwrapped(given[value.number])
        if self.embedded is None or not isinstance(value, str):
            return None
        plain = value.strip()
        return None if plain.startswith("[") and plain.endswith("]") else value

    def bind(self, given: Mapping[int, object]) -> object:
        """Return its components as float32 values, or None.

        Raises
        ------
        DimensionMismatchError, InvalidValueError, TypeMismatchError
            It is no vector of the column's type.
        """

        def known(item: object) -> object:
            return given[item.number] if isinstance(item, Parameter) else item

        if isinstance(self.source, tuple):
            value: object = [known(item) for item in self.source]
        else:
            value = known(self.source)
        return from_storage(to_storage(value, self.data_type, column=self.column), self.data_type)


def bound(
    vectors: Sequence[VectorValue], given: Mapping[int, object], embedder: Embedder
) -> dict[str, object]:
    """Return the vectors by name: lists of components, or None.

    All texts of one function are embedded in one call.

    Raises
    ------
    EmbeddingFunctionMissingError, DimensionMismatchError, InvalidValueError, TypeMismatchError
    """
    values: dict[str, object] = {}
    asked: dict[tuple[str, int], list[tuple[VectorValue, str]]] = {}
    for vector in vectors:
        text = vector.text(given)
        if text is None or vector.embedded is None:
            values[vector.name] = vector.bind(given)
        else:
            key = (vector.embedded.function, vector.embedded.dimension)
            asked.setdefault(key, []).append((vector, text))
    for items in asked.values():
        column = items[0][0].embedded
        assert column is not None
        texts = list(dict.fromkeys(text for _, text in items))
        made = dict(zip(texts, embedder.vectors(column, texts).tolist(), strict=True))
        values.update((vector.name, made[text]) for vector, text in items)
    return values


class Vectors:
    """The calls and rankings of a tree.

    They are found while its tables are known by their nodes, which is when a ranking asks for
    the columns that it needs. They are written when the tables are markers, so that what is
    written twice reads the same relations.

    Raises
    ------
    DimensionMismatchError, InvalidValueError, TypeMismatchError
        The vectors of a call do not go together.

    Attributes
    ----------
    cuts : list of Cut
        The relations of which only the nearest rows are needed.
    """

    def __init__(self, tree: exp.Expr, occurrences: Sequence[Occurrence]) -> None:
        self.values: list[VectorValue] = []
        self.cuts: list[Cut] = []
        self._distances: dict[int, Distance] = {}
        self._rankings: list[Ranking] = []
        calls = tree.find_all(exp.CosineDistance, exp.Anonymous)
        found = [(call, name) for call in calls if (name := _function(call))]
        if found:
            self._origins = Origins(tree, occurrences)
            for call, name in found:
                self._read(call, name)
            self._rankings = list(rankings_of(tree, self._distances, self._origins))
            written = frozenset(id(ranking.select) for ranking in self._rankings)
            selects = tree.find_all(exp.Select)
            self.cuts = list(cuts_of(selects, self._distances, self._origins, occurrences, written))

    def write(self) -> tuple[VectorValue, ...]:
        """Put the calls in the engine's words, and return the vectors that they are given."""
        for distance in reversed(self._distances.values()):  # what is in a call comes after it
            self._write(distance)
        for ranking in self._rankings:
            ranking.write()
        return tuple(self.values)

    def _read(self, call: exp.Expr, function: str) -> None:
        left, right = (self._operand(argument) for argument in _arguments(call))
        known = next((item for item in (left, right) if item.is_embedding), None)
        dimension = None if known is None else known.dimension
        if known is None and left.origin is right.origin is None:
            dimension = left.dimension or right.dimension
        is_on_lists = isinstance(call, exp.CosineDistance) or call.name.lower() == _ON_LISTS
        if known is None and is_on_lists and (left.is_list or right.is_list):
            return
        fault: Exception | None = _fault(function, left, right, dimension)
        if dimension is None:
            columns = [node for item in (left, right) if (node := item.plain_column) is not None]
            unknown = next((node for node in columns if self._origins.lacks(node)), None)
            fault = fault if unknown is None else _not_found(unknown)
        if fault is not None or dimension is None:
            call.meta[FAULT] = fault
            return
        column = None if known is None else known.column
        columns = [item.node for item in (left, right) if isinstance(item.node, exp.Column)]
        embedded = None if known is None or known.origin is None else known.origin.embedded
        vectors = tuple(self._vector(item, dimension, column, embedded) for item in (left, right))
        self._distances[id(call)] = Distance(
            call,
            function,
            embedding(dimension).dimension,
            vectors,
            are_typed=tuple(item.is_embedding or item.is_value for item in (left, right)),
            owner=next((self._origins.source_of(node)[0] for node in columns), ""),
            column=columns[0] if columns and known is not None else None,
            given=self.values[-1].name if left.is_value != right.is_value else None,
            are_finite=all(
                item.is_value
                or (item.is_embedding and item.origin is not None and item.origin.is_kept)
                for item in (left, right)
            ),
        )

    def _operand(self, node: exp.Expr) -> _Operand:
        inner = node
        while isinstance(inner, exp.Paren) or (
            type(inner) is exp.Cast and _is_embedding(self._origins.of(inner))
        ):
            inner = inner.this
        is_value, source = _value_of(inner)
        return _Operand(inner if is_value else node, is_value, source, self._origins.of(node))

    def _vector(
        self,
        operand: _Operand,
        dimension: int,
        column: str | None,
        embedded: EmbeddedColumn | None,
    ) -> exp.Expr:
        """Return an operand, or a parameter of the engine in its place."""
        if not operand.is_value:
            return operand.node
        name = f"v{len(self.values) + 1}"
        value = VectorValue(name, operand.source, embedding(dimension), column, embedded)
        if not value.numbers and value.text({}) is None:
            value.bind({})
        self.values.append(value)
        return typed(exp.Placeholder(this=name), "FLOAT", dimension)

    def _write(self, distance: Distance) -> None:
        dimension = distance.dimension
        distance.vectors = tuple(
            vector if is_typed else typed(vector, "FLOAT", dimension)
            for vector, is_typed in zip(distance.vectors, distance.are_typed, strict=True)
        )
        wide = [typed(vector, "DOUBLE", dimension) for vector in distance.vectors]
        value: exp.Expr = guards.call(_ENGINE_NAMES[distance.function], *wide)
        if distance.function == "cosine_distance":  # a vector without a direction has none
            if NO_DIRECTION_IS_NAN:
                value = guards.call("nullif", value, exp.cast(exp.Literal.string("nan"), "DOUBLE"))
            else:
                value = _unless_zero(value, wide)
        distance.call.replace(value)
        distance.value = value


def _unless_zero(value: exp.Expr, vectors: Sequence[exp.Expr]) -> exp.Expr:
    norms = [guards.call("array_inner_product", vector.copy(), vector.copy()) for vector in vectors]
    case = exp.Case()
    for norm in norms:
        case = case.when(exp.EQ(this=norm, expression=exp.Literal.number(0)), exp.null())
        case = case.when(exp.Not(this=guards.call("isfinite", norm.copy())), exp.null())
    return case.else_(value)


@dataclass(frozen=True, slots=True)
class _Operand:
    """One argument of a call."""

    node: exp.Expr
    is_value: bool
    source: object
    origin: Origin | None

    @property
    def is_embedding(self) -> bool:
        return _is_embedding(self.origin)

    @property
    def is_list(self) -> bool:
        return self.origin is not None and self.origin.data_type.kind is TypeKind.LIST

    @property
    def dimension(self) -> int | None:
        """Of an EMBEDDING; of a list that stands for itself its length."""
        if self.origin is not None:
            return self.origin.data_type.dimension if self.is_embedding else None
        return len(self.source) if isinstance(self.source, tuple) else None

    @property
    def plain_column(self) -> exp.Column | None:
        """The column of which nothing is known that it is."""
        node = self.node.unnest()
        return node if isinstance(node, exp.Column) and self.origin is None else None

    @property
    def column(self) -> str | None:
        return None if self.origin is None else self.origin.column


def _fault(
    function: str, left: _Operand, right: _Operand, dimension: int | None
) -> KalamError | None:
    for item in (left, right):
        if item.origin is None or (
            dimension is not None and item.origin.data_type.kind in _VECTOR_KINDS
        ):
            continue
        if item.column is not None:
            return TypeMismatchError(f"Column '{item.column}' is not an EMBEDDING column")
        return TypeMismatchError(
            f"{function.upper()} takes an EMBEDDING, not {item.origin.data_type}"
        )
    if dimension is None:
        return TypeMismatchError(
            f"{function.upper()} takes an EMBEDDING; use CAST, as in CAST(x AS EMBEDDING(384))"
        )
    for item, other in ((left, right), (right, left)):
        if item.is_embedding and other.dimension not in (None, dimension):
            where = f"Column '{item.column}' expects" if item.column else "Expected"
            raise DimensionMismatchError(
                f"{where} {item.dimension} dimensions, got {other.dimension}"
            )
    return None


def _not_found(column: exp.Column) -> EngineError:
    """Return what the engine would say of it, had it seen the call: then it reads the same."""
    name = column.name
    if column.table:
        return EngineError(
            "Binder", f'Table "{column.table}" does not have a column named "{name}"'
        )
    return EngineError("Binder", f'Referenced column "{name}" not found')


def _function(node: exp.Expr) -> str:
    """Return the name of one of our functions, or an empty text for other nodes."""
    if isinstance(node, exp.CosineDistance):
        return "cosine_distance"
    if isinstance(node, exp.Anonymous) and not isinstance(node.parent, exp.Table):
        name = node.name.lower()
        name = "cosine_distance" if name == _ON_LISTS else name
        if name in _ENGINE_NAMES and len(node.expressions) == 2:
            return name
    return ""


def _arguments(call: exp.Expr) -> tuple[exp.Expr, exp.Expr]:
    if isinstance(call, exp.CosineDistance):
        return call.this, call.expression
    left, right = call.expressions
    return left, right


def _is_embedding(origin: Origin | None) -> bool:
    return origin is not None and origin.data_type.kind is TypeKind.EMBEDDING


def _value_of(node: exp.Expr) -> tuple[bool, object]:
    """Return whether a node is a vector that is known before the statement runs, and which.

    A list that is not known still comes with its length.
    """
    if isinstance(node, exp.Placeholder) and node.name.isdecimal():
        return True, Parameter(int(node.name))
    if isinstance(node, exp.Array):
        items = [_value_of(item) for item in node.expressions]
        return all(known for known, _ in items), tuple(item for _, item in items)
    assert isinstance(node, exp.Expression)
    return plain_value(node)
