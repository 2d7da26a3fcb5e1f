"""Who has a database open is told by locks, which end with their process."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from kalamdb_lab.store.presence import Presence

SPAWN, FORK = multiprocessing.get_context("spawn"), multiprocessing.get_context("fork")


def _stay(directory: Path, pipe: Connection) -> None:
    presence = Presence(directory)
    pipe.send(presence.node_id)
    pipe.recv()
    presence.leave()


def test_openings_see_each_other_until_they_leave(tmp_path: Path) -> None:
    here, there = Presence(tmp_path), Presence(tmp_path)
    assert here.node_id != there.node_id
    assert here.is_alive(there.node_id)
    assert here.is_alive(here.node_id)
    assert not here.is_alone()
    there.leave()
    assert not here.is_alive(there.node_id)
    assert here.is_alone()
    here.leave()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_is_gone_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    here = Presence(tmp_path)
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_stay, args=(tmp_path, theirs))
    process.start()
    node_id = ours.recv()
    assert here.is_alive(node_id)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not here.is_alive(node_id)
    assert here.is_alone()
    assert len(list(tmp_path.iterdir())) == 1


def _wait(pipe: Connection) -> None:
    pipe.send("forked")
    pipe.recv()


def test_a_forked_child_does_not_hold_its_parents_place(tmp_path: Path) -> None:
    here, parent = Presence(tmp_path), Presence(tmp_path)
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=_wait, args=(theirs,))
    process.start()
    assert ours.recv() == "forked"
    parent.leave()
    assert not here.is_alive(parent.node_id)
    ours.send("done")
    process.join()


def test_an_unknown_opening_is_gone(tmp_path: Path) -> None:
    assert not Presence(tmp_path).is_alive("0123456789")


def test_a_directory_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    here = Presence(tmp_path / "missing")
    assert here.is_alive(here.node_id)
    here.leave()
