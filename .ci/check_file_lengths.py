"""Fail when a Python file grows beyond 400 lines: then it holds two things.

Usage: ``python .ci/check_file_lengths.py`` from the root of the checkout.
"""

from __future__ import annotations

import sys
from pathlib import Path

LIMIT_LINES = 400
FOLDERS = ("kalamdb_lab", "tests", "benchmarks", "datasets", ".ci")
EXCEPTIONS: dict[str, str] = {
    "tests/engine/test_rules_types.py": "one table of values and answers for each type",
    "tests/query/test_planner.py": "one table of statements and answers",
}
"""Path to the reason why that file stays whole."""


def main() -> int:
    """Return 1 if a file is too long without a reason, or a reason has no long file."""
    root = Path(__file__).parents[1]
    lengths = {
        path.relative_to(root).as_posix(): len(path.read_text("utf-8").splitlines())
        for folder in FOLDERS
        for path in (root / folder).rglob("*.py")
    }
    long = {path for path, lines in lengths.items() if lines > LIMIT_LINES}
    for path in sorted(long - EXCEPTIONS.keys()):
        print(f"{path} has {lengths[path]} lines; split it, or give a reason in EXCEPTIONS.")
    for path in sorted(EXCEPTIONS.keys() - long):
        print(f"{path} is excepted from the limit of {LIMIT_LINES} lines and does not need it.")
    return int(bool(long ^ EXCEPTIONS.keys()))


if __name__ == "__main__":
    sys.exit(main())
