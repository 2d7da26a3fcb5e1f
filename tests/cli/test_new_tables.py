"""`kalam import --create`: no value of a text file is changed by the type of its column."""

from __future__ import annotations

from pathlib import Path

import kalamdb_lab as kalam


def rows_of(path: str, table: str, order: str) -> list[str]:
    with kalam.open(path) as db:
        return [
            repr(row) for row in db.session().execute(f"SELECT * FROM {table} ORDER BY {order}")
        ]


def test_a_new_table_keeps_all_digits(run, lab: str) -> None:
    Path("n.jsonl").write_text(
        '{"huge": 12345678901234567890, "mixed": 9007199254740993, "sure": 9007199254740993}\n'
        '{"huge": 1, "mixed": 0.5, "sure": null}\n'
    )
    Path("n.csv").write_text(
        "huge,mixed,sure\n12345678901234567890,9007199254740993,9007199254740993\n1,0.5,\n"
    )
    for file in ("n.jsonl", "n.csv"):
        assert run("import", lab, "n", file, "--create").exit_code == 0
        assert rows_of(lab, "n", "huge") == [
            "('1', '0.5', None)",
            "('12345678901234567890', '9007199254740993', 9007199254740993)",
        ]
        run("sql", lab, "DROP TABLE n")


def test_register_and_import_find_the_same_columns(run, lab: str) -> None:
    lines = ["zip,a,b,c,d,e", "007,1,2031-01-01,true,18:05,1e5", "1,x,2031-01-01 10:00,FALSE,,-2"]
    Path("n.csv").write_text("\n".join(lines))
    assert run("import", lab, "n", "n.csv", "--create").exit_code == 0
    place = Path("n.csv").resolve()
    with kalam.open(lab) as db:
        session = db.session()
        session.execute(f"REGISTER TABLE r FROM '{place}'")
        assert session.execute("DESCRIBE r").rows() == session.execute("DESCRIBE n").rows()
    assert rows_of(lab, "r", "zip") == rows_of(lab, "n", "zip")


def test_columns_without_a_name_are_refused_in_words(run, lab: str) -> None:
    Path("n.csv").write_text(",a\n0,1\n")
    done = run("import", lab, "n", "n.csv", "--create")
    assert (done.exit_code, done.stderr) == (
        1,
        "[INVALID_DEFINITION] n.csv: A column of the file has no name\n",
    )
    Path("n.csv").write_text("id,a\n0,1\n")
    assert run("import", lab, "n", "n.csv", "--create").exit_code == 0
