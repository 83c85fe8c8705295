"""Placement by process on two nodes, and the binding limit in cgroup v2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guest.conftest import holding, mematlas
from integration.observe.test_cgroup_limits import look
from mematlas.observe.machine.limits import binding_limits
from mematlas.observe.machine.topics import TOPICS
from nested_cgroups import CgroupProgram, nested

MIB = 1 << 20


@pytest.mark.parametrize("node", [0, 1])
def test_a_process_is_placed_where_it_was_bound(node: int) -> None:
    """Thirty MiB bound to a node are reported on that node, with the policy."""
    with holding(30 * MIB, "--membind", str(node)) as child:
        answer = json.loads(mematlas("system", "numa", "--json"))["data"]
        (section,) = [each for each in answer["sections"] if each["title"] == "Processes"]
        columns = section["grid"]["columns"]
        rows = [dict(zip(columns, row, strict=True)) for row in section["grid"]["rows"]]
        (row,) = [row for row in rows if row["PID"] == str(child.pid)]
        alone = json.loads(mematlas("system", "numa", "--pid", child.pid, "--json"))["data"]
    assert row[f"node {node}"] >= 30 * MIB
    assert row[f"node {1 - node}"] < 20 * MIB  # shared libraries lie where they were read first
    assert f"bind:{node}" in row["policy"]
    assert f"on node {node}" in alone["answer"][1]


@pytest.mark.parametrize("full", ["outer", "inner", "high"])
def test_the_nearest_limit_of_version_2_is_named(full: str) -> None:
    """Of memory.max and memory.high of nested cgroups, the one with the least headroom is named."""
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        pytest.skip("no cgroup version 2 here")
    with nested() as (outer, inner, sibling):
        outer.limit(120 * MIB)
        inner.limit(80 * MIB)
        if full == "high":
            (inner.path / "memory.high").write_text(str(60 * MIB))
        own, other = CgroupProgram(inner), CgroupProgram(sibling)
        try:
            assert own.allocate(20 * MIB)
            if full == "outer":
                assert other.allocate(70 * MIB)
            facts = look(own.pid)
            answer = TOPICS["cgroup"](facts).answer[0]
            name = "memory.high" if full == "high" else "memory.max"
            level = outer if full == "outer" else inner
            assert answer.startswith(f"{name} of "), answer
            assert f"/{level.path.name}," in answer
            if full == "inner":
                before = (outer.kills(), inner.kills())
                nearest = binding_limits(facts)[0]
                assert not own.allocate(nearest.headroom + nearest.reclaimable + 16 * MIB)
                assert outer.kills() == before[0]
                assert inner.kills() > before[1]
        finally:
            own.end()
            other.end()
