"""The files of a native folder depend on each other without cycles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from native_objects import CORE, TRACER, defined, objects, undefined

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Build target and folder of native/; "" where the target holds one folder only.
FOLDERS = [
    (TRACER, ""),
    *(
        (CORE, name)
        for name in ("alloc", "attach", "bench", "collector", "columns", "proc", "syscalls")
    ),
]


def dependencies(paths: list[Path]) -> dict[str, set[str]]:
    """Return for each object file those that define its undefined symbols."""
    home = {symbol: path.name for path in paths for symbol in defined(path)}
    return {
        path.name: {home[symbol] for symbol in undefined(path) if symbol in home} - {path.name}
        for path in paths
    }


def reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """Return the nodes that a path of at least one edge leads to."""
    found: set[str] = set()
    pending = [start]
    while pending:
        new = graph[pending.pop()] - found
        found |= new
        pending += new
    return found


@pytest.mark.parametrize(("target", "folder"), FOLDERS)
def test_no_file_depends_on_itself(target: str, folder: str) -> None:
    """By linker symbols, no file needs another that needs it in turn."""
    paths = objects(target, folder)
    assert all(defined(path) for path in paths)
    graph = dependencies(paths)
    assert len(graph) > 1
    assert not {name for name in graph if name in reachable(graph, name)}


def test_a_cycle_is_found() -> None:
    """The search itself sees a cycle of three files, and not the file that leads to it."""
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert {name for name in graph if name in reachable(graph, name)} == {"a", "b", "c"}
