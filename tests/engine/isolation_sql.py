"""Random statements over the tables of the isolation test: sensible ones, refused ones, faulty ones.

Everything they answer is determined by the rows they may see: no order, no ids, no clock.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

SCHEMA = """
CREATE NAMESPACE lab; USE lab;
CREATE USER TABLE notes (id INT PRIMARY KEY, v TEXT, n INT);
CREATE STREAM TABLE plays (id INT PRIMARY KEY, v TEXT, n INT) WITH (TTL_SECONDS = 1000);
CREATE TABLE genres (id INT PRIMARY KEY, v TEXT, n INT) WITH (ACCESS_LEVEL = 'PUBLIC');
CREATE TABLE plans (id INT PRIMARY KEY, v TEXT, n INT);
CREATE VIEW my AS SELECT id, v, n FROM notes WHERE n IS NOT NULL;
CREATE VIEW bin AS SELECT id, v, n FROM notes WHERE _deleted;
CREATE VIEW deep AS SELECT m.id, m.v, g.n FROM my m LEFT JOIN genres g ON g.id = m.id;
CREATE VIEW closed AS SELECT * FROM plans;
CREATE VIEW people AS SELECT 1 AS id, user_id AS v, 2 AS n FROM system.users;
"""

small = st.integers(0, 6)
open_sources = st.sampled_from(
    ["notes", "notes", "lab.notes", "plays", "genres", "my", "bin", "deep"]
)
closed_sources = st.sampled_from(
    ["plans", "closed", "people", "all_users('notes')", "all_users('lab.plays')", "system.users"]
)
sources = st.integers(0, 19).flatmap(lambda i: closed_sources if i == 13 else open_sources)


def texts(alias: str, depth: int = 1) -> SearchStrategy[str]:
    """Return expressions of type TEXT over one alias."""
    plain = st.sampled_from(
        [
            f"{alias}.v",
            f"upper({alias}.v)",
            f"{alias}.v || '-' || {alias}.n",
            f"coalesce({alias}.v, CURRENT_USER())",
            f"CASE WHEN {alias}.n > 3 THEN {alias}.v END",
            f"CAST({alias}.id AS TEXT)",
            "'plain'",
            "NULL",
        ]
    )
    if not depth:
        return plain
    return plain | st.builds(
        lambda source, what, where: f"(SELECT {what} FROM {source} y WHERE {where})",
        sources,
        st.sampled_from(["max(y.v)", "min(y.v)", "CAST(count(*) AS TEXT)"]),
        conditions("y", 0) | st.just(f"y.id = {alias}.id"),
    )


def conditions(alias: str, depth: int = 1) -> SearchStrategy[str]:
    """Return conditions over one alias; some fail on the values they meet."""
    plain = st.builds(
        lambda pattern, k: pattern.format(a=alias, k=k),
        st.sampled_from(
            [
                "true",
                "{a}.id = {k}",
                "{a}.id <> {k}",
                "{a}.n > {k}",
                "{a}.n IS NULL",
                "{a}.v LIKE '%{k}%'",
                "{a}.v < 'm'",
                "10 / ({a}.n - {k}) > 1",
                "{a}.v LIKE '%x' OR {a}.n = {k}",
                "CAST({a}.v AS INT) > {k}",
                "{a}._deleted",
                "NOT {a}._deleted AND {a}.id > {k}",
                "{a}.v = CURRENT_USER()",
            ]
        ),
        small,
    )
    if not depth:
        return plain
    nested = st.builds(
        lambda source, inner, form: form.format(a=alias, s=source, c=inner),
        sources,
        conditions("z", 0),
        st.sampled_from(
            [
                "EXISTS (SELECT 1 FROM {s} z WHERE z.id = {a}.id AND {c})",
                "{a}.id IN (SELECT z.id FROM {s} z WHERE {c})",
                "{a}.v NOT IN (SELECT z.v FROM {s} z WHERE {c})",
                "{a}.n >= (SELECT max(z.n) FROM {s} z WHERE {c})",
            ]
        ),
    )
    both = st.builds(
        lambda x, op, y: f"({x} {op} {y})", plain, st.sampled_from(["AND", "OR"]), plain
    )
    return plain | plain | both | nested


def _select(source: str, text: str, where: str, tail: str) -> str:
    return f"SELECT a.id, {text} AS t FROM {source} a WHERE {where} {tail}"


def _joined(left: str, kind: str, right: str, on: str, text: str, where: str) -> str:
    return (
        f"SELECT a.id, b.id, {text}, b.v FROM {left} a {kind} JOIN {right} b ON {on} WHERE {where}"
    )


selects = st.builds(
    _select,
    sources,
    texts("a"),
    conditions("a"),
    st.sampled_from(["", "", "ORDER BY 1, 2 LIMIT 2", "ORDER BY 2 DESC, 1 LIMIT 3 OFFSET 1"]),
)
queries: SearchStrategy[str] = st.one_of(
    selects,
    selects,
    st.builds(
        _joined,
        sources,
        st.sampled_from(["INNER", "LEFT", "RIGHT", "FULL"]),
        sources,
        st.sampled_from(["a.id = b.id", "a.n = b.n", "a.v <> b.v", "true"]),
        texts("a", 0),
        conditions("a"),
    ),
    st.builds(
        lambda one, op, two: f"{one} {op} {two}",
        st.builds(_select, sources, texts("a", 0), conditions("a"), st.just("")),
        st.sampled_from(["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]),
        st.builds(_select, sources, texts("a", 0), conditions("a"), st.just("")),
    ),
    st.builds(
        lambda source, text, where, other: (
            f"WITH notes AS (SELECT a.id, {text} AS v, a.n FROM {source} a WHERE {where}) "
            f"SELECT c.id, c.v, d.v FROM notes c LEFT JOIN {other} d ON c.id = d.id"
        ),
        sources,
        texts("a", 0),
        conditions("a"),
        sources,
    ),
    st.builds(
        lambda source, where: (
            f"SELECT a.n, count(*), max(a.v), list(a.v ORDER BY a.v), sum(a.id) FROM {source} a "
            f"WHERE {where} GROUP BY a.n HAVING count(*) > 0"
        ),
        sources,
        conditions("a"),
    ),
    st.builds(
        lambda source, where: (
            f"SELECT a.id, count(*) OVER (), max(a.v) OVER (PARTITION BY a.n) FROM {source} a "
            f"WHERE {where}"
        ),
        sources,
        conditions("a"),
    ),
    st.builds(
        lambda source, what: f"SELECT {what} FROM {source}",
        sources,
        st.sampled_from(["count(*)", "count(*), max(n), min(id)", "*", "max(v)", "gone", "v.v"]),
    ),
    st.builds(lambda source, k: f"SELECT * FROM {source} WHERE id = {k}", sources, small),
)

_RETURNING = [
    "",
    " RETURNING id, v",
    " RETURNING *, _deleted",
    " RETURNING (SELECT max(v) FROM my)",
]


def writes(mark: str) -> SearchStrategy[str]:
    """Return statements that write; ``mark`` stands in the values they put in."""
    returning = st.sampled_from(_RETURNING)
    targets = st.sampled_from(["notes"] * 8 + ["plays", "plays", "genres", "plans", "my"])
    return st.one_of(
        st.builds(
            lambda target, k, n, value, conflict, back: (
                f"INSERT INTO {target} VALUES ({k}, {value}, {n}){conflict}{back}"
            ),
            targets,
            small,
            small,
            st.sampled_from([f"'{mark}'", "(SELECT max(v) FROM notes)", "CURRENT_USER()"])
            | sources.map(lambda source: f"(SELECT min(v) FROM {source})"),
            st.sampled_from(
                [
                    "",
                    " ON CONFLICT DO NOTHING",
                    " ON CONFLICT (id) DO UPDATE SET v = excluded.v || notes.v",
                    " ON CONFLICT (id) DO UPDATE SET n = notes.n + 1 WHERE 10 / notes.n > 1",
                    " ON CONFLICT (id) DO UPDATE SET v = (SELECT max(v) FROM deep)",
                ]
            ),
            returning,
        ),
        st.builds(
            lambda k, text, source, where: (
                f"INSERT INTO notes SELECT a.id + {k * 10}, {text}, a.n FROM {source} a "
                f"WHERE {where}"
            ),
            small,
            texts("a"),
            st.sampled_from(["notes", "notes", "my", "plays", "genres", "deep", "plans"]),
            conditions("a"),
        ),
        st.builds(
            lambda text, where, back: f"UPDATE notes SET v = {text}, n = n + 1 WHERE {where}{back}",
            texts("notes"),
            conditions("notes"),
            returning,
        ),
        st.builds(
            lambda target, where, back: f"DELETE FROM {target} AS x WHERE {where}{back}",
            targets,
            conditions("x"),
            returning,
        ),
    )


asking = st.sampled_from(
    ["SHOW TABLES", "SHOW NAMESPACES", "DESCRIBE notes", "SHOW USERS", "SHOW MANIFEST FOR TABLE plans",
     "SHOW STATS FOR TABLE plans", "STORAGE FLUSH TABLE notes", "ALTER TABLE notes DROP COLUMN v"]
)  # fmt: skip


def statements(mark: str, other: str) -> SearchStrategy[str]:
    """Return any statement; ``other`` is a user whom nobody below service may act as."""
    change = writes(mark)
    kinds = [
        *[queries] * 4,
        *[change] * 5,
        queries.map(lambda sql: f"EXPLAIN {sql}"),
        change.map(lambda sql: f"EXPLAIN {sql}"),
        queries.map(lambda sql: f"EXECUTE AS USER '{other}' ({sql})"),
        change.map(lambda sql: f"EXECUTE AS USER '{other}' ({sql})"),
        asking,
    ]
    # Drawn by number, not with one_of: that one would favour kinds with many forms.
    return st.integers(0, len(kinds) - 1).flatmap(kinds.__getitem__)
