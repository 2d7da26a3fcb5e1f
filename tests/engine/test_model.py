"""A table through two processes against a dictionary: rows, deleted rows, columns, maintenance."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kalamdb_lab import FakeClock, KalamError
from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished

USERS = ("mia", "tom")
NAMES = ("a", "b", "c", "d", "Select", "e f")
NUMBERS = ("INT", "BIGINT")

sides = st.sampled_from([0, 1])
users = st.sampled_from(USERS)
ids = st.integers(0, 8)


class TwoProcesses:
    """One directory opened twice, each time with caches, locks and connections of its own."""

    def __init__(self, path: Path, opener: Any) -> None:
        self.path, self.opener, self.clock = path, opener, FakeClock()
        self.opened = [opener(path, self.clock), opener(path, self.clock)]
        root = self.root(0)
        for user in USERS:
            root.execute(f"CREATE USER '{user}' INTERNAL ROLE user")
        self.numbers = itertools.count()

    def root(self, side: int) -> Session:
        return self.opened[side].session(namespace="default")

    def reopen(self, side: int) -> None:
        self.opened[side].database.close()
        self.opened[side] = self.opener(self.path, self.clock)

    def close(self) -> None:
        for opened in self.opened:
            opened.database.close()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory, opener: Any) -> Iterator[TwoProcesses]:
    both = TwoProcesses(tmp_path_factory.mktemp("model") / "lab.kalam", opener)
    yield both
    both.close()


class TableModel(RuleBasedStateMachine):
    """Rows are dictionaries by column number; column 0 is the key."""

    processes: TwoProcesses

    def __init__(self) -> None:
        super().__init__()
        self.table = f"t{next(self.processes.numbers)}"
        self.turn = 0
        self.columns: dict[int, list[Any]] = {1: ["a", "INT", 7], 2: ["b", "TEXT", None]}
        """Number to name, type and default."""
        self.rows: dict[str, dict[int, dict[int, Any]]] = {user: {} for user in USERS}
        self.gone: dict[str, list[dict[int, Any]]] = {user: [] for user in USERS}
        self.root(0).execute(
            f"CREATE USER TABLE {self.table} (id INT PRIMARY KEY, a INT DEFAULT 7, b TEXT)"
        )

    def root(self, side: int) -> Session:
        return self.processes.root(side)

    def session(self, side: int, user: str) -> Session:
        return self.processes.opened[side].session(user, "default")

    def value(self, data: Any, column: int) -> Any:
        if self.columns[column][1] == "TEXT":
            return data.draw(st.sampled_from(["x", "1", "22", "", "-3", "007", None]))
        return data.draw(st.integers(-5, 5) | st.none())

    def some_columns(self, data: Any) -> list[int]:
        return data.draw(st.lists(st.sampled_from(list(self.columns)), unique=True))

    def new_rows(self, data: Any, keys: list[int], given: list[int]) -> list[dict[int, Any]]:
        defaults = {number: column[2] for number, column in self.columns.items()}
        drawn = [{number: self.value(data, number) for number in given} for _ in keys]
        return [{**defaults, 0: key, **row} for key, row in zip(keys, drawn, strict=True)]

    def named(self, numbers: list[int]) -> str:
        return ", ".join(["id", *(f'"{self.columns[number][0]}"' for number in numbers)])

    # --- writing ------------------------------------------------------------------------------

    @rule(data=st.data(), side=sides, user=users, keys=st.lists(ids, min_size=1, max_size=3),
          form=st.sampled_from(["", "ON CONFLICT DO NOTHING", "ON CONFLICT (id) DO UPDATE"]))  # fmt: skip
    def insert(self, data: Any, side: int, user: str, keys: list[int], form: str) -> None:
        given = self.some_columns(data)
        rows = self.new_rows(data, keys, given)
        row = f"({', '.join('?' * (len(given) + 1))})"
        sql = f"INSERT INTO {self.table} ({self.named(given)}) VALUES " + ", ".join(
            [row] * len(rows)
        )
        params = [values[number] for values in rows for number in (0, *given)]
        changed = None
        if form.endswith("UPDATE"):
            changed = data.draw(st.sampled_from(list(self.columns)))
            name = self.columns[changed][0]
            sql += f' {form} SET "{name}" = excluded."{name}"'
        else:
            sql += f" {form}"
        present = self.rows[user]
        expected = 0
        if form == "ON CONFLICT DO NOTHING":
            for values in rows:
                expected += values[0] not in present
                present.setdefault(values[0], values)
        elif len(set(keys)) < len(keys) or (not form and present.keys() & set(keys)):
            with pytest.raises(KalamError) as caught:
                self.session(side, user).execute(sql, params)
            assert caught.value.code == "DUPLICATE_KEY"
            return
        else:
            for values in rows:
                old = present.get(values[0])
                if old is None:
                    present[values[0]] = values
                    expected += 1
                else:
                    expected += old[changed] != values[changed]
                    present[values[0]] = {**old, changed: values[changed]}
        assert self.session(side, user).execute(sql, params).rows_affected == expected
        self.turn += 1

    @rule(data=st.data(), side=sides, user=users, first=st.integers(0, 30))
    def insert_many(self, data: Any, side: int, user: str, first: int) -> None:
        """Enough rows at once to become a segment without being hot."""
        keys = [first + 2 * step for step in range(6)]
        given = self.some_columns(data)
        rows = self.new_rows(data, keys, given)
        frame: dict[str, Any] = {"ID": keys}
        for number in given:
            frame[self.columns[number][0]] = [values[number] for values in rows]
        if self.rows[user].keys() & set(keys):
            with pytest.raises(KalamError) as caught:
                self.session(side, user).insert(self.table, frame)
            assert caught.value.code == "DUPLICATE_KEY"
            return
        assert self.session(side, user).insert(self.table, frame).rows_affected == 6
        self.rows[user] |= {values[0]: values for values in rows}

    @rule(data=st.data(), side=sides, user=users, key=ids, form=st.sampled_from(["=", "<", ">="]))
    def update(self, data: Any, side: int, user: str, key: int, form: str) -> None:
        column = data.draw(st.sampled_from(list(self.columns)))
        name, kind, _ = self.columns[column]
        add = kind in NUMBERS and data.draw(st.booleans())
        value = None if add else self.value(data, column)
        expression = f'"{name}" + 1' if add else "?"
        sql = f'UPDATE {self.table} SET "{name}" = {expression} WHERE id {form} ?'
        expected = 0
        for row in self.matching(user, key, form):
            new = value if not add else None if row[column] is None else row[column] + 1
            expected += new != row[column]
            row[column] = new
        params = [key] if add else [value, key]
        assert self.session(side, user).execute(sql, params).rows_affected == expected

    @rule(side=sides, user=users, key=ids, form=st.sampled_from(["=", "<", ">="]))
    def delete(self, side: int, user: str, key: int, form: str) -> None:
        found = self.matching(user, key, form)
        sql = f"DELETE FROM {self.table} WHERE id {form} ? RETURNING id"
        answer = self.session(side, user).execute(sql, [key])
        assert sorted(answer.rows()) == sorted((row[0],) for row in found)
        for row in found:
            self.gone[user].append(self.rows[user].pop(row[0]))

    def matching(self, user: str, key: int, form: str) -> list[dict[int, Any]]:
        fits = {"=": int.__eq__, "<": int.__lt__, ">=": int.__ge__}[form]
        return [row for number, row in self.rows[user].items() if fits(number, key)]

    # --- columns ------------------------------------------------------------------------------

    def free_names(self) -> list[str]:
        return [name for name in NAMES if name not in {c[0] for c in self.columns.values()}]

    def every_row(self) -> list[dict[int, Any]]:
        live = [row for user in USERS for row in self.rows[user].values()]
        return [*live, *(row for user in USERS for row in self.gone[user])]

    def alter(self, side: int, action: str) -> None:
        self.root(side).execute(f"ALTER TABLE {self.table} {action}")

    @precondition(lambda self: len(self.columns) < 4)
    @rule(data=st.data(), side=sides, kind=st.sampled_from(["INT", "TEXT"]))
    def add_column(self, data: Any, side: int, kind: str) -> None:
        name = data.draw(st.sampled_from(self.free_names()))
        default = data.draw(st.none() | st.just(5 if kind == "INT" else "5"))
        said = "" if default is None else f" DEFAULT {default!r}"
        self.alter(side, f'ADD COLUMN "{name}" {kind}{said}')
        number = max((*self.columns, *(n for row in self.every_row() for n in row), 2)) + 1
        self.columns[number] = [name, kind, default]
        for row in self.every_row():
            row[number] = default

    @precondition(lambda self: len(self.columns) > 1)
    @rule(data=st.data(), side=sides)
    def drop_column(self, data: Any, side: int) -> None:
        number = data.draw(st.sampled_from(list(self.columns)))
        self.alter(side, f'DROP COLUMN "{self.columns.pop(number)[0]}"')

    @rule(data=st.data(), side=sides)
    def rename_column(self, data: Any, side: int) -> None:
        number = data.draw(st.sampled_from(list(self.columns)))
        name = data.draw(st.sampled_from(self.free_names()))
        self.alter(side, f'RENAME COLUMN "{self.columns[number][0]}" TO "{name}"')
        self.columns[number][0] = name

    @rule(data=st.data(), side=sides, kind=st.sampled_from(["INT", "BIGINT", "TEXT"]))
    def modify_column(self, data: Any, side: int, kind: str) -> None:
        number = data.draw(st.sampled_from(list(self.columns)))
        name, old, _ = column = self.columns[number]
        default = "q" if kind == "TEXT" else 6
        values = [row[number] for row in self.every_row() if row[number] is not None]
        action = f'MODIFY COLUMN "{name}" {kind} DEFAULT {default!r}'
        if kind != "TEXT" and old == "TEXT" and not all(_is_plain(value) for value in values):
            with pytest.raises(KalamError, match="existing values do not fit"):
                self.alter(side, action)
            return
        self.alter(side, action)
        column[1:] = [kind, default]
        for row in self.every_row():
            if row[number] is not None:
                row[number] = str(row[number]) if kind == "TEXT" else int(row[number])

    # --- maintenance --------------------------------------------------------------------------

    @rule(side=sides, verb=st.sampled_from(["FLUSH", "FLUSH", "COMPACT"]))
    def maintain(self, side: int, verb: str) -> None:
        finished(self.root(side), f"STORAGE {verb} TABLE {self.table}")

    @rule(side=sides)
    def reopen(self, side: int) -> None:
        self.processes.reopen(side)

    @rule(seconds=st.integers(1, 5_000))
    def wait(self, seconds: int) -> None:
        self.processes.clock.advance(seconds)

    # --- what must hold -----------------------------------------------------------------------

    @invariant()
    def rows_are_those_of_the_model(self) -> None:
        self.turn += 1
        side, user = self.turn % 2, USERS[self.turn // 2 % 2]
        names = ["id", *(column[0] for column in self.columns.values())]
        session = self.session(side, user)
        want = sorted(tuple(row[n] for n in (0, *self.columns)) for row in self.live(user))
        answer = session.execute(f"SELECT * FROM {self.table} ORDER BY id")
        assert answer.columns == names
        assert answer.rows() == want
        listed = ", ".join(f'"{name}"' for name in names)
        gone = session.execute(f"SELECT {listed} FROM {self.table} WHERE _deleted")
        assert sorted(map(repr, gone)) == sorted(
            repr(tuple(row[n] for n in (0, *self.columns))) for row in self.gone[user]
        )
        count = session.execute(f"SELECT count(*) FROM {self.table}")
        assert count.rows() == [(len(want),)]
        for key in (self.turn % 9, (self.turn + 4) % 9):
            one = session.execute(f"SELECT * FROM {self.table} WHERE id = ?", [key])
            assert one.rows() == [row for row in want if row[0] == key]

    def live(self, user: str) -> list[dict[int, Any]]:
        return list(self.rows[user].values())


def _is_plain(text: str) -> bool:
    try:
        return str(int(text)) == text
    except ValueError:
        return False


@pytest.mark.slow
def test_a_table_is_what_its_history_says(processes: TwoProcesses) -> None:
    class Model(TableModel):
        pass

    Model.processes = processes
    run_state_machine_as_test(
        Model,
        settings=settings(
            max_examples=20,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
