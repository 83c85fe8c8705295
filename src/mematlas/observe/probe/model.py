"""Which facts can be had here: what `mematlas probe` shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface, tried out. `reason` says why not, or what is limited; `remedy` what would help."""

    name: str
    provides: str
    works: bool
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """Everything tried, and where."""

    kernel: str
    user: int
    capabilities: tuple[str, ...]  # of those that matter, the ones we have
    lacking: tuple[str, ...]
    interfaces: tuple[Interface, ...]
