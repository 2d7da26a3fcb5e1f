"""Inverted lists: what they hold, what they always answer, and how much they find."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_sets import clustered, cut

from kalamdb_lab.vectors import inverted_lists, kmeans, probing
from kalamdb_lab.vectors import lists as lists_module
from kalamdb_lab.vectors.codes import encode
from kalamdb_lab.vectors.inverted_lists import build, probe_lists, recall
from kalamdb_lab.vectors.rows import CodeChunk, Metric
from kalamdb_lab.vectors.search import Found, Target, nearest

PYDOCS = Path(__file__).parents[2] / "datasets" / "pydocs"


def strange(seed, count, dimension):
    """Clusters, equal rows, zeros, NULLs, and rows that float32 can hardly hold."""
    random = np.random.default_rng(seed)
    rows = clustered(count, dimension, seed, groups=3)
    kinds = random.integers(0, 12, count)
    rows[kinds == 1] = rows[:1]
    rows[kinds == 2] = 0
    rows[kinds == 3] *= np.float32(1e32)
    rows[kinds == 4] *= np.float32(1e-38)
    valid = None if seed % 3 == 0 else kinds != 5
    return rows, valid


def matching(rows, valid, metric, target):
    """Positions that a search may answer."""
    found = np.ones(len(rows), bool) if valid is None else valid.copy()
    if metric is Metric.COSINE:
        found &= rows.any(axis=1)
    kept = np.arange(len(rows)) if target.only is None else target.only
    if target.without is not None:
        kept = np.setdiff1d(kept, target.without)
    return set(np.flatnonzero(found)) & set(kept.tolist())


def lists_of(index):
    """The list of each position; -1 for those before all lists."""
    return {
        int(position): int(np.searchsorted(index.offsets, entry, side="right")) - 1
        for entry, position in enumerate(index.order)
    }


SETS = st.tuples(st.integers(0, 10**6), st.integers(1, 120), st.sampled_from([1, 3, 16]))
METRICS = st.sampled_from(list(Metric))
FILTERS = st.tuples(st.sampled_from([None, 0.0, 0.1, 0.6]), st.sampled_from([None, 0.0, 0.3]))


def target_of(rows, shares, seed):
    random = np.random.default_rng(seed + 1)
    only, without = (
        None if share is None else np.flatnonzero(random.random(rows.row_count) < share)
        for share in shares
    )
    return Target(rows, only, without)


@settings(deadline=None)
@given(
    drawn=SETS,
    metric=METRICS,
    shares=FILTERS,
    k=st.integers(1, 30),
    lists=st.sampled_from([None, 1, 5, 1000]),
    pieces=st.integers(1, 3),
)
def test_probing_all_lists_is_exact_search(drawn, metric, shares, k, lists, pieces) -> None:
    array, valid = strange(*drawn)
    rows = cut(array, valid, pieces=pieces)
    index = build(rows, metric, lists=lists)
    target = target_of(rows, shares, drawn[0])
    queries = np.concatenate([strange(drawn[0] + 1, 4, drawn[2])[0], array[:2]])
    found, work = probe_lists(index, target, queries, k, probes=index.list_count)
    truth, _ = nearest([target], queries, k, metric)
    assert work.path == "inverted lists"
    for ours, exact in zip(found, truth, strict=True):
        np.testing.assert_array_equal(np.sort(ours.position), np.sort(exact.position))
        np.testing.assert_allclose(ours.distance, exact.distance, rtol=1e-9, atol=1e-12)
        assert not ours.target.any()


@pytest.mark.parametrize("metric", Metric)
def test_rows_closer_together_than_their_codes_tell_are_ranked_rightly(metric, monkeypatch) -> None:
    monkeypatch.setattr(lists_module, "RANGE_ROWS", 33)
    random = np.random.default_rng(4)
    array = 300 + 0.5 * random.standard_normal((500, 24))
    array = (array * random.choice([1, 1.001], (500, 1))).astype(np.float32)
    rows = cut(array, pieces=3)
    index = build(rows, metric, lists=9)
    queries = (301 + 0.5 * random.standard_normal((30, 24))).astype(np.float32)
    found, work = probe_lists(index, Target(rows), queries, 5, probes=9)
    truth, _ = nearest([Target(rows)], queries, 5, metric)
    for ours, exact in zip(found, truth, strict=True):
        np.testing.assert_array_equal(ours.position, exact.position)
    assert work.scanned == 30 * 500


def test_by_inner_product_a_long_row_is_found_from_afar() -> None:
    array = np.zeros((200, 2), np.float32)
    array[:, 0] = 1
    array[150:] = [0, 1]
    array[170] = [0, 9]
    rows = cut(array)
    index = build(rows, Metric.INNER_PRODUCT, lists=2)
    query = np.array([[1, 0.5]], np.float32)
    (found,), work = probe_lists(index, Target(rows), query, 1, probes=1)
    assert found.position.tolist() == [170]
    assert work.scanned == 50


@settings(deadline=None)
@given(drawn=SETS, metric=METRICS, shares=FILTERS, k=st.integers(0, 60), probes=st.integers(1, 3))
def test_min_k_matching_rows_come_each_allowed_none_twice(drawn, metric, shares, k, probes) -> None:
    array, valid = strange(*drawn)
    rows = cut(array, valid)
    index = build(rows, metric)
    target = target_of(rows, shares, drawn[0])
    (found,), _ = probe_lists(index, target, array[:1] + 1, k, probes=probes)
    allowed = matching(array, valid, metric, target)
    positions = found.position.tolist()
    assert len(set(positions)) == len(positions)
    assert set(positions) <= allowed
    assert len(positions) >= min(k, len(allowed)) if array[0].max() < 1e30 else True
    assert np.all(np.diff(found.distance) >= 0)


@settings(deadline=None)
@given(drawn=SETS, metric=METRICS, coded=st.booleans(), lists=st.sampled_from([None, 7]))
def test_every_row_that_can_match_has_one_place_and_its_codes(drawn, metric, coded, lists) -> None:
    array, valid = strange(*drawn)
    index = build(cut(array, valid, coded=coded, pieces=2), metric, lists=lists)
    live = matching(array, valid, metric, Target(cut(array, valid)))
    assert sorted(index.order.tolist()) == sorted(live)
    assert index.offsets[-1] == len(index.order)
    assert np.all(np.diff(index.offsets) >= 0)
    assert 1 <= index.probes <= index.list_count == len(index.offsets) - 1
    codes = encode(array, valid)
    for name in CodeChunk.__slots__:
        held = np.concatenate([getattr(chunk, name) for chunk in index.codes])
        np.testing.assert_array_equal(held, getattr(codes, name)[index.order])


@pytest.mark.parametrize("metric", Metric)
def test_a_row_is_in_the_list_of_the_nearest_centroid(metric) -> None:
    array = clustered(900, 12) * np.linspace(0.5, 2, 900, dtype=np.float32)[:, None]
    index = build(cut(array), metric, lists=20)
    if metric is not Metric.L2:
        array /= np.linalg.norm(array, axis=1, keepdims=True)
    away = np.linalg.norm(array[:, None] - index.centroids[None], axis=2)
    places = lists_of(index)
    own = away[np.arange(900), [places[i] for i in range(900)]]
    np.testing.assert_allclose(own, away.min(axis=1), rtol=1e-4)
    assert (np.diff(index.offsets) > 0).all()


def test_groups_that_lost_all_rows_are_filled_again() -> None:
    """Half of the first centroids are one and the same row, so that they get none at first."""
    array = np.repeat(clustered(100, 8), 10, axis=0)
    centroids = kmeans.trained(
        np.concatenate([np.repeat(array[:1], 10, axis=0), array]),
        20,
        np.random.default_rng(0),
        lambda _: None,
    )
    assert len(np.unique(centroids, axis=0)) >= 19


def found_share(found, truth, k=10):
    """The share of the k nearest that was found."""
    hits = [
        len(np.intersect1d(ours.position[:k], exact.position[:k]))
        for ours, exact in zip(found, truth, strict=True)
    ]
    return np.mean(hits) / k


@pytest.mark.parametrize("metric", Metric)
def test_default_probes_find_97_of_100_neighbours(metric) -> None:
    array = clustered(20_000, 24, groups=300)
    if metric is Metric.INNER_PRODUCT:
        array *= np.random.default_rng(3).lognormal(0, 0.3, (20_000, 1)).astype(np.float32)
    array, queries = array[:19_800], array[19_800:]
    rows = cut(array)
    index = build(rows, metric)
    assert index.probes < index.list_count // 2
    truth, _ = nearest([Target(rows)], queries, 10, metric)
    found, work = probe_lists(index, Target(rows), queries, 10, probes=index.probes)
    assert found_share(found, truth) >= 0.97
    assert work.scanned < 200 * 19_800 / 2
    assert 0.95 <= recall(index, rows, seed=5) <= found_share(found, truth) + 0.01


@pytest.fixture(scope="module")
def passages():
    """Embedded docstrings as rows, questions as queries, and an index of the rows."""
    docs = pq.read_table(PYDOCS / "docs.parquet", columns=["embedding"])["embedding"]
    real = np.array(docs.to_pylist(), np.float32)
    texts = pq.read_table(PYDOCS / "texts.parquet").to_pylist()
    asked = np.array([text["embedding"] for text in texts if text["kind"] == "query"], np.float32)
    neighbour = (real @ real.T - 2 * np.eye(len(real), dtype=np.float32)).argmax(axis=1)
    start, pair = np.random.default_rng(5).integers(len(real), size=(2, 20_000))
    rows = cut(real[start] + np.float32(0.6) * (real[neighbour[pair]] - real[pair]))
    return rows, asked, build(rows, Metric.COSINE)


@pytest.mark.slow
@pytest.mark.parametrize("probes", [2, 8, None])
def test_the_recall_of_real_questions_is_about_the_stated_one_or_higher(passages, probes) -> None:
    rows, asked, index = passages
    if probes is not None:
        index = inverted_lists.replace(index, probes=probes)
    truth, _ = nearest([Target(rows)], asked, 10, Metric.COSINE)
    found, _ = probe_lists(index, Target(rows), asked, 10, probes=index.probes)
    assert recall(index, rows) <= found_share(found, truth) + 0.015
    if probes is None:
        assert found_share(found, truth) >= 0.96


@pytest.mark.slow
def test_queries_beside_rows_would_flatter(passages) -> None:
    """What makes `recall` ask amid rows: with a row's neighbourhood few lists look like enough."""
    rows, _, index = passages
    beside = rows.chunks[0][:200] + np.float32(0.1) * rows.chunks[0][200:400]
    truth, _ = nearest([Target(rows)], beside, 10, Metric.COSINE)
    found, _ = probe_lists(index, Target(rows), beside, 10, probes=2)
    assert found_share(found, truth) > 0.9
    assert recall(inverted_lists.replace(index, probes=2), rows) < 0.7


