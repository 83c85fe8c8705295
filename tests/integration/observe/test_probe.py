"""`mematlas probe` is right for root and for nobody."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys

import pytest

from mematlas.observe.probe import read
from terminal import print_in_terminal

PROBE = (sys.executable, "-m", "mematlas", "probe")
PR_SET_DUMPABLE = 4


def test_what_works_can_be_read() -> None:
    """Files reported as readable can be read; files reported as missing do not exist."""
    for fact in read.read().interfaces:
        if fact.name.startswith("/"):
            try:
                with open(fact.name, "rb") as file:  # noqa: PTH123
                    file.read(1)
            except OSError:
                assert not fact.works
                assert fact.reason
                assert fact.remedy
            else:
                assert fact.works


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become nobody")
def test_nobody_sees_less() -> None:
    """As nobody, frame numbers and kpage* files are not available, and the remedy is named."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setuid(65534)
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1)  # as for a program started by nobody
        found = {fact.name: (fact.works, fact.remedy) for fact in read.read().interfaces}
        os.write(writer, json.dumps(found).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        seen = json.loads(pipe.read())
    os.waitpid(child, 0)
    assert not seen["frame numbers"][0]
    assert "CAP_SYS_ADMIN" in seen["frame numbers"][1]
    assert [seen[f"/proc/{name}"][0] for name in ("kpageflags", "slabinfo")] == [False, False]
    assert not seen["other processes"][0]
    assert seen["/proc/self/smaps"][0]


def test_text_and_json() -> None:
    """The text fits 80 columns; JSON has the same interfaces."""
    text = print_in_terminal(PROBE)
    assert max(map(len, text.splitlines())) <= 80
    answer = json.loads(subprocess.check_output([*PROBE, "--json"]))
    assert answer["schema"] == "mematlas/probe/1"
    assert len(answer["data"]["interfaces"]) > 20
