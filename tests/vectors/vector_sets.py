"""Vectors that several tests are made of."""

from __future__ import annotations

import itertools

import numpy as np

from kalamdb_lab.vectors.codes import encode
from kalamdb_lab.vectors.rows import CodeChunk, VectorRows


def cut(rows, valid=None, *, coded=True, pieces=1):
    """The rows as a segment gives them, in several chunks of floats and others of codes."""
    chunks = tuple(part for part in np.array_split(rows, pieces) if len(part))
    codes = None
    if coded:
        whole = encode(rows, valid)
        edges = np.linspace(0, len(rows), pieces + 2).astype(int)
        codes = tuple(
            CodeChunk(*(getattr(whole, name)[a:b] for name in CodeChunk.__slots__))
            for a, b in itertools.pairwise(edges)
            if b > a
        )
    return VectorRows(rows.shape[1], len(rows), chunks, codes, valid)


def clustered(count, dimension, seed=0, groups=40):
    random = np.random.default_rng(seed)
    centres = random.standard_normal((groups, dimension))
    rows = centres[random.integers(0, groups, count)]
    return (rows + 0.3 * random.standard_normal((count, dimension))).astype(np.float32)
