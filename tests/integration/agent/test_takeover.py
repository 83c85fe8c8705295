"""What an agent takes over: the recorder of an earlier one, and the socket of one that begins anew."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mematlas.agent.profile.targets import Recorder
from mematlas.agent.service import SOCKET, inherited_socket, socket_words
from mematlas.linux.processes import read_stat
from waiting import WAIT_S

if TYPE_CHECKING:
    from pathlib import Path


def test_another_process_with_the_pid_of_a_recorder_is_left_alone(tmp_path: Path) -> None:
    """A recorder of an earlier agent may have ended, and its PID be given again."""
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True
    ) as program:
        started = read_stat(f"/proc/{program.pid}").started
        Recorder(program.pid, started - 1, str(tmp_path), None).end()
        program.communicate("\n", timeout=WAIT_S)
        assert program.returncode == 0
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True
    ) as program:
        started = read_stat(f"/proc/{program.pid}").started
        Recorder(program.pid, started, str(tmp_path), None).end()
        assert program.wait(WAIT_S) < 0


def test_the_socket_of_another_address_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """What protects the new address may not protect the old one: that socket is closed."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        for given, served in (("0.0.0.0:1", False), ("127.0.0.1:1", True)):
            file = os.dup(listening.fileno())
            monkeypatch.setenv(SOCKET, socket_words(file, given))
            found = inherited_socket("127.0.0.1:1")
            assert (found == file) is served
            assert SOCKET not in os.environ
            if served:
                os.close(file)
            else:
                with pytest.raises(OSError, match="Bad file descriptor"):
                    os.fstat(file)