def test_a_few_removed_rows_do_not_widen_a_search() -> None:
    rows = cut(clustered(3_000, 8))
    index = build(rows, Metric.COSINE)
    query = np.ones((1, 8), np.float32)
    _, whole = probe_lists(index, Target(rows), query, 10, probes=3)
    removed = Target(rows, without=np.array([1_500]))
    _, less = probe_lists(index, removed, query, 10, probes=3)
    assert less.scanned == whole.scanned


def test_recall_tells_how_far_it_is_and_may_be_stopped() -> None:
    rows = cut(clustered(2_000, 8))
    index = build(rows, Metric.COSINE)
    seen = []
    recall(index, rows, queries=100, progress=lambda *step: seen.append(step))
    assert [done for done, _ in seen] == [20, 40, 60, 80, 100]
    assert {total for _, total in seen} == {100}

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recall(index, rows, progress=stop)


def test_fewer_probes_have_a_lower_recall_and_all_have_1() -> None:
    rows = cut(np.random.default_rng(1).standard_normal((3_000, 16)).astype(np.float32))
    index = build(rows, Metric.COSINE)
    shares = [
        recall(inverted_lists.replace(index, probes=probes), rows, queries=50)
        for probes in (1, 8, index.list_count)
    ]
    assert shares[0] < shares[1] < shares[2] == 1


