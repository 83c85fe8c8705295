"""A repeatable measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Label = str | int


@dataclass(frozen=True, slots=True)
class Case:
    """One quantity to measure. `sample()` measures once, in `unit`; None if other programs disturbed it.

    `labels` distinguish the case from others. `lower_is_better` is False for rates.
    """

    labels: dict[str, Label]
    unit: str
    sample: Callable[[], float | None]
    lower_is_better: bool = True
