"""The kernel interfaces that are readable here: the model of `mematlas probe`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interface:
    """One tested interface. `reason` is the failure or the limitation, `remedy` what would make it work."""

    name: str
    provides: str
    works: bool
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """All tested interfaces, with the kernel, user and capabilities."""

    kernel: str
    user: int
    capabilities: tuple[str, ...]  # held, of those that the interfaces need
    lacking: tuple[str, ...]  # not held, of those that the interfaces need
    interfaces: tuple[Interface, ...]