def test_recall_counts_rows_that_tie_with_the_last() -> None:
    rows = cut(np.ones((500, 4), np.float32))
    index = build(rows, Metric.L2, lists=8)
    assert recall(inverted_lists.replace(index, probes=1), rows) == 1


def test_the_same_seed_makes_the_same_index() -> None:
    rows = cut(clustered(2_000, 8))
    first, again, other = (build(rows, Metric.COSINE, seed=seed) for seed in (3, 3, 4))
    assert first.probes == again.probes
    for name in ("centroids", "offsets", "order"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.order, other.order)


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("length", [1e35, 1e-35])
def test_rows_of_extreme_length_are_found_by_every_probe(metric, length) -> None:
    array = clustered(1_000, 8)
    array[700] *= np.float32(length)
    rows = cut(array)
    index = build(rows, metric)
    assert index.order[: index.offsets[0]].tolist() == [700]
    query = array[700:701]
    truth, _ = nearest([Target(rows)], query, 1, metric)
    found, _ = probe_lists(index, Target(rows), query, 1, probes=1)
    if metric is not Metric.INNER_PRODUCT or length > 1:
        assert truth[0].position.tolist() == [700]
        assert found[0].position.tolist() == [700]
    (left,), _ = probe_lists(index, Target(rows, without=np.array([700])), query, 1, probes=1)
    assert 700 not in left.position


