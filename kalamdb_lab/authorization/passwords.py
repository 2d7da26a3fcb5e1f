"""Passwords: kept as salted Argon2id hashes, checked in about the same time whoever asks."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from kalamdb_lab.errors import InvalidValueError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SHORTEST: Final = 8
LONGEST: Final = 1_024

_DUMMY: Final = (
    "$argon2id$v=19$m=65536,t=3,p=4$c29tZSBzYWx0IG9mIG5vYm9keQ$"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)
"""The hash of no password, with the costs of the others."""


def hashed(password: str) -> str:
    """Return what is kept of a new password.

    Raises
    ------
    InvalidValueError
        If it is too short or too long.
    """
    if len(password) < SHORTEST:
        raise InvalidValueError(f"The password must have at least {SHORTEST} characters")
    if len(password) > LONGEST:
        raise InvalidValueError(f"The password must have at most {LONGEST:,} characters")
    return _hasher().hash(password)


def is_right(password_hash: str | None, password: str) -> bool:
    """Return whether this is the password of a hash; of None it never is.

    That takes as long: nobody learns from the time whether a user exists or has a password.
    """
    from argon2.exceptions import Argon2Error, InvalidHashError

    given = password[: LONGEST + 1].encode("utf-8", "replace")
    try:
        _hasher().verify(password_hash or _DUMMY, given)
    except (Argon2Error, InvalidHashError):
        return False
    return password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Return whether a hash was made with other costs than new ones are."""
    return _hasher().check_needs_rehash(password_hash)


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    # The second choice of RFC 9106: 64 MiB and three passes, some 50 ms.
    return PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=4, hash_len=32, salt_len=16)
