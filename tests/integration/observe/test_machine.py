"""`mematlas system` on the machine that runs the tests."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mematlas.linux import machine
from mematlas.observe.machine.topics import TOPICS
from terminal import print_in_terminal

SYSTEM = (sys.executable, "-m", "mematlas", "system")


def test_memory_parts_make_the_whole() -> None:
    """The parts of memory and the unaccounted rest sum to MemTotal."""
    facts = machine.read("/")
    parts = TOPICS["memory"](facts).sections[0].figures
    assert sum(int(each.value or 0) for each in parts) == facts.meminfo["MemTotal"]


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_each_topic_live(topic: str) -> None:
    """Each topic is printed as text within 80 columns, and as JSON."""
    text = print_in_terminal([*SYSTEM, topic])
    assert max(map(len, text.splitlines())) <= 80
    answer = json.loads(subprocess.check_output([*SYSTEM, topic, "--json"]))
    assert answer["schema"] == "mematlas/system/1"
    assert answer["data"]["name"] == topic
