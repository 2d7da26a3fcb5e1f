"""The nearest rows are those of a full search in extended precision, on every path."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalamdb_lab.vectors import kernels, scan, search
from kalamdb_lab.vectors.codes import encode
from kalamdb_lab.vectors.rows import Metric, VectorRows
from kalamdb_lab.vectors.search import Found, Target, merged, nearest

METRICS = st.sampled_from(list(Metric))


def rows_of(
    vectors: np.ndarray,
    *,
    valid: np.ndarray | None = None,
    coded: bool = True,
    cuts=(),
    code_cuts=(),
) -> VectorRows:
    """Rows in chunks cut at one set of places, their codes cut at another."""
    codes = None
    if coded:
        edges = [0, *code_cuts, len(vectors)]
        codes = tuple(
            encode(vectors[a:b], None if valid is None else valid[a:b])
            for a, b in itertools.pairwise(edges)
        )
    chunks = tuple(np.split(vectors, list(cuts)))
    return VectorRows(vectors.shape[1], len(vectors), chunks, codes, valid)


def distances(target: Target, query: np.ndarray, metric: Metric) -> np.ndarray:
    """True distances of all rows of a target; NaN for those that do not match."""
    vectors = np.concatenate(target.rows.chunks).astype(np.longdouble)
    wide = query.astype(np.longdouble)
    with np.errstate(all="ignore"):
        if metric is Metric.COSINE:
            lengths = np.sqrt((vectors**2).sum(axis=1)) * np.sqrt((wide**2).sum())
            truth = 1 - (vectors * wide).sum(axis=1) / lengths
            truth[lengths == 0] = np.nan
        elif metric is Metric.L2:
            truth = np.sqrt(((vectors - wide) ** 2).sum(axis=1))
        else:
            truth = -(vectors * wide).sum(axis=1)
    out = np.zeros(len(vectors), dtype=bool)
    if target.only is not None:
        out[:] = True
        out[target.only] = False
    if target.without is not None:
        out[target.without] = True
    if target.rows.valid is not None:
        out |= ~target.rows.valid
    truth[out] = np.nan
    return truth


def check(found: Found, targets: list[Target], query: np.ndarray, k: int, metric: Metric) -> None:
    """Found are the k nearest with their ties, all of them, and nothing else; in order."""
    truth = [distances(target, query, metric) for target in targets]
    matching = sorted(float(d) for part in truth for d in part if not np.isnan(d))
    got = set(zip(found.target.tolist(), found.position.tolist(), strict=True))
    assert len(got) == len(found.position) == len(found.distance)
    assert len(got) >= min(k, len(matching))
    assert np.all(np.diff(found.distance) >= 0)
    if not matching or k == 0:
        assert not got
        return
    kth = matching[min(k, len(matching)) - 1]
    tie = 1e-9 * abs(kth) + 1e-12
    longest = max(
        float(np.linalg.norm(row.astype(float)))
        for t in targets
        for c in t.rows.chunks
        for row in c
    )
    # Inner products of float64 are known to within their rounding, which grows with the vectors.
    blur = 1e-13 * longest * np.linalg.norm(query.astype(float)) * (metric is Metric.INNER_PRODUCT)
    for number, part in enumerate(truth):
        for position in np.flatnonzero(part <= kth + 0.9 * tie - blur):
            assert (number, int(position)) in got
    for number, position, distance in zip(
        found.target, found.position, found.distance, strict=True
    ):
        true = float(truth[number][position])
        assert distance == pytest.approx(true, rel=1e-12, abs=1e-14 + blur)
        assert k >= len(matching) or true <= kth + 1.1 * tie + 2 * blur


@contextmanager
def sizes(**given_sizes: float) -> Iterator[None]:
    """Small data go where large ones would."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given_sizes.items():
            module = scan if hasattr(scan, name) and name != "BATCH" else search
            patch.setattr(module, name, value)
        yield


@contextmanager
def no_kernel() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "numkong", None)
        kernels.eight_bit_kernel.cache_clear()
        yield
    kernels.eight_bit_kernel.cache_clear()


