"""Results as a file of facts and as tables to read. They name no machine and no path."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.measure import Figure, Finding, Skipped

PACKAGES = (
    *("kalamdb-lab", "duckdb", "ibis-framework", "pyarrow", "sqlglot", "numpy", "numkong"),
    *("lancedb", "faiss-cpu", "zarr"),
)
BEGIN, END = "<!-- tables -->", "<!-- end of tables -->"
_PARTS = ("Sketch", "Data", "Peers")


def environment() -> dict[str, Any]:
    """Return what a reader must know to compare: cores, memory and versions."""
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "versions": versions,
    }


def load_average() -> float | None:
    """Return how many processes were running or waiting in the last minute, where it is told."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def entry(module: ModuleType, findings: list[Finding], scale: str, took_s: float) -> dict[str, Any]:
    """Return what one question's file says and what was found, ready for JSON."""
    question, parts = _described(module.__doc__ or "")
    return {
        "question": question,
        **parts,
        "scale": scale,
        "measured_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "took_s": round(took_s, 1),
        "load_average_before": None,
        "environment": environment(),
        "figures": [_figure(item) for item in findings if isinstance(item, Figure)],
        "skipped": [
            {"what": item.what, "reason": item.reason}
            for item in findings
            if isinstance(item, Skipped)
        ],
    }


def _described(text: str) -> tuple[str, dict[str, str]]:
    """Split the text at the head of a file: the question, and the parts that follow it."""
    question = ""
    parts: dict[str, str] = {}
    current = ""
    for line in text.strip().splitlines():
        head, colon, rest = line.partition(":")
        if colon and head in _PARTS:
            current = head.lower()
            parts[current] = rest.strip()
        elif current:
            parts[current] = f"{parts[current]} {line.strip()}".strip()
        else:
            question = f"{question} {line.strip()}".strip()
    return question, parts


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "what": figure.what,
        "ours_ms": _short(figure.ours.wall_ms),
        "ours_cpu_ms": _short(figure.ours.cpu_ms),
        "ours_best_ms": _short(figure.ours.best_ms),
        "samples": len(figure.ours.wall_s),
        "peer": figure.peer or None,
        "peer_ms": None if figure.theirs is None else _short(figure.theirs.wall_ms),
        "peer_cpu_ms": None if figure.theirs is None else _short(figure.theirs.cpu_ms),
        "peer_best_ms": None if figure.theirs is None else _short(figure.theirs.best_ms),
        "ratio": _short(figure.ratio()),
        "cpu_ratio": _short(figure.ratio(cpu=True)),
        "budget": None if figure.budget is None else str(figure.budget),
        "spent": _short(figure.spent()),
        "spent_cpu": _short(figure.spent(cpu=True)),
        "met": figure.is_met,
        "note": figure.note or None,
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def stored(path: Path) -> dict[str, Any]:
    """Return what a results file holds, or an empty one."""
    if not path.exists():
        return {"questions": {}}
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def store(path: Path, results: dict[str, Any]) -> None:
    """Write results, questions by name."""
    results["questions"] = dict(sorted(results["questions"].items()))
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def markdown(results: dict[str, Any]) -> str:
    """Return one table for each question."""
    lines: list[str] = []
    for name, one in results["questions"].items():
        lines += [f"### {one['question']}", "", f"`benchmarks/bench_{name}.py`. {one['data']}", ""]
        lines += [
            "| what | ours | best | peer | peer's | best | ratio | CPU ratio | budget | met |",
            "|---|---:|---:|---|---:|---:|---:|---:|---|---|",
        ]
        lines += [_row(figure) for figure in one["figures"]]
        lines.append("")
        notes = {
            f"{figure['what']}: {figure['note']}." for figure in one["figures"] if figure["note"]
        }
        lines += [f"- {note}" for note in sorted(notes)]
        lines += [f"- {item['what']} was left out: {item['reason']}." for item in one["skipped"]]
        at = one["environment"]
        versions = ", ".join(f"{key} {value}" for key, value in at["versions"].items())
        load = one["load_average_before"]
        busy = "" if load is None else f", load average {load} before"
        machine = f"{at['cores']} cores, {at['memory_gib']} GiB{busy}"
        lines += [f"- Measured {one['measured_at']} on {machine}: {versions}.", ""]
    return "\n".join(lines)


def put_into(page: Path, tables: str) -> None:
    """Replace the tables of a page, between its two marks, by new ones."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{tables}\n{END}{after}", encoding="utf-8")


def _row(figure: dict[str, Any]) -> str:
    met = {True: "yes", False: "**no**", None: ""}[figure["met"]]
    cells = [
        figure["what"],
        _time(figure["ours_ms"]),
        _time(figure.get("ours_best_ms")),
        figure["peer"] or "",
        _time(figure["peer_ms"]),
        _time(figure.get("peer_best_ms")),
        _times(figure["ratio"]),
        _times(figure["cpu_ratio"]),
        figure["budget"] or "",
        met,
    ]
    return "| " + " | ".join(cells) + " |"


def _time(milliseconds: float | None) -> str:
    if milliseconds is None:
        return ""
    if milliseconds < 0.01:
        return f"{milliseconds * 1_000:.2g} µs"
    if milliseconds < 1_000:
        return f"{milliseconds:.3g} ms"
    return f"{milliseconds / 1_000:.3g} s"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3g}x"
