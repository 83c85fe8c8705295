"""When the memory of each line was allocated and freed: the model behind windows in the HTML report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.recording.model import Frame


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of one line allocated in stretch `born` and freed in the later stretch `died`.

    With `held` they were not freed: `died` is then the stretch in which their process ended, or the
    number of stretches if it was there to the end.
    """

    line: int
    born: int
    died: int
    held: bool
    bytes: int


@dataclass(frozen=True, slots=True)
class Spans:
    """Time cut into `count` stretches of `width_s` from the start of the run.

    Allocated in stretches a to b, and live at the end of b: spans with a <= born <= b < died; at the end
    of the run, those held.
    """

    width_s: float
    count: int
    lines: tuple[Frame | None, ...]  # None: unknown stack; the last stands for all other lines
    spans: tuple[Span, ...]
