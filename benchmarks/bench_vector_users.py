"""What do the ten nearest of a user's own vectors cost, where thousands of users have some?

Sketch: a user's 200 x 384 floats are one file of 307 kB. To map it takes 0.02 ms, to read it
0.01 ms, and ten of 200 rows are found in 0.01 ms: 0.05 ms, whoever else has vectors. As SQL a
cached plan, the partition's snapshot and a statement over ten rows are added, 1 to 2 ms. A shared
table must find the user's rows first, which zone maps or an index do in 2 ms.
Data: 1,000 users (`--full`: 5,000) x 200 vectors of 384 float32, seed 384, in one USER table,
flushed; 50 of the users ask in turns, with a session each; each contender answers ten times before
the next one, so that caches are warm for all. The ids are those that a float64 pass over the user's
rows finds. `kernel` searches the user's rows without SQL, which leaves so few of them to the
engine: the file is mapped already, or each time anew.
Peers: DuckDB, one table in a file, rows in the order of users, `WHERE part = ?`; LanceDB, one table
with a BTREE index on that column; the same users numbered in `part`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import kalamdb_lab as kalam
from benchmarks import embeddings, vector_peers
from benchmarks.bench_vector_search import Statements
from benchmarks.databases import NAMESPACE, create_table, kalam_database
from benchmarks.embeddings import DIMENSION, Floats, Truth
from benchmarks.measure import Budget, Figure, Finding, Samples, Scale, interleaved, pooled, timed
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.vectors import map_vectors
from kalamdb_lab.testing.jobs import finished
from kalamdb_lab.vectors.rows import Metric, VectorRows
from kalamdb_lab.vectors.search import Target, nearest

SQL, KERNEL, ANEW = "SQL", "kernel", "kernel, mapped anew"
FILE, LANCE = "a DuckDB file", "LanceDB with an index on users"
OURS = (SQL, KERNEL, ANEW)
EACH = 200
K = 10
READERS = 50

_FLUSHED_TOGETHER = 500

Ask = Callable[[int, Floats], list[int]]


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Read as some of the users, here and there, in turns."""
    users = scale.of(4, 1_000, 5_000)
    place = folder / "vector-users"
    place.mkdir()
    vectors = embeddings.rows(users * EACH)
    owners = np.repeat(np.arange(users, dtype=np.int32), EACH)
    _fill(place / "users.kalam", vectors, users)
    chosen = np.linspace(0, users - 1, min(READERS, users)).astype(int).tolist()
    queries = embeddings.queries(len(chosen))
    with ExitStack() as stack:
        database = stack.enter_context(kalam.open(place / "users.kalam"))
        file = vector_peers.DuckDb.of_file(place / "users.duckdb", vectors, owners)
        stack.callback(file.close)
        mapped = _mapping(place / "users.kalam" / "storage", users)
        ask: dict[str, Ask] = {
            SQL: _as_users(database, chosen),
            KERNEL: _searching({user: mapped(user) for user in chosen}.__getitem__),
            ANEW: _searching(mapped),
            FILE: lambda user, query: file.nearest_where(query, K, f"part = {user}"),
        }
        if find_spec("lancedb") is not None:
            lance = vector_peers.Lance(place / "lance", vectors, owners)
            lance.index_numbers()
            ask[LANCE] = lambda user, query: lance.nearest_where(query, K, f"part = {user}")
        first = _first_answers(ask, vectors, queries, chosen)
        run = {
            name: _in_turns(one, list(zip(chosen, queries, strict=True)))
            for name, one in ask.items()
        }
        # Ten calls at a time: after a call of another, caches are cold for who needs 0.1 ms.
        times = interleaved(run, scale.of(2, 50), warm_up=scale.of(1, 5), inner=scale.of(1, 10))
    what = f"ten nearest of own {EACH}, {users:,} users"
    found: list[Finding] = []
    for peer in (FILE, LANCE):
        if peer in times:
            found += [
                Figure(f"{what}: {SQL}", times[SQL], peer, times[peer], Budget("ms", 2)),
                *(
                    Figure(f"{what}: {name}", times[name], peer, times[peer], Budget("ratio", 0.05))
                    for name in (KERNEL, ANEW)
                ),
            ]
    found.append(Figure(f"{what}: {SQL}, the first of a user after opening", first))
    return [*found, *vector_peers.missing(faiss=False)]


