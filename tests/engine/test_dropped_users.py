"""What those who were dropped can do with what they had opened: nothing, and nothing stays open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from audit_trail import Trail

import kalamdb_lab as kalam
from kalamdb_lab.errors import NotFoundError, UserDroppedError

PASSWORD = "long enough"


def test_a_dba_who_was_dropped_copies_no_database(fresh: Any, tmp_path: Path) -> None:
    root = fresh.session()
    root.execute(f"CREATE USER 'dan' WITH PASSWORD '{PASSWORD}' ROLE dba")
    path = fresh.database.path
    with kalam.open(path, clock=fresh.clock, user="dan", password=PASSWORD) as dans:
        dans.backup(tmp_path / "before")
        root.execute("DROP USER 'dan'")
        trail = Trail(root)
        with pytest.raises(UserDroppedError, match="^User 'dan' was dropped$"):
            dans.backup(tmp_path / "after")
    assert not (tmp_path / "after").exists()
    assert trail.said() == [("BACKUP", "*", "failed")]
    with (
        kalam.open(path, clock=fresh.clock, user="nobody") as nobodys,
        pytest.raises(NotFoundError),
    ):
        nobodys.backup(tmp_path / "after")


def test_a_copy_is_audited_as_what_asked_for_it(fresh: Any, tmp_path: Path) -> None:
    trail = Trail(fresh.session())
    fresh.database.backup(tmp_path / "one")
    fresh.database.backup(tmp_path / "two", origin="cli")
    one, two = (row.details for row in trail.new())
    assert (one["origin"], two["origin"]) == ("session", "cli")
    assert one["request_id"]
    assert one["request_id"] != two["request_id"]


def test_the_transaction_of_a_dropped_user_is_rolled_back(fresh: Any) -> None:
    root, mia = fresh.session(), None
    root.execute("CREATE USER 'eva' INTERNAL ROLE user")
    mia = fresh.session("eva")
    mia.execute("BEGIN")
    root.execute("DROP USER 'eva'")
    assert mia.in_transaction
    with pytest.raises(UserDroppedError):
        mia.execute("ROLLBACK")
    assert not mia.in_transaction