def test_a_column_without_rows_that_match_answers_nothing() -> None:
    array = np.zeros((40, 3), np.float32)
    index = build(cut(array), Metric.COSINE)
    (found,), _ = probe_lists(index, Target(cut(array)), np.ones((1, 3), np.float32), 5, probes=1)
    assert len(index.order) == len(found.position) == 0
    assert recall(index, cut(array)) == 1


def test_a_batch_answers_as_its_queries_do_one_by_one() -> None:
    array = clustered(3_000, 16)
    rows = cut(array)
    index = build(rows, Metric.L2)
    target = Target(rows, only=np.arange(0, 3_000, 2))
    together, work = probe_lists(index, target, array[:9], 5, probes=3)
    alone = [probe_lists(index, target, array[i : i + 1], 5, probes=3) for i in range(9)]
    for ours, ((one,), _) in zip(together, alone, strict=True):
        np.testing.assert_array_equal(ours.position, one.position)
        np.testing.assert_array_equal(ours.distance, one.distance)
    assert work.scanned == sum(one.scanned for _, one in alone)
    assert work.reranked == sum(one.reranked for _, one in alone)


def test_without_the_kernel_numpy_gives_the_same_rows(monkeypatch) -> None:
    array = clustered(3_000, 16)
    rows = cut(array)
    index = build(rows, Metric.COSINE)
    fast, _ = probe_lists(index, Target(rows), array[:20], 10, probes=4)
    monkeypatch.setattr(probing, "eight_bit_kernel", lambda: None)
    slow, _ = probe_lists(index, Target(rows), array[:20], 10, probes=4)
    for ours, theirs in zip(fast, slow, strict=True):
        np.testing.assert_array_equal(ours.position, theirs.position)


@pytest.mark.parametrize("coded", [True, False])
def test_progress_grows_to_its_end(monkeypatch, coded) -> None:
    monkeypatch.setattr(kmeans, "BLOCK_BYTES", 16 * 1024)
    seen = []
    rows = cut(clustered(3_000, 8), coded=coded)
    build(rows, Metric.COSINE, progress=lambda *step: seen.append(step))
    assert len(seen) > 50
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {total for _, total in seen} == {seen[-1][0]}
    steps = np.diff([done for done, _ in seen])
    assert steps.max() < seen[-1][0] / 5


def test_progress_may_stop_the_work() -> None:
    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise StopError

    with pytest.raises(StopError):
        build(cut(clustered(3_000, 8)), Metric.COSINE, progress=stop)


def test_building_never_holds_the_column_twice(monkeypatch) -> None:
    monkeypatch.setattr(kmeans, "BLOCK_BYTES", 256 * 1024)
    monkeypatch.setattr(inverted_lists, "SAMPLE_ROWS", 2_000)
    rows = cut(clustered(30_000, 128))
    tracemalloc.start()
    try:
        build(rows, Metric.COSINE)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    column_bytes = 30_000 * 128 * 4
    assert peak_bytes < 0.75 * column_bytes


def test_an_index_takes_little_more_than_a_quarter_of_the_floats() -> None:
    array = clustered(10_000, 384)
    index = build(cut(array), Metric.COSINE, lists=64)
    arrays = [index.centroids, index.offsets, index.order]
    arrays += [getattr(chunk, name) for chunk in index.codes for name in CodeChunk.__slots__]
    assert sum(held.nbytes for held in arrays) <= 0.275 * array.nbytes


def test_found_is_what_exact_search_answers_with() -> None:
    rows = cut(clustered(2_000, 8))
    index = build(rows, Metric.COSINE)
    (found,), _ = probe_lists(index, Target(rows), np.ones((1, 8), np.float32), 3, probes=2)
    assert isinstance(found, Found)
    assert found.position.dtype == found.target.dtype == np.int64
    assert found.distance.dtype == np.float64
