"""Explanations of patterns, prefetch and transpose: the order of access."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.bench.difference import Outcome, gain, least_of
from mematlas.bench.explain.terms import (
    EQUALLY,
    LINE,
    Explanation,
    cannot_tell,
    find,
    nanoseconds,
    sure,
    times,
    values,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.bench.model import Figure, Label, Section

_WORD = 8
_PAGE = 4096


# ---- patterns


def _patterns(section: Section) -> list[Explanation | None]:
    return [_columns(section), _strides(section)]


def _columns(section: Section) -> Explanation | None:
    rows = find(section.figures, what="matrix", order="along rows")
    columns = find(section.figures, what="matrix", order="down columns")
    if rows is None or columns is None:
        return None
    found = gain(columns, rows)
    if found.outcome is Outcome.BETTER:
        return Explanation(
            f"Column order costs {times(found)}, because each element is of another {LINE}-byte line"
            + (" and another page" if int(rows.labels["side"]) * _WORD >= _PAGE else ""),
            "make rows the outer and columns the inner loop, or transpose first",
            sure(rows, columns),
        )
    if found.outcome is Outcome.EQUAL:
        return Explanation(f"Rows and columns cost the same on this machine, {EQUALLY}")
    return cannot_tell(
        "what column order costs",
        f"an element takes {nanoseconds(rows.median)} along rows and {nanoseconds(columns.median)} "
        "down columns",
        found,
    )


def _strides(section: Section) -> Explanation | None:
    dense = find(section.figures, what="stride", distance=_WORD)
    line = find(section.figures, what="stride", distance=LINE)
    page = find(section.figures, what="stride", distance=4096)
    if dense is None or line is None or page is None:
        return None
    costs = (
        f"{nanoseconds(dense.median)} in a dense array, {nanoseconds(line.median)} as the only one "
        f"of its cache line, {nanoseconds(page.median)} as the only one of its page"
    )
    found = gain(line, dense)
    if found.outcome is Outcome.BETTER:
        return Explanation(
            f"A word costs {costs}",
            "store fields that are read together next to each other (arrays of values, not of objects)",
            sure(dense, line, page),
        )
    if found.outcome is Outcome.EQUAL:
        return Explanation(
            f"A word costs the same, {EQUALLY}, in a dense array and as the only one of its cache line",
        )
    return cannot_tell("whether a word costs more outside a dense array", costs, found)


# ---- prefetch


def _prefetch(section: Section) -> list[Explanation | None]:
    return [_ahead(section, str(what)) for what in values(section, "what")]


def _ahead(section: Section, what: str) -> Explanation | None:
    sweep = [each for each in section.figures if each.labels["what"] == what]
    plain = find(sweep, ahead=0)
    others = [each for each in sweep if each is not plain]
    if plain is None or not others:
        return None
    best, found = least_of(plain, sorted(others, key=lambda each: int(each.labels["ahead"])))
    in_order = "work" not in what
    title = "Words read in order" if in_order else f"Random look-ups with {what} on each"
    costs = (
        f"{nanoseconds(plain.median)} without, {nanoseconds(best.median)} prefetched "
        f"{best.labels['ahead']} items ahead"
    )
    if found.outcome is Outcome.BETTER:
        return Explanation(
            f"{title} take {costs}: {times(found)} as fast",
            f"use __builtin_prefetch {best.labels['ahead']} iterations ahead"
            + ("" if in_order else ", or batch the look-ups"),
            sure(plain, best),
        )
    if found.is_no_better:
        return Explanation(
            f"{title} gain nothing from software prefetch, {EQUALLY}, at any distance measured",
            "leave loops over arrays without software prefetch" if in_order else "",
            sure(plain, *others),
        )
    return cannot_tell(f"whether prefetch helps {title[0].lower()}{title[1:]}", costs, found)


# ---- transpose


def _transpose(section: Section) -> list[Explanation | None]:
    sides = [int(side) for side in values(section, "side")]
    squares = _turn(section, f"{max(sides)} x {max(sides)}", side=max(sides)) if sides else []
    shapes = [str(shape) for shape in values(section, "shape")]
    return [*squares, *(each for shape in shapes for each in _turn(section, shape, shape=shape))]


def _turn(section: Section, dimensions: str, **labels: Label) -> list[Explanation | None]:
    def one(method: str) -> Figure | None:
        return next(
            (each for each in section.figures
             if labels.items() <= each.labels.items()
             and str(each.labels["method"]).startswith(method)),
            None,
        )  # fmt: skip

    copy, tiles, theirs = one("a copy"), one("in tiles"), one("NumPy")
    if tiles is None:
        return []
    title = f"Transposing {dimensions} doubles in tiles"
    return [
        None if copy is None else _beside_copy(title, tiles, copy),
        None if theirs is None else _beside_numpy(title, tiles, theirs),
    ]


def _beside_copy(title: str, tiles: Figure, copy: Figure) -> Explanation:
    found = gain(tiles, copy)
    if found.outcome is Outcome.BETTER:
        return Explanation(f"{title} takes {times(found)} a copy", sure=sure(copy, tiles))
    if found.outcome is Outcome.EQUAL:
        return Explanation(f"{title} takes as long as a copy, {EQUALLY}", sure=sure(copy, tiles))
    # A transpose moves what a copy moves: one that is faster met a disturbed copy.
    costs = f"the tiles took {tiles.median:.3g} ms and the copy {copy.median:.3g} ms"
    return cannot_tell(f"what {title[0].lower()}{title[1:]} costs beside a copy", costs, found)


def _beside_numpy(title: str, tiles: Figure, theirs: Figure) -> Explanation:
    found = gain(theirs, tiles)
    costs = f"{tiles.median:.3g} ms in tiles, {theirs.median:.3g} ms row by row, as NumPy does"
    if found.outcome is Outcome.BETTER:
        return Explanation(
            f"{title} is {times(found)} as fast as row by row, as NumPy does",
            "use `mematlas.bench.transpose(matrix)`, or work in tiles",
            sure(tiles, theirs),
        )
    if found.is_no_better:
        return Explanation(f"{title} is not faster than row by row, {EQUALLY}: {costs}")
    return cannot_tell(
        f"whether {title[0].lower()}{title[1:]} is faster than by rows", costs, found
    )


EXPLAIN: dict[str, Callable[[Section], list[Explanation | None]]] = {
    "patterns": _patterns,
    "prefetch": _prefetch,
    "transpose": _transpose,
}
