"""The settings that `mematlas exec` applies before a program starts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """One property of the program: its current value, the wanted one, and the result.

    `found` is the value that a process saw after exec; None: not verified. `refusal` says why the kernel
    refuses the setting; "": it does not.
    """

    name: str
    now: str
    wanted: str
    call: str
    meaning: str
    found: str | None = None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """All settings, and the command they are for."""

    command: tuple[str, ...]
    settings: tuple[Setting, ...]
