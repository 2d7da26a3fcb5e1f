"""Runs the questions and writes ``results/<date>.json`` and ``results/<date>.md``.

Usage: ``python -m benchmarks [--only NAME ...] [--small | --full] [--page FILE]``. With
``--only``, the other questions of that date keep their results, so a peer that needs another
environment is measured there and joins the same file.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import report
from benchmarks.measure import Scale

HERE = Path(__file__).parent
NAMES = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def main() -> int:
    """Run what was asked for; the exit status says whether every answer was right."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=NAMES, metavar="NAME", default=NAMES)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", action="store_true", help="small data, no results written")
    size.add_argument("--full", action="store_true", help="10,000 users; takes minutes more")
    parser.add_argument("--folder", type=Path, help="make the data here and not in the system's")
    parser.add_argument("--page", type=Path, help="a page whose tables become these results")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where to write")
    given = parser.parse_args()
    scale = Scale.SMALL if given.small else Scale.FULL if given.full else Scale.STANDARD
    path = given.results / f"{datetime.now(UTC):%Y-%m-%d}.json"
    results = report.stored(path)
    wrong = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=given.folder) as fresh:
        for name in given.only:
            module = importlib.import_module(f"benchmarks.bench_{name}")
            load = report.load_average()
            print(f"{name} ...", end=" ", flush=True)
            started = time.perf_counter()
            try:
                # One folder for all: what one question made, another one may read.
                findings = module.measure(scale, Path(fresh))
            except AssertionError as error:
                wrong.append(name)
                print(f"WRONG ANSWER {error}")
                continue
            took_s = time.perf_counter() - started
            print(f"{took_s:.0f} s", flush=True)
            entry = report.entry(module, findings, scale.name.lower(), took_s)
            entry["load_average_before"] = load
            results["questions"][name] = entry
            print(report.markdown({"questions": {name: entry}}), flush=True)
            if scale is not Scale.SMALL:
                report.store(path, results)
                text = report.markdown(results)
                path.with_suffix(".md").write_text(text, encoding="utf-8")
    if given.page is not None:
        report.put_into(given.page, report.markdown(results))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
