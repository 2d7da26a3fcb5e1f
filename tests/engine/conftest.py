"""One real database for most tests, with a namespace made anew for each; and fresh ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import kalamdb_lab as kalam
from kalamdb_lab import FakeClock, KalamError
from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.session import Session
from kalamdb_lab.jobs import schedules

# Test files are not importable under importlib mode; what they share stands beside them.
sys.path.insert(0, str(Path(__file__).parent))

USERS = {"mia": "user", "tom": "user", "sven": "service", "dora": "dba"}

_ENGINE_WORDS = ("duckdb", "sqlite", "sqlglot", "traceback", "object at 0x", "__kalam_", "parquet")

Refused = Callable[..., KalamError]


@dataclass
class Opened:
    """A database directory, its clock, and sessions on it."""

    database: Database
    clock: FakeClock

    def session(self, user: str = "root", namespace: str = "studio") -> Session:
        return self.database.session(user, namespace=namespace)


def open_directory(path: Path, clock: FakeClock | None = None) -> Opened:
    """Open with a context of its own, as another process would; commits need not reach the disk."""
    path.mkdir(exist_ok=True)
    (path / "kalam.toml").write_text('durability = "normal"\nbulk_rows = 6\njob_retry_s = 0.01\n')
    clock = clock or FakeClock()
    return Opened(kalam.open(path, clock=clock), clock)


@pytest.fixture(autouse=True, scope="session")
def _asleep() -> Iterator[None]:
    """Policies, retention and TTL are looked at when a test says so, and not in its middle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedules, "_TICK_S", 3600.0)
        yield


@pytest.fixture
def awake(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are looked at each second, as everywhere else."""
    monkeypatch.setattr(schedules, "_TICK_S", 1.0)


@pytest.fixture(scope="session")
def opener() -> Callable[..., Opened]:
    """Open a directory with a context of its own, as another process would."""
    return open_directory


def with_users(opened: Opened) -> Opened:
    root = opened.session(namespace="default")
    for user, role in USERS.items():
        root.execute(f"CREATE USER '{user}' WITH INTERNAL ROLE {role}")
    return opened


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    opened = with_users(open_directory(tmp_path_factory.mktemp("shared") / "lab.kalam"))
    yield opened
    opened.database.close()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A database of the module's own with an empty ``studio``: for tests that only read."""
    opened = with_users(open_directory(tmp_path_factory.mktemp("library") / "lab.kalam"))
    opened.session(namespace="default").execute("CREATE NAMESPACE studio")
    yield opened
    opened.database.close()


@pytest.fixture
def studio(shared: Opened) -> Iterator[Opened]:
    """The shared database with an empty namespace ``studio``."""
    root = shared.session(namespace="default")
    root.execute("CREATE NAMESPACE studio")
    yield shared
    for job in shared.database.jobs.list():  # or the next test finds one with its key active
        if job.status.is_active:
            shared.database.jobs.wait(job.job_id, timeout=60)
    for namespace, *_ in root.execute("SHOW NAMESPACES").rows():
        if namespace not in ("system", "default"):
            root.execute(f"DROP NAMESPACE {namespace} CASCADE")
    for _, table, kind, *_ in root.execute("SHOW TABLES IN default").rows():
        root.execute(f"DROP {'VIEW' if kind == 'view' else 'TABLE'} {table}")


@pytest.fixture
def s(studio: Opened) -> Session:
    """Root in ``studio``."""
    return studio.session()


@pytest.fixture
def mia(studio: Opened) -> Session:
    """Role user."""
    return studio.session("mia")


@pytest.fixture
def tom(studio: Opened) -> Session:
    """Role user, another one."""
    return studio.session("tom")


@pytest.fixture
def sven(studio: Opened) -> Session:
    """Role service."""
    return studio.session("sven")


@pytest.fixture
def dora(studio: Opened) -> Session:
    """Role dba."""
    return studio.session("dora")


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Opened]:
    """A database of its own, with namespace ``studio`` and no users but root."""
    opened = open_directory(tmp_path / "lab.kalam")
    opened.session(namespace="default").execute("CREATE NAMESPACE studio")
    yield opened
    opened.database.close()


@pytest.fixture
def refused() -> Refused:
    """Run what must fail; return the error after checking what holds for every error."""

    def run(session: Session, sql: str, params: Sequence[object] | None = None) -> KalamError:
        with pytest.raises(KalamError) as caught:
            session.execute(sql, params)
        error = caught.value
        text = str(error)
        assert 0 < len(text) < 700, text
        assert "\n" not in text, text
        assert not any(word in text.lower() for word in _ENGINE_WORDS if word not in sql), text
        assert error.__cause__ is None, text
        assert error.__suppress_context__ or error.__context__ is None, text
        assert error.code != "INTERNAL", text
        assert error.statement_number is not None, text
        assert error.line is not None, text
        assert session.execute("SELECT 1").rows() == [(1,)], "the session is usable afterwards"
        return error

    return run
