"""A real IPython kernel, and a new folder and database in it for each test file."""

from __future__ import annotations

import ast
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Cell:
    """What came of a cell.

    Attributes
    ----------
    shown : list of (str, dict)
        Each output's display id and its newest data, as a page has it.
    updates : list of dict
        What came for displays that were there already.
    """

    status: str = ""
    shown: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    streams: str = ""
    error: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def data(self) -> list[dict[str, Any]]:
        """The outputs that are not empty in the end."""
        return [data for _, data in self.shown if any(data.values())]

    def add(self, content: dict[str, Any], *, is_update: bool) -> None:
        """Take an output, or a new state of one."""
        display_id = content.get("transient", {}).get("display_id", "")
        if is_update:
            self.updates.append(content["data"])
            self.shown = [
                (known, content["data"] if known == display_id else data)
                for known, data in self.shown
            ]
        else:
            self.shown.append((display_id, content["data"]))

    @property
    def text(self) -> str:
        return "\n".join(item["text/plain"] for item in self.data)

    @property
    def html(self) -> str:
        return "\n".join(item.get("text/html", "") for item in self.data)


class Kernel:
    """Runs cells, as a front end does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        folders = {
            name: str(directory / name.lower())
            for name in ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")
        }
        self._manager = KernelManager()
        self._manager.kernel_cmd = [
            sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}",
        ]  # fmt: skip
        environment = {
            key: item for key, item in os.environ.items() if key != "KALAMDB_LAB_TESTING"
        }
        self._manager.start_kernel(cwd=str(directory), env=environment | folders)
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)

    def send(self, code: str, *, store_history: bool = True) -> str:
        return str(self._client.execute(code, store_history=store_history))

    def run_cell(self, cell_id: str, code: str) -> Cell:
        """Run a cell that has an id, as JupyterLab and Notebook 7 tell it."""
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        session = self._client.session
        message = session.msg("execute_request", content, metadata={"cellId": cell_id})
        self._client.shell_channel.send(message)
        return self.answer(message["header"]["msg_id"])

    def interrupt(self) -> None:
        self._manager.interrupt_kernel()

    def answer(self, message_id: str, timeout_s: float = 60) -> Cell:
        cell, until = Cell(), time.monotonic() + timeout_s
        while True:
            message = self._client.get_iopub_msg(timeout=max(0.1, until - time.monotonic()))
            if message["parent_header"].get("msg_id") != message_id:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "execute_result" | "display_data":
                    cell.add(content, is_update=False)
                case "update_display_data":
                    cell.add(content, is_update=True)
                case "stream":
                    cell.streams += content["text"]
                case "error":
                    cell.error = [ANSI.sub("", line) for line in content["traceback"]]
                case "status" if content["execution_state"] == "idle":
                    break
        while True:
            reply = self._client.get_shell_msg(timeout=max(0.1, until - time.monotonic()))
            if reply["parent_header"].get("msg_id") == message_id:
                cell.status = reply["content"]["status"]
                return cell

    def run(self, code: str) -> Cell:
        started = time.monotonic()
        cell = self.answer(self.send(code))
        cell.elapsed_s = time.monotonic() - started
        return cell

    def show(self, code: str) -> Cell:
        """Run a cell that must succeed without noise."""
        cell = self.run(code)
        assert cell.status == "ok", "\n".join(cell.error)
        assert cell.streams == ""
        return cell

    def complete(self, code: str) -> list[str]:
        """Return what the Tab key offers where ``|`` stands."""
        at = code.index("|")
        message_id = self._client.complete(code[:at] + code[at + 1 :], at)
        while True:
            reply = self._client.get_shell_msg(timeout=30)
            if reply["parent_header"].get("msg_id") == message_id:
                return list(reply["content"]["matches"])

    def value(self, expression: str) -> Any:
        """Return the value of a Python expression whose repr is a literal."""
        return ast.literal_eval(self.show(expression).text)

    def fails(self, code: str) -> list[str]:
        """Run a cell that must fail, and return the lines of its error."""
        cell = self.run(code)
        assert cell.status == "error"
        assert cell.streams == ""
        return "\n".join(cell.error).splitlines()

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


@pytest.fixture(scope="session")
def started_kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    kernel.show("%load_ext kalamdb_lab")
    yield kernel
    kernel.close()


@pytest.fixture(scope="module")
def bare_kernel(
    started_kernel: Kernel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kernel]:
    """A kernel with the magic, in a folder of its own, where nothing is open."""
    started_kernel.directory = tmp_path_factory.mktemp("folder")
    started_kernel.show(f"import os; os.chdir({str(started_kernel.directory)!r})")
    yield started_kernel
    started_kernel.show("%reload_ext kalamdb_lab")


@pytest.fixture(scope="module")
def kernel(bare_kernel: Kernel) -> Kernel:
    """A new database, ``lab``, of root and the users mia and tom."""
    bare_kernel.show("%kalam open lab.kalam")
    bare_kernel.show(
        """%%kalam
        CREATE NAMESPACE studio;
        USE studio;
        CREATE USER 'mia' INTERNAL ROLE user;
        CREATE USER 'tom' INTERNAL ROLE user;
        CREATE USER TABLE tracks (id BIGINT PRIMARY KEY, title TEXT, seconds INT, score DOUBLE);
        CREATE SHARED TABLE numbers (n BIGINT PRIMARY KEY) WITH (ACCESS_LEVEL = 'PUBLIC');
        INSERT INTO numbers SELECT range FROM range(1500);
        INSERT INTO tracks VALUES (1, 'Dawn', 700, 0.5), (2, 'Hill', 180, NULL)"""
    )
    return bare_kernel
