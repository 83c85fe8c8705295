"""Trying all settings in a child process first: if one is refused, the real process has none set."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from mematlas.control.exec.model import LaunchPlan, Setting
from mematlas.control.exec.steps import read_current
from mematlas.errors import MematlasError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mematlas.control.exec.steps import Step

_CHECK = (
    "import json; from mematlas.control.exec import steps; "
    "print(json.dumps(steps.read_current()), flush=True)"
)


def plan(command: Sequence[str], steps: Sequence[Step]) -> LaunchPlan:
    """Apply every step in a child, and return what each changes and which ones are refused."""
    now = read_current()
    answer = _run_in_child(lambda: json.dumps(_try(steps)))
    refusals: list[str] = json.loads(answer) if answer else ["the child ended early"] * len(steps)
    settings = [
        Setting(step.name, now[step.name], step.wanted, step.call, step.meaning, refusal=refusal)
        for step, refusal in zip(steps, refusals, strict=True)
    ]
    return LaunchPlan(tuple(command), tuple(settings))


def verify(planned: LaunchPlan, steps: Sequence[Step]) -> LaunchPlan:
    """Apply all steps in a child that then execs Python, and add the values that the new image finds."""

    def become_checker() -> str:
        _try(steps)
        os.execv(sys.executable, [sys.executable, "-c", _CHECK])  # noqa: S606 - no shell wanted

    try:
        found = json.loads(_run_in_child(become_checker))
    except json.JSONDecodeError:
        found = {}
    settings = (
        replace(
            each, found=found.get(each.name, "unknown: the check did not run with these settings")
        )
        for each in planned.settings
    )
    return replace(planned, settings=tuple(settings))


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
