"""`mematlas system cgroup`: the reported effective limit is the one that triggers the OOM killer."""

from __future__ import annotations

import resource
import signal

import pytest

from mematlas.linux import machine
from mematlas.linux.machine import Machine
from mematlas.observe.machine import read
from mematlas.observe.machine.limits import binding_limits
from mematlas.observe.machine.topics import TOPICS
from nested_cgroups import Cgroup, CgroupProgram, nested

MIB = 1 << 20


def look(pid: int) -> Machine:
    """Read the machine and the cgroup of a process."""
    return machine.read("/", pid)


@pytest.mark.parametrize("full", ["the outer", "the inner"])
def test_the_level_named_is_the_level_that_kills(full: str) -> None:
    """If a sibling fills the level above, an allocation beyond the headroom hits the limit of that level."""
    with nested() as (outer, inner, sibling):
        outer.limit(160 * MIB)
        inner.limit(100 * MIB)
        own, other = CgroupProgram(inner), CgroupProgram(sibling)
        try:
            assert own.allocate(30 * MIB)
            if full == "the outer":
                assert other.allocate(80 * MIB)
            wanted: Cgroup = outer if full == "the outer" else inner
            facts = look(own.pid)
            answer = TOPICS["cgroup"](facts).answer[0]
            assert f"/{wanted.path.name}," in answer, answer
            assert f"effective limit of process {own.pid}" in answer
            room, spare = binding_limits(facts)[0].headroom, binding_limits(facts)[0].reclaimable
            before = {level.path: level.kills() for level in (outer, inner, sibling)}
            assert own.allocate(room // 2)
            assert {level.path: level.kills() for level in (outer, inner)} == {
                level.path: before[level.path] for level in (outer, inner)
            }
            # The OOM killer kills the largest process of the level: this one or its sibling.
            lived = own.allocate(room // 2 + spare + 16 * MIB)
            statuses = (own.end(), other.end())
            assert not lived or statuses[1] == -signal.SIGKILL
            hit = [level for level in (outer, inner) if level.kills() > before[level.path]]
            assert hit == [wanted]
        finally:
            own.end()
            other.end()


def test_a_process_limit_that_is_nearly_used_up_is_named() -> None:
    """The resource limits of a process are listed with the usage of each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    with nested() as (_, inner, _sibling):
        own = CgroupProgram(inner)
        try:
            used = {bound.name: bound.used for bound in read.read_bounds(own.pid)}
            resource.prlimit(own.pid, resource.RLIMIT_DATA, (used["data size"] + 100_000, hard))
            facts = Machine(page_size=4096, bounds=read.read_bounds(own.pid))
            answer = TOPICS["cgroup"](facts).answer
            assert any("its own limit of data size is nearly used up" in text for text in answer)
        finally:
            own.end()
    assert resource.getrlimit(resource.RLIMIT_DATA) == (soft, hard)
