"""What `mematlas exec` sets for a program before it starts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """One property of the program to be: what it is now, what is wanted, what came of it.

    `found` is what a process saw after exec (None: not verified), `refusal` why it cannot be had.
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
    """Everything that would be set, and for which command."""

    command: tuple[str, ...]
    settings: tuple[Setting, ...]
