"""What do `import kalamdb_lab` and `%load_ext kalamdb_lab` cost in a new process?

Sketch: the package itself loads its errors and the clock, a dozen small modules: 10 ms. ibis,
pandas, pyarrow and DuckDB take 0.1 to 1 s each, so they must wait for the first `open`. The
extension loads the magics, which need IPython (there already).
Data: none; each sample is a process of its own, timed from within, bytecode already written.
Peers: none; `import duckdb` for scale.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Budget, Figure, Finding, Samples, Scale, Skipped, pooled

HEAVY = ("duckdb", "ibis", "pandas")
_TIMED = """
import json, sys, time
{before}
wall, cpu = time.perf_counter(), time.process_time()
{timed}
took = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps([*took, [name for name in {heavy!r} if name in sys.modules]]))
"""
_SHELL = (
    "from IPython.core.interactiveshell import InteractiveShell\n"
    "shell = InteractiveShell.instance()"
)


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Load the package in processes of their own, in turns with a peer."""
    cases = {
        "package": ("", "import kalamdb_lab"),
        "duckdb": ("", "import duckdb"),
        "open": ("", f"import kalamdb_lab; kalamdb_lab.open({str(folder / 'new.kalam')!r})"),
    }
    has_shell = importlib.util.find_spec("IPython") is not None
    if has_shell:
        cases["extension"] = (_SHELL, "shell.run_line_magic('load_ext', 'kalamdb_lab')")
    taken: dict[str, list[Samples]] = {name: [] for name in cases}
    loaded: dict[str, list[str]] = {}
    for number in range(1 + scale.of(1, 15)):
        for name, (before, text) in cases.items():
            samples, loaded[name] = _in_new_process(before, text)
            if number:  # the first one may still write bytecode
                taken[name].append(samples)
    assert loaded["package"] == [], f"import kalamdb_lab loads {loaded['package']}"
    found: list[Finding] = [
        Figure(
            "import kalamdb_lab",
            pooled(taken["package"]),
            "import duckdb",
            pooled(taken["duckdb"]),
            Budget("ms", 60),
            f"loads none of {', '.join(HEAVY)}",
        ),
        Figure("import and open a database, in all", pooled(taken["open"])),
    ]
    if has_shell:
        also = ", ".join(loaded["extension"]) or f"none of {', '.join(HEAVY)}"
        found.append(
            Figure(
                "%load_ext kalamdb_lab",
                pooled(taken["extension"]),
                budget=Budget("ms", 300),
                note=f"loads {also}",
            )
        )
    else:
        found.append(Skipped("%load_ext kalamdb_lab", "IPython is not installed here"))
    return found


def _in_new_process(before: str, text: str) -> tuple[Samples, list[str]]:
    code = _TIMED.format(before=before, timed=text, heavy=HEAVY)
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    wall_s, cpu_s, loaded = json.loads(done.stdout.splitlines()[-1])
    return Samples((wall_s,), (cpu_s,)), loaded


def test_importing_the_package_loads_nothing_heavy(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
