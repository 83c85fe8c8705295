"""The topics of `mematlas system`: for each, a function from the machine's state to its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.observe.machine.topics.cgroup import cgroup_topic
from mematlas.observe.machine.topics.fragmentation import fragmentation_topic
from mematlas.observe.machine.topics.ksm import ksm_topic
from mematlas.observe.machine.topics.memory import memory_topic
from mematlas.observe.machine.topics.numa import numa_topic
from mematlas.observe.machine.topics.pressure import pressure_topic
from mematlas.observe.machine.topics.slab import slab_topic
from mematlas.observe.machine.topics.swap import swap_topic
from mematlas.observe.machine.topics.thp import thp_topic

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.linux.machine import Machine
    from mematlas.observe.machine.model import Topic

TOPICS: dict[str, Callable[[Machine], Topic]] = {
    "memory": memory_topic,
    "thp": thp_topic,
    "fragmentation": fragmentation_topic,
    "numa": numa_topic,
    "pressure": pressure_topic,
    "slab": slab_topic,
    "cgroup": cgroup_topic,
    "swap": swap_topic,
    "ksm": ksm_topic,
}

__all__ = ["TOPICS", "pressure_topic"]
