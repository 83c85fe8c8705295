"""One thing that can be measured again and again, beside others, in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Label = str | int


@dataclass(frozen=True, slots=True)
class Case:
    """`sample()` measures once, in `unit`; None: this time something disturbed it.

    `labels` tell it from the others. `lower_is_better` is False for rates.
    """

    labels: dict[str, Label]
    unit: str
    sample: Callable[[], float | None]
    lower_is_better: bool = True
