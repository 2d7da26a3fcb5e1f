"""A real Jupyter server for tests: JupyterLab and Notebook 7 with all their folders in one place."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
PACKAGE = Path(__file__).parents[2] / "kalamdb_lab"
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {HOST}",  # no foreign host is ever reached
]

_SETTINGS = {
    # Cells out of sight stay in the page, so that a test can look at them.
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}


class JupyterServer:
    """A JupyterLab process, which serves Notebook 7 too, with all its folders in one place."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.folder = directory / "notebooks"
        """Where notebooks are, and the current directory of their kernels."""
        self.token = secrets.token_hex(16)
        self._log = directory / "server.log"
        self._write_files()
        self.folder.mkdir()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self.folder,
                env=self._environment(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.url = self._wait_for_url()

    def request(self, method: str, path: str) -> Any:
        """Ask the server's API, for example ``("GET", "api/sessions")``."""
        request = urllib.request.Request(
            f"{self.url}{path}", method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def shut_down_kernel(self, path: str) -> None:
        """End the kernel of the notebook ``path``, if it has one."""
        for session in self.request("GET", "api/sessions"):
            if session["path"] == path:
                self.request("DELETE", f"api/sessions/{session['id']}")

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _write_files(self) -> None:
        spec = self.directory / "share" / "kernels" / "python3" / "kernel.json"
        spec.parent.mkdir(parents=True)
        launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec.write_text(
            json.dumps({"argv": launch, "display_name": "Python 3", "language": "python"})
        )
        for plugin, settings in _SETTINGS.items():
            file = self.directory / "settings" / f"{plugin}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(settings))

    def _environment(self) -> dict[str, str]:
        folders = {
            "HOME": "home",
            "IPYTHONDIR": "ipython",
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        }
        for folder in folders.values():
            (self.directory / folder).mkdir(exist_ok=True)
        # The package's own folder comes first: its lab extension is tested as it is here, not as
        # it was when the package was installed.
        path = os.pathsep.join([str(self.directory / "share"), str(PACKAGE / "notebook")])
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("JUPYTER", "KALAMDB_LAB_", "PYTEST_"))
        }
        return (
            kept
            | {name: str(self.directory / folder) for name, folder in folders.items()}
            | {"JUPYTER_PATH": path, "JUPYTER_PLATFORM_DIRS": "0"}
        )

    def _command(self) -> list[str]:
        return [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--allow-root",
            "--expose-app-in-browser",
            "--JupyterNotebookApp.expose_app_in_browser=True",
            "--LabApp.extension_manager=readonly",
            f"--ServerApp.ip={HOST}",
            "--ServerApp.port=0",
            f"--ServerApp.root_dir={self.folder}",
            f"--IdentityProvider.token={self.token}",
            "--KernelSpecManager.ensure_native_kernel=False",
            # Ends by itself where the tests were killed before they could end it.
            "--MappingKernelManager.cull_idle_timeout=600",
            "--ServerApp.shutdown_no_activity_timeout=600",
        ]

    def _wait_for_url(self, timeout_s: float = 60) -> str:
        information = self.directory / "runtime" / f"jpserver-{self._process.pid}.json"
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            try:
                self._process.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                try:
                    url = str(json.loads(information.read_text())["url"])
                except (FileNotFoundError, json.JSONDecodeError):
                    continue
                return url.replace("localhost", HOST)
            break
        self._process.kill()
        message = f"The Jupyter server did not start:\n{self._log.read_text()}"
        raise RuntimeError(message)
