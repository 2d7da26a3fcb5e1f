"""What is said of a row from its codes is true of the row, whoever multiplies them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalamdb_lab.vectors import bounds as bounds_module
from kalamdb_lab.vectors import kernels
from kalamdb_lab.vectors.codes import encode
from kalamdb_lab.vectors.rows import Metric

METRICS = st.sampled_from(list(Metric))


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), dimension=st.sampled_from([1, 9, 384]), metric=METRICS)
def test_no_score_is_outside_of_its_range(seed: int, dimension: int, metric: Metric) -> None:
    random = np.random.default_rng(seed)
    vectors = (
        random.standard_normal((50, dimension)) * 10.0 ** random.integers(-8, 8, (50, 1))
    ).astype(np.float32)
    vectors[0] = vectors[1] * 2
    queries = vectors[:3] + random.standard_normal((3, dimension)).astype(np.float32) * 1e-4
    wide = queries.astype(np.float64)
    length = np.linalg.norm(wide, axis=1)
    plain = bounds_module.QueryBounds.of(metric, wide, length)
    eight, codes = plain.in_eight_bits()
    chunk = encode(vectors)
    products = (chunk.codes.astype(np.float32) @ codes.T.astype(np.float32)).astype(np.float64)
    for number in range(3):
        places = np.full(50, number)
        least, most = eight.score_range(
            places,
            products[:, number],
            chunk.scale.astype(float),
            chunk.remainder.astype(float),
            chunk.norm.astype(float),
        )
        norms = np.linalg.norm(vectors.astype(np.longdouble), axis=1)
        cosine = (
            vectors.astype(np.longdouble)
            @ wide[number].astype(np.longdouble)
            / norms
            / length[number]
        )
        far = norms / length[number]
        truth = {
            Metric.COSINE: cosine,
            Metric.INNER_PRODUCT: norms * cosine,
            Metric.L2: far * (2 * cosine - far),
        }
        assert np.all(least <= truth[metric])
        assert np.all(truth[metric] <= most)


def test_a_kernel_that_counts_wrongly_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    numkong = pytest.importorskip("numkong")
    assert kernels.eight_bit_kernel() is numkong
    right = numkong.cdist

    def off_by_one(a, b, **how):
        right(a, b, **how)
        how["out"][...] += 1

    monkeypatch.setattr(numkong, "cdist", off_by_one)
    kernels.eight_bit_kernel.cache_clear()
    try:
        assert kernels.eight_bit_kernel() is None
    finally:
        monkeypatch.undo()
        kernels.eight_bit_kernel.cache_clear()
    assert kernels.eight_bit_kernel() is numkong
