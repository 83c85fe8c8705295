"""Trying all settings in a child process first: if one is refused, the real process has none set."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from mematlas.control.exec import after_exec
from mematlas.control.exec.model import LaunchPlan, Setting
from mematlas.control.exec.steps import read_malloc, refusal
from mematlas.errors import MematlasError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mematlas._core import LeftKind
    from mematlas.control.exec.steps import Step

_CHECK = "from mematlas.control.exec import steps; print(steps.read_malloc(), flush=True)"


def plan(command: Sequence[str], steps: Sequence[Step], left: LeftKind) -> LaunchPlan:
    """Apply every step in a child, and return what each changes and which ones are refused.

    left: what the program is, as far as settings depend on it.
    """
    now = {**after_exec.read(os.getpid()), "malloc": read_malloc()}
    answer = _run_in_child(lambda: json.dumps(_try(steps)))
    refusals: list[str] = json.loads(answer) if answer else ["the child ended early"] * len(steps)
    settings = [
        Setting(
            step.name,
            now[step.name],
            step.wanted,
            step.call,
            step.meaning,
            refusal=refused or refusal(step.name, left),
        )
        for step, refused in zip(steps, refusals, strict=True)
    ]
    return LaunchPlan(tuple(command), tuple(settings))


def verify(planned: LaunchPlan, steps: Sequence[Step], program: str) -> LaunchPlan:
    """Execute the program in a child up to its entry point, and add the values that are found there."""
    try:
        found = after_exec.look(program, planned.command, lambda: _apply(steps))
    except MematlasError as error:
        found = dict.fromkeys((step.name for step in steps), f"unknown: {error}")
    if found.get("malloc") == "":
        found["malloc"] = _find_malloc(steps)
    settings = (replace(each, found=found[each.name]) for each in planned.settings)
    return replace(planned, settings=tuple(settings))


def _find_malloc(steps: Sequence[Step]) -> str:
    """Return the pages that malloc of this C library gets with the settings, by allocating some."""

    def become_checker() -> str:
        _try([step for step in steps if step.name != "locked"])
        os.execv(sys.executable, [sys.executable, "-c", _CHECK])  # noqa: S606 - no shell wanted

    return _run_in_child(become_checker).strip() or "unknown: the check did not run"


def _apply(steps: Sequence[Step]) -> None:
    for step in steps:
        step.apply()


def _try(steps: Sequence[Step]) -> list[str]:
    refusals = []
    for step in steps:
        try:
            step.apply()
            refusals.append("")
        except (MematlasError, OSError) as error:
            refusals.append(str(error))
    return refusals


def _run_in_child(act: Callable[[], str]) -> str:
    """Run a function in a forked child; return what it printed and the string it returned."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(writer, 1)
            os.write(1, act().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text
