"""The demo's own judgement: it must notice a wrong answer, and say why it cannot start."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from kalamdb_lab.demo.__main__ import main
from kalamdb_lab.demo.questions import QUESTIONS, same_answers


def test_there_are_ten_questions() -> None:
    assert len({question.title for question in QUESTIONS}) == 10


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([("EWR", 1.0), (None, 2)], [("EWR", 1.0 + 1e-12), (None, Decimal(2))]),
        ([], []),
    ],
)
def test_equal_answers_agree(
    left: list[tuple[object, ...]], right: list[tuple[object, ...]]
) -> None:
    assert same_answers(left, right)


@pytest.mark.parametrize(
    "right",
    [[("EWR", 1.0001)], [("JFK", 1.0)], [("EWR", None)], [("EWR",)], [], [("EWR", 1.0)] * 2],
)
def test_different_answers_do_not_agree(right: list[tuple[object, ...]]) -> None:
    assert not same_answers([("EWR", 1.0)], right)


def test_demo_without_data_says_where_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path)]) == 2
    assert "part of the source checkout" in " ".join(capsys.readouterr().out.split())


def test_demo_never_writes_into_an_existing_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert "exists; name a new directory" in " ".join(capsys.readouterr().out.split())
    assert list(tmp_path.iterdir()) == []
