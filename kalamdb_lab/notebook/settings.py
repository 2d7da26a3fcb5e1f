"""Settings of the magic from the nearest ``pyproject.toml``."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from kalamdb_lab.errors import InvalidOptionError

TABLE = "tool.kalamdb_lab"


def project_settings(directory: Path, known: Collection[str]) -> dict[str, Any]:
    """Return what ``[tool.kalamdb_lab]`` says in the nearest ``pyproject.toml`` upwards.

    Raises
    ------
    InvalidOptionError
        The file is no TOML, or names a setting that is not ``known``.
    """
    for folder in (directory, *directory.parents):
        path = folder / "pyproject.toml"
        try:
            text = path.read_text(encoding="utf-8")
        except OSError:
            continue
        try:
            settings = tomllib.loads(text).get("tool", {}).get("kalamdb_lab", {})
        except tomllib.TOMLDecodeError as error:
            raise InvalidOptionError(f"pyproject.toml is not valid TOML: {error}") from None
        for name in settings:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise InvalidOptionError(f"[{TABLE}] has an unknown setting '{name}'{hint}")
        return dict(settings)
    return {}
