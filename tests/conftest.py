"""What holds for all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# The machine may be busy, so an example has no deadline; CI tries the same examples every time.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
