"""Try settings in a child before the real thing: nothing is half set when one is refused."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from mematlas.control.exec.model import LaunchPlan, Setting
from mematlas.control.exec.steps import facts
from mematlas.errors import MematlasError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mematlas.control.exec.steps import Step

_CHECK = "import json; from mematlas.control.exec import steps; print(json.dumps(steps.facts()), flush=True)"


def plan(command: Sequence[str], steps: Sequence[Step]) -> LaunchPlan:
    """Try every step in a child, and tell what each would change and which would be refused."""
    now = facts()
    answer = _in_child(lambda: json.dumps(_try(steps)))
    refusals: list[str] = json.loads(answer) if answer else ["the child ended early"] * len(steps)
    settings = [
        Setting(step.name, now[step.name], step.wanted, step.call, step.meaning, refusal=refusal)
        for step, refusal in zip(steps, refusals, strict=True)
    ]
    return LaunchPlan(tuple(command), tuple(settings))


def verify(planned: LaunchPlan, steps: Sequence[Step]) -> LaunchPlan:
    """Set a child up, let it exec, and note what it finds itself with."""

    def become_checker() -> str:
        _try(steps)
        os.execv(sys.executable, [sys.executable, "-c", _CHECK])  # noqa: S606 - no shell wanted

    try:
        found = json.loads(_in_child(become_checker))
    except json.JSONDecodeError:
        found = {}
    settings = (
        replace(each, found=found.get(each.name, "unknown: the check could not run so"))
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


def _in_child(act: Callable[[], str]) -> str:
    """Return what a forked child prints, and what it returns."""
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
