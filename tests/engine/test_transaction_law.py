"""Any interleaving of three sessions agrees with a plain model of snapshot isolation."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import kalamdb_lab as kalam
from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished

_names = itertools.count()
_ACTIONS = (
    "BEGIN COMMIT COMMIT ROLLBACK flush compact insert update update delete upsert move".split()
)
_steps = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(_ACTIONS), st.integers(0, 2)),
    min_size=15,
    max_size=40,
)
_TAKEN_MEANWHILE = [
    (0, "COMMIT", 0), (0, "upsert", 2), (1, "upsert", 2), (1, "delete", 2), (1, "COMMIT", 0),
    (0, "insert", 2),
]  # fmt: skip
"""A key that a transaction took and gave up, and another took and kept."""


class _Model:
    """Rows by key as (value, version); a transaction is a copy, and what it rests on."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[int, int]] = {}
        self.version = itertools.count(1)
        self.open: dict[int, tuple[dict[int, tuple[int, int]], dict[int, tuple[int, int]]]] = {}

    def seen_by(self, who: int) -> dict[int, tuple[int, int]]:
        return self.open[who][1] if who in self.open else self.rows

    def begin(self, who: int) -> str | None:
        if who in self.open:
            return "TRANSACTION_STATE"
        self.open[who] = (dict(self.rows), dict(self.rows))
        return None

    def commit(self, who: int) -> str | None:
        if who not in self.open:
            return "TRANSACTION_STATE"
        base, own = self.open.pop(who)
        touched = {key for key in base.keys() | own.keys() if base.get(key) != own.get(key)}
        for key in touched:
            if self.rows.get(key) != base.get(key):
                is_own_key_free = key not in base and key not in own
                if not is_own_key_free:
                    return "CONFLICT"
        for key in touched:
            if key in own:
                self.rows[key] = own[key]
            else:
                self.rows.pop(key, None)
        return None

    def change(self, who: int, action: str, key: int, value: int) -> str | None:
        rows = self.seen_by(who)
        if action == "insert" and key in rows:
            return "DUPLICATE_KEY"
        if action in ("insert", "upsert") or (action == "update" and key in rows):
            rows[key] = (value, next(self.version))
        elif action == "delete":
            rows.pop(key, None)
        elif action == "move":
            for other in [k for k in rows if k >= key]:
                rows[other] = (rows[other][0] + value, next(self.version))
        return None

    def step(self, who: int, action: str, key: int, value: int) -> str | None:
        """Return the code of the error that the action must end with, None for none."""
        match action:
            case "flush" | "compact":
                return None
            case "BEGIN":
                return self.begin(who)
            case "COMMIT":
                return self.commit(who)
            case "ROLLBACK":
                return None if self.open.pop(who, None) else "TRANSACTION_STATE"
            case _:
                return self.change(who, action, key, value)


_SQL = {
    "insert": "INSERT INTO t VALUES ($1, $2)",
    "update": "UPDATE t SET v = $2 WHERE k = $1",
    "delete": "DELETE FROM t WHERE k = $1 AND $2 > 0",
    "upsert": "INSERT INTO t VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
    "move": "UPDATE t SET v = v + $2 WHERE k >= $1",
}


def _run(session: Session, namespace: str, action: str, key: int, value: int) -> str | None:
    try:
        if action in ("flush", "compact"):
            finished(session, f"STORAGE {action.upper()} TABLE {namespace}.t")
        elif action in _SQL:
            session.execute(_SQL[action], [key, value])
        else:
            session.execute(action)
    except kalam.KalamError as error:
        return error.code
    return None


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_steps)
@example(steps=_TAKEN_MEANWHILE)
def test_every_interleaving_agrees_with_the_model(studio: Any, steps: list[Any]) -> None:
    name = f"law_{next(_names)}"
    root = studio.session(namespace="default")
    root.execute(f"CREATE NAMESPACE {name}")
    root.execute(f"CREATE TABLE {name}.t (k INT PRIMARY KEY, v BIGINT)")
    sessions = [studio.session(namespace=name) for _ in range(3)]
    model = _Model()
    for key in (0, 1):  # clashes need rows to clash on, one of them flushed
        root.execute(f"INSERT INTO {name}.t VALUES ({key}, 0)")
        model.change(2, "insert", key, 0)
        finished(root, f"STORAGE FLUSH TABLE {name}.t" if key == 0 else "SELECT 1")
    for who in (0, 1):
        sessions[who].execute("BEGIN")
        model.begin(who)
    for value, (who, action, key) in enumerate(steps, start=1):
        runner = root if action in ("flush", "compact") else sessions[who]
        code = _run(runner, name, action, key, value)
        expected = model.step(who, action, key, value)
        assert code == expected, (action, who)
        for other, reader in enumerate(sessions):
            seen = {k: v for k, (v, _) in model.seen_by(other).items()}
            found = reader.execute("SELECT v FROM t WHERE k = $1", [key]).rows()
            assert found == [(v,) for k, v in seen.items() if k == key], (action, other)
            if other in (who, value % 3):
                rows = reader.execute("SELECT k, v FROM t").rows()
                assert sorted(rows) == sorted(seen.items()), (action, other)
    for session in sessions:
        session.close()