@st.composite
def sizes_of_paths(draw) -> dict[str, float]:
    return {
        "FEWEST_ROWS": draw(st.sampled_from([0, 0, 256])),
        "FEW_ROWS": draw(st.sampled_from([0, 0, 0, 30, 4096])),
        "RANKED_ROWS": draw(st.sampled_from([1, 3, 1024])),
        "BATCH": draw(st.sampled_from([1, 2, 64])),
        "FIRST_ROWS": draw(st.sampled_from([1, 4, 1024])),
        "BLOCK_ROWS": draw(st.sampled_from([5, 16, 16384])),
        "BLOCK_PRODUCTS": draw(st.sampled_from([20, 262_144])),
        "FLOAT_ROWS": draw(st.sampled_from([3, 2048])),
        "COPIED_ROWS": draw(st.sampled_from([1, 4, 4096])),
        "SPAN_SINGLE": draw(st.sampled_from([1.0, 3.0])),
        "SPAN_BATCH": draw(st.sampled_from([1.0, 1.25])),
        "PIECE_ROWS": draw(st.sampled_from([8, 32_768])),
        "THREADED_ROWS": draw(st.sampled_from([0, 131_072, 131_072])),
    }


@st.composite
def vectors_of(draw, dimension: int, random: np.random.Generator) -> np.ndarray:
    count = draw(st.integers(0, 60))
    kind = draw(
        st.sampled_from(["dense", "clustered", "integers", "copies", "sizes", "huge", "tiny"])
    )
    vectors = random.standard_normal((count, dimension))
    if kind == "clustered":
        vectors = (
            vectors * 0.01 + random.standard_normal((3, dimension))[random.integers(0, 3, count)]
        )
    elif kind == "integers":
        vectors = random.integers(-1, 2, (count, dimension)).astype(float)
    elif kind == "copies":
        vectors = vectors[random.integers(0, 1 + count // 9, count)] if count else vectors
    elif kind == "sizes":
        vectors *= 10.0 ** random.integers(-44, 37, (count, 1))
    elif kind == "huge":
        vectors *= 10.0 ** draw(st.sampled_from([9, 18, 19, 30, 37]))
    elif kind == "tiny":
        vectors *= 10.0 ** draw(st.sampled_from([-9, -18, -30, -40]))
    if draw(st.booleans()):
        vectors[random.random(count) < 0.2] = 0
    return np.clip(vectors, -3e38, 3e38).astype(np.float32)


def _some(draw, random: np.random.Generator, count: int) -> np.ndarray | None:
    share = draw(st.sampled_from([None, None, 0.0, 0.1, 0.6, 1.0]))
    return None if share is None else np.flatnonzero(random.random(count) < share).astype(np.int64)


@st.composite
def searches(draw):
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dimension = draw(st.sampled_from([1, 2, 3, 17, 70]))
    targets = []
    for _ in range(draw(st.integers(1, 3))):
        vectors = draw(vectors_of(dimension, random))
        count = len(vectors)
        valid = random.random(count) < 0.8 if draw(st.booleans()) else None
        cuts = sorted(random.integers(0, count + 1, draw(st.integers(0, 2))).tolist())
        code_cuts = sorted(random.integers(0, count + 1, draw(st.integers(0, 2))).tolist())
        rows = rows_of(
            vectors, valid=valid, coded=draw(st.booleans()), cuts=cuts, code_cuts=code_cuts
        )
        targets.append(Target(rows, _some(draw, random, count), _some(draw, random, count)))
    query_count = draw(st.sampled_from([0, 1, 1, 2, 5]))
    queries = random.standard_normal((query_count, dimension))
    if draw(st.booleans()):
        queries = np.round(queries)
    queries *= 10.0 ** draw(st.sampled_from([0, 0, 0, -3, 18, 30, -20, -40]))
    if targets[0].rows.row_count and query_count and draw(st.booleans()):
        queries[0] = np.concatenate(targets[0].rows.chunks)[0]
    return targets, queries.astype(np.float32), draw(st.sampled_from([0, 1, 2, 5, 20, 500]))


@settings(max_examples=400)
@given(made=searches(), metric=METRICS, path=sizes_of_paths())
def test_what_is_found_is_what_a_full_search_finds(made, metric: Metric, path) -> None:
    targets, queries, k = made
    with sizes(**path):
        found, work = nearest(targets, queries, k, metric)
    assert len(found) == len(queries)
    for one, query in zip(found, queries, strict=True):
        check(one, targets, query, k, metric)
    assert work.reranked <= len(queries) * sum(target.rows.row_count for target in targets)


@settings(max_examples=60)
@given(made=searches(), metric=METRICS, path=sizes_of_paths())
def test_without_the_eight_bit_kernel_the_same_rows_are_found(made, metric: Metric, path) -> None:
    targets, queries, k = made
    with sizes(**path):
        expected, _ = nearest(targets, queries, k, metric)
        with no_kernel():
            found, work = nearest(targets, queries, k, metric)
    assert work.path == "float32"
    for one, same in zip(found, expected, strict=True):
        assert one.position.tolist() == same.position.tolist()
        assert one.target.tolist() == same.target.tolist()


def clustered(count: int, dimension: int = 64, seed: int = 3) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = random.standard_normal((40, dimension))
    vectors = centres[random.integers(0, 40, count)] + 0.3 * random.standard_normal(
        (count, dimension)
    )
    return vectors.astype(np.float32)


@pytest.fixture(scope="module")
def crowd() -> VectorRows:
    vectors = clustered(9_000)
    valid = np.random.default_rng(4).random(9_000) < 0.95
    return rows_of(vectors, valid=valid, cuts=(4_000,), code_cuts=(1_000, 8_000))


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("share", [None, 0.5, 0.07])
@pytest.mark.parametrize("threaded_rows", [0, 10**9])
def test_many_rows_are_ranked_by_codes(
    crowd: VectorRows, metric: Metric, batch: int, share: float | None, threaded_rows: int
) -> None:
    random = np.random.default_rng(5)
    only = None if share is None else np.flatnonzero(random.random(9_000) < share)
    target = Target(crowd, only, np.flatnonzero(random.random(9_000) < 0.01))
    queries = clustered(batch, seed=6)
    with sizes(FEW_ROWS=100, PIECE_ROWS=2_000, THREADED_ROWS=threaded_rows):
        found, work = nearest([target], queries, 10, metric)
    assert work.path == "certified int8"
    assert work.reranked < batch * 450
    for one, query in zip(found, queries, strict=True):
        check(one, [target], query, 10, metric)


def test_the_work_says_what_was_done(crowd: VectorRows) -> None:
    hot = rows_of(clustered(500, seed=8), coded=False)
    query = clustered(1, seed=9)
    removed = np.arange(100)
    both = [Target(crowd, without=removed), Target(hot)]
    _, work = nearest(both, query, 10, Metric.COSINE)
    assert (work.path, work.scanned) == ("float32 and certified int8", 9_400)
    assert 10 <= work.reranked < 500
    _, work = nearest([Target(crowd, only=np.arange(400))], query, 10, Metric.COSINE)
    assert (work.path, work.scanned) == ("float32", 400)
    _, work = nearest([Target(crowd)], query, 10, Metric.COSINE)
    assert (work.path, work.scanned) == ("certified int8", 9_000)


def test_all_rows_that_tie_with_the_last_are_found() -> None:
    vectors = clustered(6_000)
    vectors[::2] = vectors[0]
    target = Target(rows_of(vectors))
    found, work = nearest([target], vectors[:1], 5, Metric.L2)
    assert found[0].position.tolist() == list(range(0, 6_000, 2))
    assert work.path == "certified int8"


def test_directions_closer_than_float32_can_tell_are_ranked_rightly() -> None:
    vectors = np.tile(np.float32([1, 1, 1, 1]), (5_000, 1))
    vectors[:, 3] = 1 + np.arange(5_000)[::-1] * 2.0**-23  # one unit in the last place each
    query = np.float32([[1, 1, 1, 1]])
    for metric in (Metric.L2, Metric.COSINE):
        found, _ = nearest([Target(rows_of(vectors))], query, 3, metric)
        check(found[0], [Target(rows_of(vectors))], query[0], 3, metric)
    found, _ = nearest([Target(rows_of(vectors))], query, 3, Metric.L2)
    assert found[0].position.tolist() == [4_999, 4_998, 4_997]


def test_rows_whose_squares_overflow_float32_are_found() -> None:
    vectors = clustered(5_000)
    vectors[17] = np.float32(1e30) * np.sign(vectors[17])
    vectors[18] = np.float32(1e-30) * np.sign(vectors[17])
    query = np.sign(vectors[17:18]).astype(np.float32)
    target = Target(rows_of(vectors))
    for size in (1.0, 1e30, 1e-30):
        found, _ = nearest([target], (query * size).astype(np.float32), 2, Metric.COSINE)
        assert sorted(found[0].position[:2].tolist()) == [17, 18]
    found, _ = nearest([target], query, 1, Metric.INNER_PRODUCT)
    assert found[0].position.tolist() == [17]


def test_null_and_zero_rows_match_as_their_metric_says() -> None:
    vectors = np.float32([[0, 0], [1, 0], [5, 5], [-1, 0]])
    valid = np.array([True, True, False, True])
    query = np.float32([[1, 0]])
    for least in (0, 256):
        with sizes(FEWEST_ROWS=least, FEW_ROWS=0):
            answers = {
                metric: nearest([Target(rows_of(vectors, valid=valid))], query, 3, metric)[0][0]
                for metric in Metric
            }
        assert answers[Metric.COSINE].position.tolist() == [1, 3]
        assert answers[Metric.L2].position.tolist() == [1, 0, 3]
        assert answers[Metric.L2].distance.tolist() == [0, 1, 2]
        assert answers[Metric.INNER_PRODUCT].distance.tolist() == [-1, 0, 1]


@pytest.mark.parametrize("metric", list(Metric))
def test_a_query_of_length_zero_matches_nothing_by_cosine_only(
    crowd: VectorRows, metric: Metric
) -> None:
    found, work = nearest([Target(crowd)], np.zeros((1, 64), np.float32), 3, metric)
    check(found[0], [Target(crowd)], np.zeros(64), 3, metric)
    assert (len(found[0].position) == 0) == (metric is Metric.COSINE)
    assert (work.scanned == 0) == (metric is Metric.COSINE)


def test_no_targets_no_rows_and_no_queries_find_nothing() -> None:
    query = np.ones((1, 3), np.float32)
    empty = Target(rows_of(np.empty((0, 3), np.float32), coded=False))
    for targets in ([], [empty], [empty, empty]):
        found, work = nearest(targets, query, 3, Metric.L2)
        assert len(found[0].position) == 0
        assert work.scanned == 0
    assert nearest([empty], query[:0], 3, Metric.L2)[0] == []


def test_read_only_rows_are_searched(crowd: VectorRows) -> None:
    frozen = clustered(5_000)
    rows = rows_of(frozen)
    assert rows.codes is not None
    for array in (
        frozen,
        *(getattr(rows.codes[0], n) for n in ("codes", "scale", "remainder", "norm")),
    ):
        array.setflags(write=False)
    queries = clustered(3, seed=12)
    for one, query in zip(nearest([Target(rows)], queries, 4, Metric.L2)[0], queries, strict=True):
        check(one, [Target(rows)], query, 4, Metric.L2)


@settings(max_examples=50)
@given(
    parts=st.lists(
        st.lists(st.sampled_from([0.0, 0.5, 0.5 + 1e-13, 1.0, 2.0]), max_size=6), max_size=4
    ),
    k=st.integers(0, 9),
)
def test_merged_parts_are_the_nearest_of_all_in_order(parts: list[list[float]], k: int) -> None:
    made = [
        Found(np.full(len(part), n), np.arange(len(part)), np.array(part))
        for n, part in enumerate(parts)
    ]
    rows = sorted((d, n, i) for n, part in enumerate(parts) for i, d in enumerate(part))
    kth = rows[min(k, len(rows)) - 1][0] if rows and k else -1
    expected = [row for row in rows if row[0] <= kth + 2e-12]
    found = merged(made, k)
    got = zip(found.distance.tolist(), found.target.tolist(), found.position.tolist(), strict=True)
    assert list(got) == expected


def test_a_chunk_without_codes_is_read_itself(crowd: VectorRows) -> None:
    bare = replace(crowd, codes=None)
    query = clustered(1, seed=10)
    found, work = nearest([Target(bare)], query, 10, Metric.INNER_PRODUCT)
    assert work.path == "float32"
    check(found[0], [Target(bare)], query[0], 10, Metric.INNER_PRODUCT)
