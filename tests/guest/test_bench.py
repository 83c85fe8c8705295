"""`mematlas bench` on a machine with two memory nodes, and on a kernel older than PAGEMAP_SCAN."""

from __future__ import annotations

import json
from typing import Any

from guest.conftest import mematlas


def measured(*words: str) -> dict[str, Any]:
    """Run benchmarks briefly and return the sections by name."""
    said = mematlas("bench", *words, "--quick", "--duration", "500ms", "--json")
    return {each["name"]: each for each in json.loads(said)["data"]["sections"]}


def test_every_pair_of_nodes() -> None:
    """Each node's memory is measured from each node's CPUs, and is on the node it was bound to."""
    found = measured("numa", "--size", "16M")["numa"]
    for what in ("latency", "read"):
        pairs = {
            (each["labels"]["cpus"], each["labels"]["memory"])
            for each in found["figures"]
            if each["labels"]["what"] == what
        }
        assert pairs == {(f"node {cpus}", f"node {memory}") for cpus in (0, 1) for memory in (0, 1)}
    for node in (0, 1):
        assert f"100 % on node {node} (move_pages)" in found["proofs"][f"node {node}"]
    assert found["notes"] == []


def test_page_sizes_are_proven_here_too() -> None:
    """Both 4 KiB and transparent huge pages are measured, each proven by what this kernel has."""
    found = measured("tlb", "--size", "16M", "--pages", "4K,thp")["tlb"]
    assert found["unavailable"] == {}
    assert found["proofs"]["4K"].startswith("16.0 MiB in 4.00 KiB pages")
    assert found["proofs"]["thp"].startswith("16.0 MiB in 2.00 MiB pages")
