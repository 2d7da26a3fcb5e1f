"""Embedding functions: from texts to vectors, in Python, for columns of an open database.

Nothing here downloads anything, and no model comes with KalamDB Lab.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kalamdb_lab.errors import (
    DimensionMismatchError,
    InvalidNameError,
    InvalidOptionError,
    NotFoundError,
    NotSupportedError,
    TypeMismatchError,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_DIMENSION = 8_192
_MAX_NAME = 128


class EmbeddingFunction(Protocol):
    """What turns texts into vectors: anything with these three members.

    Attributes
    ----------
    name : str
        Stored with each column that it fills: 1 to 128 printable characters. The same name means
        the same vectors, in every process and for ever: put the version of a model into it.
    dimension : int
        Components of a vector, 1 to 8192.
    """

    @property
    def name(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the vectors of n texts, n >= 1, in their order.

        Parameters
        ----------
        texts : sequence of str
            No text twice; any may be empty.

        Returns
        -------
        (n, dimension) float32
            Finite. Equal texts have equal vectors. It may be called in several threads at once,
            and never while the database is locked.
        """
        ...


def embedding_function(
    function: Callable[[list[str]], Any],
    *,
    name: str,
    dimension: int,
    batch_size: int | None = None,
) -> EmbeddingFunction:
    """Return any callable as an embedding function.

    Parameters
    ----------
    function : callable
        Takes a list of texts and returns their vectors: an array of shape (n, dimension), or a
        list of lists of numbers.
    name, dimension
        As `EmbeddingFunction` has them.
    batch_size : int, optional
        How many texts a call gets at most; by default as many as there are.

    Raises
    ------
    TypeMismatchError, InvalidNameError, InvalidOptionError

    Examples
    --------
    >>> import kalamdb_lab as kalam
    >>> lengths = kalam.embedding_function(
    ...     lambda texts: [[len(text), 1.0] for text in texts], name="lengths", dimension=2
    ... )
    >>> lengths.embed(["cat", "horse"]).tolist()
    [[3.0, 1.0], [5.0, 1.0]]
    """
    if not callable(function):
        raise TypeMismatchError("An embedding function is made of a callable that takes texts")
    made = _Batched(function, name, dimension, _checked_batch(batch_size))
    check_function(made)
    return made


def sentence_transformer(
    model_or_path: Any, *, name: str | None = None, batch_size: int = 32
) -> EmbeddingFunction:
    """Return a model of the package sentence-transformers as an embedding function.

    Nothing is downloaded: a model that is not on this machine is an error.

    Parameters
    ----------
    model_or_path : SentenceTransformer, str or PathLike
        A loaded model, or the directory of one (a name works if the cache of Hugging Face holds
        the model).
    name : str, optional
        By default the last part of the path; a loaded model needs one.
    batch_size : int
        How many texts the model gets at once.

    Raises
    ------
    NotSupportedError
        The package sentence-transformers is not installed, and a path was given.
    NotFoundError
        There is no such model on this machine.
    InvalidOptionError
        A loaded model was given without a name, or ``batch_size`` is not positive.
    """
    size = _checked_batch(batch_size)
    if isinstance(model_or_path, (str, os.PathLike)):
        path = os.fspath(model_or_path)
        model = _loaded(path)
        name = name or Path(path).name
    else:
        model = model_or_path
        if not callable(getattr(model, "encode", None)):
            raise TypeMismatchError("sentence_transformer() takes a SentenceTransformer or a path")
        if name is None:
            raise InvalidOptionError(
                "A loaded model needs a name: sentence_transformer(m, name=..)"
            )

    def encoded(texts: list[str]) -> Any:
        return model.encode(texts, batch_size=size, convert_to_numpy=True, show_progress_bar=False)

    # To ask the model costs one text and holds for every version of the package.
    made = _Batched(encoded, name, len(encoded(["dimension"])[0]), None)
    check_function(made)
    return made


def check_function(function: EmbeddingFunction) -> None:
    """Refuse what is no embedding function.

    Raises
    ------
    TypeMismatchError, InvalidNameError, InvalidOptionError
    """
    if not callable(getattr(function, "embed", None)):
        way_out = "; give kalam.embedding_function(f, name=..., dimension=...)"
        raise TypeMismatchError(
            "An embedding function has name, dimension and embed(texts)"
            f"{way_out if callable(function) else ''}"
        )
    name, dimension = getattr(function, "name", None), getattr(function, "dimension", None)
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise InvalidNameError(
            f"The name of an embedding function is 1 to {_MAX_NAME} printable characters"
        )
    if isinstance(dimension, bool) or not hasattr(dimension, "__index__"):
        raise TypeMismatchError(f"The dimension of embedding function '{name}' is a whole number")
    if not 1 <= int(dimension or 0) <= MAX_DIMENSION:
        raise InvalidOptionError(f"Embedding dimension must be 1 to {MAX_DIMENSION}")


@dataclass(frozen=True, slots=True)
class _Batched:
    """A callable as an `EmbeddingFunction`, called for some texts at a time."""

    function: Callable[[list[str]], Any] = field(repr=False)
    name: str
    dimension: int
    batch_size: int | None

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        import numpy as np

        size = self.batch_size or max(len(texts), 1)
        parts = [self._batch(list(texts[at : at + size])) for at in range(0, len(texts), size)]
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), np.float32)

    def _batch(self, texts: list[str]) -> npt.NDArray[np.float32]:
        import numpy as np

        vectors = np.asarray(self.function(texts), np.float32)
        if vectors.shape != (len(texts), self.dimension):
            raise DimensionMismatchError(
                f"Embedding function '{self.name}' must return an array of shape "
                f"({len(texts)}, {self.dimension}), not {vectors.shape}"
            )
        return vectors


def _checked_batch(batch_size: int | None) -> int | None:
    if batch_size is None:
        return None
    if isinstance(batch_size, bool) or not hasattr(batch_size, "__index__") or batch_size < 1:
        raise InvalidOptionError("batch_size must be a whole number, 1 or more")
    return int(batch_size)


def _loaded(path: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise NotSupportedError(
            "The package sentence-transformers is not installed; "
            "run: pip install sentence-transformers"
        ) from None
    try:
        return SentenceTransformer(path, local_files_only=True)
    except (OSError, ValueError):
        missing = NotFoundError("Model", path)
        missing.message += " on this machine; fetch it first, nothing is downloaded here"
        raise missing from None
