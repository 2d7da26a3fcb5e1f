"""A deterministic embedding function whose calls are kept: each word adds to one component."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from kalamdb_lab.engine.session import Session

NOTES = "(id BIGINT PRIMARY KEY, body TEXT, title TEXT, embedding EMBEDDING(8))"


def embedded(texts: Sequence[str], dimension: int = 8) -> npt.NDArray[np.float32]:
    """What `Toy` makes of texts."""
    vectors = np.zeros((len(texts), dimension), np.float32)
    vectors[:, 0] = 0.25  # so that an empty text has a direction, too
    for row, text in enumerate(texts):
        for word in text.lower().split():
            hashed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest())
            vectors[row, hashed % dimension] += 1 + (hashed >> 8) % 7
    return vectors


class Toy:
    """An `EmbeddingFunction`; ``calls`` are the texts of each call."""

    def __init__(
        self,
        name: str = "toy",
        dimension: int = 8,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        self.name, self.dimension, self.before = name, dimension, before
        self.calls: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.calls.append(list(texts))
        self.before()
        return embedded(texts, self.dimension)

    @property
    def texts(self) -> list[str]:
        return [text for call in self.calls for text in call]


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture
def notes(s: Session, toy: Toy) -> Session:
    """Root, with a USER table whose vectors are made by `toy`."""
    s.execute(f"CREATE USER TABLE notes {NOTES}")
    s.embed("notes", "embedding", source="body", function=toy)
    return s


def vectors(session: Session, table: str = "notes") -> dict[int, list[float] | None]:
    return dict(session.execute(f"SELECT id, embedding FROM {table}").rows())


def made(*texts: str) -> list[list[float]]:
    return embedded(texts).tolist()
