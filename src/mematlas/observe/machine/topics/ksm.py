"""Topic ksm: pages merged by kernel samepage merging."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.linux.vmstat import KSM
from mematlas.observe.machine.model import Topic, TopicFigure, TopicSection
from mematlas.observe.machine.topics.counters import missing_files
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.linux.machine import Machine

_MODES = {0: "off", 1: "on", 2: "off, and all merged pages are split again"}


def ksm_topic(machine: Machine) -> Topic:
    """Return the state, the counters and the settings of KSM (admin-guide/mm/ksm.rst)."""
    values = machine.ksm
    if not values:
        return Topic("ksm", ("KSM is not in this kernel",), (), missing_files(machine, "mm/ksm"))
    mode = _MODES.get(values.get("run", 0), "in an unknown state")
    saved = values.get("pages_sharing", 0) * machine.page_size
    counters = tuple(TopicFigure(name, values[name], *KSM[name]) for name in KSM if name in values)
    other = tuple(
        TopicFigure(name, value, "", "") for name, value in values.items() if name not in KSM
    )
    return Topic(
        "ksm",
        (f"KSM is {mode}; {format_bytes(saved)} saved",),
        (TopicSection("Counters", counters), TopicSection("Settings and other counters", other)),
        (),
    )
