"""When an index is asked, and how much of it is looked at."""

from __future__ import annotations

import numpy as np
import pytest
from vector_sets import clustered, cut

from kalamdb_lab.vectors.inverted_lists import build, probe, probe_lists
from kalamdb_lab.vectors.rows import Metric
from kalamdb_lab.vectors.search import Target


@pytest.fixture(scope="module")
def large():
    rows = cut(clustered(60_000, 8, groups=500))
    return rows, build(rows, Metric.COSINE)


QUERY = np.ones((1, 8), np.float32)


def test_exact_search_is_left_what_it_does_better(large) -> None:
    """Few rows, a filter that keeps little, many rows wanted, or nearly all lists probed."""
    rows, index = large
    few = cut(clustered(5_000, 8))
    assert probe(build(few, Metric.COSINE), Target(few), QUERY, 10) is None
    kept = np.arange(0, 60_000, 50)
    assert probe(index, Target(rows, only=kept), QUERY, 10) is None
    assert probe(index, Target(rows, without=np.arange(59_000)), QUERY, 10) is None
    assert probe(index, Target(rows), QUERY, 5_000) is None
    assert probe(index, Target(rows), QUERY, 10, probes=index.list_count) is None


def test_an_index_answers_the_rest(large) -> None:
    rows, index = large
    for target, k, probes in [
        (Target(rows), 10, None),
        (Target(rows), 100, None),
        (Target(rows, only=np.arange(0, 60_000, 2)), 10, None),
        (Target(rows, without=np.arange(1_000)), 10, None),
        (Target(rows), 10, 3),
    ]:
        answer = probe(index, target, QUERY, k, probes=probes)
        assert answer is not None
        (found,), work = answer
        assert len(found.position) >= k
        assert work.path == "inverted lists"
        assert 0 < work.reranked <= work.scanned < 60_000


def test_more_lists_are_looked_at_for_a_filter_and_for_more_rows(large) -> None:
    rows, index = large
    half = Target(rows, only=np.arange(0, 60_000, 2))

    def scanned(target, k):
        return probe_lists(index, target, QUERY, k, probes=index.probes)[1].scanned

    assert scanned(Target(rows), 10) < scanned(half, 10) < scanned(half, 60)


def test_a_filter_that_keeps_only_far_rows_still_finds_them(large) -> None:
    """The lists nearest to the query hold none of what the filter keeps."""
    rows, index = large
    order = np.argsort(-(rows.chunks[0] @ QUERY[0]) / np.linalg.norm(rows.chunks[0], axis=1))
    far = Target(rows, only=np.sort(order[45_000:]))
    (found,), _ = probe_lists(index, far, QUERY, 10, probes=1)
    assert len(found.position) >= 10
    assert set(found.position.tolist()) <= set(order[45_000:].tolist())
