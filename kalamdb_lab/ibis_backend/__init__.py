"""The ibis backend ``kalam``: ``ibis.kalam.connect("lab.kalam", user="alice")``.

ibis finds this module by its entry point and takes `Backend` from it. Importing `kalamdb_lab`
alone does not import it, nor ibis.
"""

from __future__ import annotations

import warnings

from kalamdb_lab.ibis_backend.backend import Backend
from kalamdb_lab.ibis_backend.compiler import Kalam, KalamCompiler

# ibis 12 asks pandas 3 for this option whenever it hands out or takes in a dataframe.
warnings.filterwarnings(
    "ignore",
    message="The 'future.infer_string' option is deprecated",
    module=r"ibis\.formats\.pandas",
)

__all__ = ["Backend", "Kalam", "KalamCompiler"]
