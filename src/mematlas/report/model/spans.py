"""Model of time windows in the HTML report: an age matrix per line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.recording.model import Frame


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of one line allocated in interval `born` and freed in the later interval `died`.

    With `held` the bytes were not freed. `died` is then the interval in which the process ended, or the
    number of intervals if the process lived to the end of the run.
    """

    line: int
    born: int
    died: int
    held: bool
    bytes: int


@dataclass(frozen=True, slots=True)
class Spans:
    """Time divided into `count` intervals of `width_s` from the start of the run.

    Bytes allocated in intervals a to b and live at the end of b are the spans with
    a <= born <= b < died; at the end of the run, those with `held`.
    """

    width_s: float
    count: int
    lines: tuple[
        Frame | None, ...
    ]  # None: unknown stack; the last entry stands for all other lines
    spans: tuple[Span, ...]
