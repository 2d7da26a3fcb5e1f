"""Embedding functions made of callables and of models."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kalamdb_lab as kalam
from kalamdb_lab import KalamError

HAS_MODELS = importlib.util.find_spec("sentence_transformers") is not None


def lengths(texts: list[str]) -> list[list[float]]:
    return [[float(len(text)), 1.0] for text in texts]


class Encoder:
    """What a SentenceTransformer is to the adapter: its method ``encode``."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], int]] = []

    def encode(
        self,
        sentences: list[str],
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
    ) -> Any:
        assert convert_to_numpy
        assert show_progress_bar is False
        self.asked.append((sentences, batch_size))
        return np.array(lengths(sentences), np.float64)


def test_a_callable_is_asked_for_so_many_texts_at_once() -> None:
    sizes: list[int] = []

    def counted(texts: list[str]) -> list[list[float]]:
        sizes.append(len(texts))
        return lengths(texts)

    texts = ["a" * at for at in range(7)]
    for batch_size, wanted in ((None, [7]), (3, [3, 3, 1]), (7, [7])):
        sizes.clear()
        function: kalam.EmbeddingFunction = kalam.embedding_function(
            counted, name="lengths", dimension=2, batch_size=batch_size
        )
        vectors = function.embed(texts)
        assert (vectors.dtype, vectors.tolist()) == (np.float32, lengths(texts))
        assert sizes == wanted
    assert function.embed([]).shape == (0, 2)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: kalam.embedding_function("no", name="a", dimension=2), "TYPE_MISMATCH"),  # type: ignore[arg-type]
        (lambda: kalam.embedding_function(lengths, name="", dimension=2), "INVALID_NAME"),
        (lambda: kalam.embedding_function(lengths, name="a\n", dimension=2), "INVALID_NAME"),
        (lambda: kalam.embedding_function(lengths, name="a", dimension=8193), "INVALID_OPTION"),
        (lambda: kalam.embedding_function(lengths, name="a", dimension=2.0), "TYPE_MISMATCH"),  # type: ignore[arg-type]
        (lambda: kalam.embedding_function(lengths, name="a", dimension=2, batch_size=0), "INVALID_OPTION"),
        (lambda: kalam.embedding_function(lengths, name="a", dimension=2, batch_size=2.5), "INVALID_OPTION"),  # type: ignore[arg-type]
        (lambda: kalam.embedding_function(lengths, name="a", dimension=3).embed(["x"]), "DIMENSION_MISMATCH"),
        (lambda: kalam.sentence_transformer(Encoder()), "INVALID_OPTION"),
        (lambda: kalam.sentence_transformer(7, name="a"), "TYPE_MISMATCH"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_function_is_refused(make: Callable[[], Any], code: str) -> None:
    with pytest.raises(KalamError) as caught:
        make()
    assert caught.value.code == code


def test_a_loaded_model_is_used_as_it_is() -> None:
    model = Encoder()
    function = kalam.sentence_transformer(model, name="tiny", batch_size=5)
    assert (function.name, function.dimension) == ("tiny", 2)
    model.asked.clear()
    assert function.embed(["cat", "horse"]).tolist() == lengths(["cat", "horse"])
    assert model.asked == [(["cat", "horse"], 5)]


@pytest.mark.skipif(HAS_MODELS, reason="the package is installed here")
def test_without_the_package_a_path_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(KalamError) as caught:
        kalam.sentence_transformer(tmp_path)
    assert "pip install sentence-transformers" in str(caught.value)


@pytest.mark.skipif(not HAS_MODELS, reason="needs the package sentence-transformers")
@pytest.mark.slow
def test_a_real_model_is_read_from_its_directory_and_never_downloaded(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "cat": 1, "dog": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    model = SentenceTransformer(modules=[StaticEmbedding(words, embedding_dim=4)], device="cpu")
    loaded = kalam.sentence_transformer(model, name="tiny")
    model.save(str(tmp_path / "tiny"))
    read = kalam.sentence_transformer(tmp_path / "tiny")
    assert (read.name, read.dimension) == ("tiny", 4)
    texts = ["cat", "dog dog", ""]
    assert read.embed(texts).tolist() == loaded.embed(texts).tolist()
    with pytest.raises(KalamError, match="nothing is downloaded here"):
        kalam.sentence_transformer("nobody/no-such-model")
