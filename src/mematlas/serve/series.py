"""Series of metrics: which names have one of their own, and the answer to a scraper."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Generic, TypeVar

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from mematlas.present.printable import clean, shorten

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from prometheus_client import Metric

Name = TypeVar("Name", bound="Hashable")
_LONGEST = 200  # letters of a label
OTHER = "other"
_OPENMETRICS = "application/openmetrics-text"


class TopNames(Generic[Name]):
    """Chooses the names that have a series of their own.

    A name enters when it is among the first half, and leaves when it is below twice the number: series that come
    and go would be kept by Prometheus for each of their names.
    """

    def __init__(self, most: int) -> None:
        """Choose at most `most` names."""
        self._most = most
        self._chosen: set[Name] = set()

    def choose(self, ranked: Sequence[Name]) -> set[Name]:
        """Return the chosen ones of names in the order of their bytes."""
        kept = self._chosen & set(ranked[: 2 * self._most])
        for at, name in enumerate(ranked[: self._most]):
            if len(kept) < self._most:
                kept.add(name)
            elif at < self._most // 2 and name not in kept:
                kept.discard(max(kept, key=ranked.index))
                kept.add(name)
        self._chosen = kept
        return kept


def answer_format(accept: str) -> str:
    """Return the content type of the format that a scraper accepts.

    prometheus_client repeats the version that a client names in the content type: only the format is passed on.
    """
    return str(choose_encoder(_OPENMETRICS if _OPENMETRICS in accept else "")[1])


def encode(families: Iterable[Metric], accept: str) -> bytes:
    """Encode families of metrics in the format that a scraper accepts."""
    encoder, _ = choose_encoder(_OPENMETRICS if _OPENMETRICS in accept else "")
    return bytes(encoder(_Families(list(families))))


class _Families:
    """What an encoder of prometheus_client asks of a registry."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        """Return the families."""
        return self._families


def gauge(name: str, meaning: str, value: float) -> Metric:
    """Return a gauge without labels."""
    return GaugeMetricFamily(f"mematlas_{name}", meaning, value=value)


def label(text: str) -> str:
    """Return a text as the value of a label: printable, cut in the middle where it is long."""
    return shorten(clean(text), _LONGEST)


def own_rss() -> int:
    """Read the RSS of this process, in bytes."""
    with open("/proc/self/statm", "rb", buffering=0) as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
