"""Lets ``pytest benchmarks`` import the package of the same name, whatever it is started as."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
