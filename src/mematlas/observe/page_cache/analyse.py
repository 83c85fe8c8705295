"""Page cache sums over files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.observe.page_cache.model import CacheReport, FileCache

if TYPE_CHECKING:
    from collections.abc import Sequence


def analyse_cache(files: Sequence[FileCache], errors: Sequence[str], page_size: int) -> CacheReport:
    """Sort files by cached pages, largest first, and sum the visible ones."""
    seen = [each for each in files if each.cached is not None]

    def total(name: str) -> int | None:
        values = [getattr(each, name) for each in seen]
        return None if None in values else sum(values)

    return CacheReport(
        page_size=page_size,
        files=tuple(sorted(files, key=lambda each: (-(each.cached or 0), each.path))),
        total=FileCache(
            path="",
            size=sum(each.size for each in seen),
            pages=sum(each.pages for each in seen),
            cached=total("cached"),
            dirty=total("dirty"),
            writeback=total("writeback"),
            evicted=total("evicted"),
            recently_evicted=total("recently_evicted"),
            source="+".join(sorted({each.source for each in seen})),
        ),
        hidden=len(files) - len(seen),
        errors=tuple(errors),
    )
