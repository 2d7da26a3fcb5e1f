"""The ibis backend ``kalam``: ``ibis.kalam.connect("lab.kalam", user="alice")``.

ibis finds this module by its entry point and takes `Backend` from it. Importing `kalamdb_lab`
alone does not import it, nor ibis.
"""

from __future__ import annotations

from kalamdb_lab.ibis_backend.backend import Backend
from kalamdb_lab.ibis_backend.compiler import Kalam, KalamCompiler

__all__ = ["Backend", "Kalam", "KalamCompiler"]
