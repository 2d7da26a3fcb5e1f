"""Users and databases by name."""

from __future__ import annotations

import pytest

from tests.notebook.conftest import Kernel


def rows(kernel: Kernel, line: str) -> object:
    kernel.show(f"answer = %kalam {line}")
    return kernel.value("answer.rows()")


@pytest.fixture(scope="module")
def two(kernel: Kernel) -> Kernel:
    said = kernel.show("%kalam open lab.kalam --user mia --namespace studio --name mia")
    assert said.text == "mia: mia in studio · lab.kalam"
    kernel.show("%kalam INSERT INTO tracks VALUES (1, 'of Mia', 60, 1)")
    kernel.show("path = __import__('pathlib').Path('other.kalam')")
    assert kernel.show("%kalam open {{path}}").text == "other: root in default · other.kalam · new"
    kernel.show("%kalam @lab")
    return kernel


def test_a_cell_runs_on_the_connection_it_names(two: Kernel) -> None:
    cell = two.show("%%kalam @mia\nSELECT title FROM studio.tracks")
    assert " of Mia\n1 row" in cell.text
    assert cell.text.endswith("mia @mia")
    assert rows(two, "SELECT title FROM tracks WHERE id = 1") == [("Dawn",)]
    assert rows(two, "@mia SELECT CURRENT_USER()") == [("mia",)]
    assert two.fails("%%kalam @other\nSELECT * FROM studio.tracks")[0].startswith("NotFoundError")


def test_at_alone_changes_the_current_one(two: Kernel) -> None:
    assert two.show("%kalam @mia").text == "mia: mia in studio · lab.kalam"
    assert rows(two, "SELECT CURRENT_USER()") == [("mia",)]
    assert "lab" in two.show("%kalam @lab").text
    assert two.fails("%kalam @mai")[0] == (
        "NotFoundError: Connection 'mai' not found; did you mean 'mia'?"
    )


def test_connections_are_listed(two: Kernel) -> None:
    for command in ("connections", "status", ""):
        text = two.show(f"%kalam {command}").text
        assert [line.split() for line in text.splitlines()[2:]] == [
            ["lab", "true", "root", "system", "studio", "lab.kalam"],
            ["mia", "false", "mia", "user", "studio", "lab.kalam"],
            ["other", "false", "root", "system", "default", "other.kalam"],
            ["3", "rows"],
        ]


def test_tables_are_listed(two: Kernel) -> None:
    assert "tracks" in two.show("%kalam tables").text
    assert "tracks" in two.show("%kalam tables studio").text
    assert "no rows" in two.show("%kalam tables default").text
    assert two.fails("%kalam tables nowhere")[0] == "NotFoundError: Namespace 'nowhere' not found"


def test_no_value_of_a_command_is_run(two: Kernel) -> None:
    two.show("name = 'studio; DROP TABLE tracks'")
    assert two.fails("%kalam tables {{name}}")[0] == (
        "NotFoundError: Namespace 'studio; drop table tracks' not found"
    )
    assert "tracks" in two.show("%kalam tables {{name[:6]}}").text


def test_as_runs_one_cell_as_another_where_the_role_may(two: Kernel) -> None:
    cell = two.show("%%kalam --as mia\nSELECT title, CURRENT_USER() AS me FROM tracks")
    assert " of Mia mia" in cell.text
    assert cell.text.endswith("root as mia @lab")
    assert rows(two, "SELECT CURRENT_USER()") == [("root",)]
    two.show("who = 'mia'")
    assert rows(two, "--as {{who}} SELECT CURRENT_USER()") == [("mia",)]
    assert two.fails("%%kalam @mia --as tom\nSELECT 1")[0] == (
        "PermissionDeniedError: Permission denied: 'mia' may not execute as user 'tom'"
    )


def test_as_keeps_the_cap_honest(two: Kernel) -> None:
    two.show("%config KalamMagic.display_limit = 2")
    try:
        cell = two.show("%%kalam --as mia\nSELECT range FROM range(5)")
        assert "showing 2 of 5 rows" in cell.html
    finally:
        two.show("%config KalamMagic.display_limit = 1000")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("nowhere/x.kalam", "StorageError: 'nowhere/x.kalam' cannot be created"),
        ("lab.kalam --user nobody", "NotFoundError: User 'nobody' not found"),
        ("lab.kalam --namespace nowhere", "NotFoundError: Namespace 'nowhere' not found"),
    ],
)
def test_what_cannot_be_opened_leaves_all_as_it_was(two: Kernel, line: str, error: str) -> None:
    assert two.fails(f"%kalam open {line}")[0].startswith(error)
    assert rows(two, "SELECT CURRENT_USER()") == [("root",)]


def test_opening_again_under_a_name_takes_the_place_of_the_former(two: Kernel) -> None:
    two.show(
        "%kalam open lab.kalam --user tom --name who\n%kalam open lab.kalam --user mia --name who"
    )
    assert rows(two, "SELECT CURRENT_USER()") == [("mia",)]
    assert two.show("%kalam close").text == "who is closed"
    two.show("%kalam @lab")


def test_closing_ends_the_connection(two: Kernel) -> None:
    two.show("%kalam open lab.kalam --user tom --name tom")
    assert two.show("%kalam close tom").text == "tom is closed"
    assert two.fails("%%kalam @tom\nSELECT 1")[0].startswith("NotFoundError: Connection 'tom'")


def test_without_a_database_the_way_out_is_said(bare_kernel: Kernel, two: Kernel) -> None:
    for _ in range(3):
        two.show("%kalam close")
    assert two.fails("%%kalam\nSELECT 1")[0] == (
        "ClosedError: No database is open; use %kalam open PATH"
    )
    assert two.show("%kalam").text == "No database is open · %kalam open PATH opens one"
