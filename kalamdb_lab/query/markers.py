"""What stands in a generated text for a relation of a statement."""

from __future__ import annotations

import secrets

from sqlglot import exp


def new_marker() -> str:
    """Return a name that nobody can guess."""
    return f"__k_{secrets.token_hex(8)}"


def marker_table(marker: str) -> exp.Table:
    """Return the reference to a registered marker, which nothing a user writes can shadow."""
    return exp.Table(
        this=exp.to_identifier(marker, quoted=True),
        db=exp.to_identifier("main"),
        catalog=exp.to_identifier("temp"),
    )


def marker_sql(marker: str) -> str:
    """Return how `marker_table` prints."""
    return f'"temp"."main"."{marker}"'
