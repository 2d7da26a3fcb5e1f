"""What holds for tests and notebooks alike."""

from __future__ import annotations

import os

# Kernels inherit it: outputs that are compared must not say how long something took.
os.environ.setdefault("KALAMDB_LAB_TESTING", "1")