def _fill(path: Path, vectors: Floats, users: int) -> None:
    # Not measured here, and thousands of syncs would take minutes.
    with kalam_database(path, durability="normal") as database:
        root = database.session(namespace=NAMESPACE)
        none = np.zeros(EACH, np.int32)
        schema = embeddings.table(vectors[:1], none[:1]).schema
        create_table(root, "notes", schema, key="id", kind="USER")
        for user in range(users):
            root.execute(f"CREATE USER 'u{user}' INTERNAL ROLE user")
            start = user * EACH
            rows = embeddings.table(vectors[start : start + EACH], none, start=start)
            with database.session(f"u{user}", namespace=NAMESPACE) as session:
                session.insert("notes", rows)
            if (user + 1) % _FLUSHED_TOGETHER == 0 or user == users - 1:
                finished(root, "STORAGE FLUSH TABLE notes")


def _as_users(database: Any, chosen: list[int]) -> Ask:
    statements = {
        user: Statements(database.session(f"u{user}", namespace=NAMESPACE), "notes")
        for user in chosen
    }
    return lambda user, query: statements[user].nearest(query, K)


def _mapping(folder: Path, users: int) -> Callable[[int], VectorRows]:
    """Return what maps the vectors of a user."""
    storage = Storage("users", folder)
    paths: dict[int, tuple[str, int]] = {}
    for found in folder.rglob("*.vectors/*/f32"):
        user = int(found.parts[-4].removeprefix("u"))
        assert user not in paths, "one segment for each user"
        paths[user] = found.parent.parent.relative_to(folder).as_posix(), int(found.parts[-2])
    assert len(paths) == users

    def mapped(user: int) -> VectorRows:
        path, column = paths[user]
        chunks = map_vectors(storage, path, column, row_count=EACH, dimension=DIMENSION)
        assert chunks is not None
        return VectorRows(DIMENSION, EACH, tuple(chunks))

    return mapped


def _searching(rows_of: Callable[[int], VectorRows]) -> Ask:
    def ask(user: int, query: Floats) -> list[int]:
        found, _ = nearest([Target(rows_of(user))], query[None], K, Metric.COSINE)
        return [user * EACH + at for at in found[0].position[:K].tolist()]

    return ask


def _first_answers(
    ask: dict[str, Ask],
    vectors: Floats,
    queries: Floats,
    chosen: list[int],
) -> Samples:
    """Check what each contender answers to each user; return how long ours took in SQL."""
    first: list[Samples] = []
    for number, user in enumerate(chosen):
        own, part = vectors[user * EACH : (user + 1) * EACH], np.zeros(EACH, np.int32)
        truth: Truth = embeddings.truths(own, queries[number : number + 1], K, part)["all"]
        for name, one in ask.items():
            ids, samples = timed(lambda one=one: one(user, queries[number]))  # noqa: B023
            found = [item - user * EACH for item in ids]
            exact = found == truth.ids[0].tolist()
            right = exact if name in OURS else truth.is_right(0, found)
            assert right, f"{name}: user {user} gets {ids}"
            if name == SQL:
                first.append(samples)
    # The very first statement starts the engine, which is no matter of users.
    return pooled(first[1:])


def _in_turns(ask: Ask, pairs: list[tuple[int, Floats]]) -> Callable[[], object]:
    turns = itertools.cycle(pairs)
    return lambda: ask(*next(turns))


def test_each_user_finds_its_own_rows(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
