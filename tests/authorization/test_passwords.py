"""Passwords as they are kept: slow salted hashes, and no telling who has one."""

from __future__ import annotations

import time

import pytest

from kalamdb_lab.authorization.passwords import hashed, is_outdated, is_right
from kalamdb_lab.errors import InvalidValueError


def test_a_hash_is_argon2id_with_a_salt_and_fits_its_password_only() -> None:
    first, second = hashed("correct horse"), hashed("correct horse")
    assert first.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert first != second
    assert is_right(first, "correct horse")
    assert is_right(second, "correct horse")
    assert not is_outdated(first)
    for wrong in ("Correct horse", "correct horse ", "", "\ud800"):
        assert not is_right(first, wrong)
    assert is_outdated("$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$" + "A" * 43)


def test_who_has_no_password_has_no_right_one_and_takes_as_long() -> None:
    kept = hashed("correct horse")

    def seconds(password_hash: str | None) -> float:
        best = 1e9
        for _ in range(3):
            started = time.perf_counter()
            assert not is_right(password_hash, "wrong horse")
            best = min(best, time.perf_counter() - started)
        return best

    with_password, without = seconds(kept), seconds(None)
    assert 0.3 < without / with_password < 3


@pytest.mark.parametrize(
    ("password", "message"),
    [
        ("", "The password must have at least 8 characters"),
        ("1234567", "The password must have at least 8 characters"),
        ("x" * 1_025, "The password must have at most 1,024 characters"),
    ],
)
def test_a_password_has_8_to_1024_characters(password: str, message: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        hashed(password)
    assert str(caught.value) == message


def test_the_shortest_and_the_longest_work() -> None:
    for password in ("12345678", "é" * 8, "x" * 1_024):
        assert is_right(hashed(password), password)
