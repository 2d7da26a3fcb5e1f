"""Codes of eight bits keep their proven error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalamdb_lab.vectors import codes as codes_module
from kalamdb_lab.vectors.codes import encode


def vectors(seed: int, row_count: int, dimension: int, exponent: float) -> np.ndarray:
    """Rows of many shapes: dense, spiky, sparse, equal, of length zero; times 10**exponent."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((row_count, dimension))
    kinds = random.integers(0, 5, row_count)
    rows[kinds == 1] **= 9
    rows[kinds == 2] *= random.random((int((kinds == 2).sum()), dimension)) < 0.1
    rows[kinds == 3] = 1
    rows[kinds == 4] *= random.random((int((kinds == 4).sum()), 1)) < 0.5
    return (rows * 10.0**exponent).astype(np.float32)


SHAPES = st.tuples(
    st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 70), st.sampled_from([0, -4, 3])
)


@given(shape=SHAPES)
def test_no_row_is_further_from_its_code_than_its_remainder(shape) -> None:
    rows = vectors(*shape)
    chunk = encode(rows)
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1)
    some = lengths > 0
    coded = chunk.scale.astype(np.float64)[:, None] * chunk.codes
    away = np.linalg.norm(wide[some] / lengths[some, None] - coded[some], axis=1)
    assert np.all(away <= chunk.remainder[some])
    np.testing.assert_allclose(chunk.norm, lengths, rtol=2**-23)
    assert np.all(chunk.scale[~some] == 0)
    assert np.all(chunk.remainder[~some] == 0)
    assert np.all(np.abs(chunk.codes.astype(int)) <= 127)


def test_the_remainder_of_ordinary_rows_is_below_a_hundredth() -> None:
    rows = np.random.default_rng(1).standard_normal((500, 384)).astype(np.float32)
    remainder = encode(rows).remainder
    assert remainder.min() > 0.001
    assert remainder.max() < 0.01


@pytest.mark.parametrize("size", [1e30, 3e38, 1e-33, 1e-45])
def test_rows_of_extreme_length_are_always_looked_at_themselves(size: float) -> None:
    chunk = encode(np.full((3, 8), size, dtype=np.float32))
    assert np.all(np.isinf(chunk.remainder))
    assert np.all(np.isfinite(chunk.scale))
    assert not np.any(chunk.norm == 0)


@pytest.mark.parametrize("size", [1e25, 1e-25])
def test_rows_of_great_or_little_length_are_coded(size: float) -> None:
    assert np.all(encode(np.full((3, 8), size, dtype=np.float32)).remainder < 1e-6)


def test_null_has_no_norm_whatever_stands_in_its_row() -> None:
    rows = np.ones((4, 3), dtype=np.float32)
    rows[1], rows[2] = 3e38, np.nan
    chunk = encode(rows, np.array([True, False, False, True]))
    assert np.isnan(chunk.norm).tolist() == [False, True, True, False]
    assert np.all(chunk.codes[1:3] == 0)
    assert np.all(chunk.remainder[1:3] == 0)
    assert np.all(chunk.scale[1:3] == 0)


@settings(max_examples=20)
@given(shape=SHAPES, block=st.integers(1, 50))
def test_blocks_do_not_change_codes(shape, block: int) -> None:
    rows = vectors(*shape)
    whole = encode(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codes_module, "BLOCK_ROWS", block)
        cut = encode(rows)
    for name in ("codes", "scale", "remainder", "norm"):
        np.testing.assert_allclose(getattr(whole, name), getattr(cut, name), rtol=1e-6)


def test_a_read_only_strided_array_is_encoded_like_its_copy() -> None:
    rows = np.random.default_rng(2).standard_normal((40, 16)).astype(np.float32)
    rows.setflags(write=False)
    assert np.array_equal(encode(rows[::2]).codes, encode(rows[::2].copy()).codes)
