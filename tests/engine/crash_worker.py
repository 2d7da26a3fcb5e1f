"""A process that works on a database and tells each acknowledged commit, until it is killed.

Run as ``python crash_worker.py DIRECTORY SEED FIRST_ID BULK``. A line ``+ id`` says that a row was
acknowledged, ``= id`` that its new value was, ``- id`` that its deletion was, ``* first count``
that a bulk insert was.
"""

from __future__ import annotations

import os
import random
import sys

import pyarrow as pa

import kalamdb_lab as kalam
from kalamdb_lab.testing.jobs import finished


def work(directory: str, seed: int, next_id: int, bulk: int) -> None:
    chance = random.Random(seed)
    session = kalam.open(directory).session("alice", namespace="lab")
    mine: list[int] = []

    def tell(*words: object) -> None:
        os.write(1, (" ".join(map(str, words)) + "\n").encode())  # in one piece, or not at all

    tell("ready")
    while True:
        match chance.choices(
            ["insert", "bulk", "update", "delete", "flush", "compact"], [20, 2, 5, 3, 3, 1]
        )[0]:
            case "insert":
                session.execute("INSERT INTO events VALUES (?, ?, 0)", [next_id, f"e{next_id}"])
                tell("+", next_id)
                mine.append(next_id)
                next_id += 1
            case "bulk":
                ids = list(range(next_id, next_id + bulk))
                next_id += bulk
                session.insert(
                    "events",
                    pa.table({"id": ids, "body": [f"e{i}" for i in ids], "n": [0] * len(ids)}),
                )
                tell("*", ids[0], len(ids))
            case "update" if mine:
                row = chance.choice(mine)
                session.execute("UPDATE events SET n = n + 1 WHERE id = ?", [row])
                tell("=", row)
            case "delete" if mine:
                row = mine.pop(chance.randrange(len(mine)))
                session.execute("DELETE FROM events WHERE id = ?", [row])
                tell("-", row)
            case "flush":
                finished(session, "STORAGE FLUSH TABLE events")
            case "compact":
                finished(session, "STORAGE COMPACT TABLE events")


if __name__ == "__main__":
    work(sys.argv[1], *map(int, sys.argv[2:]))
