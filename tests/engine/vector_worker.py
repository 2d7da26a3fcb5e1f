"""Processes that write and read vectors until they are killed or told to end.

``python vector_worker.py write DIRECTORY`` takes lines ``seed first_id``, and begins a writer for
each, which tells ``ready pid`` and then a line per acknowledged commit: ``* first count`` for rows
inserted, ``- first end`` for ids below ``end`` deleted from ``first`` on. When the writer has ended
a line ``ended status`` follows.
``python vector_worker.py read DIRECTORY`` reads until its standard input ends, tells each row that
is not what it must be, and at last how many rows it looked at.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from contextlib import suppress
from typing import Any

import numpy as np

import kalamdb_lab as kalam
from kalamdb_lab.errors import JobRunningError
from kalamdb_lab.testing.jobs import finished

DIMENSION = 16
_TOLERANCE = 1e-6


def tell(*words: object) -> None:
    """Tell a line in one piece: `print` writes its words one by one, and may be killed between."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def vectors_of(ids: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What the row of each id must hold: no zeros, and no two alike."""
    columns = np.arange(1, DIMENSION + 1)
    spread = (ids[:, None] + 1) * 2_654_435_761 % 4_294_967_291 * columns % 8_388_593
    return (spread + 1).astype(np.float32)


def wrong_rows(session: kalam.Session) -> tuple[int, list[str]]:
    """How many rows there are, and what is wrong with them."""
    table = session.execute("SELECT id, v FROM docs").to_arrow().combine_chunks()
    if not table.num_rows:
        return 0, []
    ids = table.column("id").to_numpy()
    column = table.column("v").combine_chunks()
    found = column.flatten().to_numpy().reshape(-1, DIMENSION)
    wrong = [f"twice {row}" for row in ids[np.flatnonzero(np.diff(np.sort(ids)) == 0)]]
    wrong += [f"torn {row}" for row in ids[(found != vectors_of(ids)).any(axis=1)]]
    return len(ids), wrong


def wrong_neighbours(session: kalam.Session, chance: random.Random) -> tuple[int, list[str]]:
    """How many nearest rows were found, and which are not as far as their id says."""
    query = vectors_of(np.array([chance.randrange(10**9)]))[0]
    nearest = session.execute(
        "SELECT id, COSINE_DISTANCE(v, ?) AS d FROM docs ORDER BY d LIMIT 10", [query]
    ).rows()
    if not nearest:
        return 0, []
    ids, told = (np.array(column) for column in zip(*nearest, strict=True))
    vectors, wide = vectors_of(ids).astype(np.float64), query.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(wide)
    off = np.abs(1 - vectors @ wide / lengths - told) > _TOLERANCE
    return len(ids), [f"far {row}" for row in ids[off]]


def write(directory: str, seed: int, next_id: int) -> None:
    chance = random.Random(seed)
    session = kalam.open(directory).session(namespace="lab")

    def insert(count: int) -> None:
        nonlocal next_id
        ids = np.arange(next_id, next_id + count)
        session.insert("docs", {"id": ids, "v": vectors_of(ids)})
        tell("*", next_id, count)
        next_id += count

    tell("ready", os.getpid())
    first = next_id
    while True:
        match chance.choices(["bulk", "few", "delete", "flush", "compact"], [4, 6, 2, 3, 2])[0]:
            case "bulk":
                insert(chance.choice([300, 400, 1_000]))  # the largest have codes
            case "few":
                insert(chance.randrange(1, 20))
            case "delete" if next_id - first > 500:
                end = first + chance.randrange(500)
                session.execute("DELETE FROM docs WHERE id >= ? AND id < ?", [first, end])
                tell("-", first, end)
                first = end
            case "flush":
                with suppress(JobRunningError):  # another process has begun one just now
                    finished(session, "STORAGE FLUSH TABLE docs")
                    tell("flushed")
            case "compact":
                with suppress(JobRunningError):  # another process has begun one just now
                    finished(session, "STORAGE COMPACT TABLE docs")
                    tell("compacted")


def write_again_and_again(directory: str) -> None:
    tell("ready")
    for line in sys.stdin:
        pid = os.fork()  # much cheaper than to import all anew
        if pid == 0:
            write(directory, *map(int, line.split()))
        _, status = os.waitpid(pid, 0)
        tell("ended", os.waitstatus_to_exitcode(status))


def read(directory: str) -> None:
    is_over = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        is_over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    chance = random.Random(0)
    session = kalam.open(directory).session(namespace="lab")
    tell("ready")
    looked_at = 0
    while not is_over.wait(0.05):
        count, wrong = wrong_rows(session)
        near, far = wrong_neighbours(session, chance)
        looked_at += count + near
        for fault in wrong + far:
            tell(fault)
    tell("looked at", looked_at)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write_again_and_again(sys.argv[2])
    else:
        read(sys.argv[2])
