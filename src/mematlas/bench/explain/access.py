"""Explanations of patterns, prefetch and transpose: the order of access."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.bench.difference import Outcome, best_of, gain
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

    from mematlas.bench.model import Figure, Section

_WORD = 8


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
            f"Column order costs {times(found)}, because each {LINE}-byte line is fetched for {_WORD} bytes",
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
    best, found = best_of(plain, others)
    title = f"Random look-ups with {what} on each" if "work" in what else what.capitalize()
    costs = (
        f"{nanoseconds(plain.median)} without, {nanoseconds(best.median)} prefetched "
        f"{best.labels['ahead']} items ahead"
    )
    if found.outcome is Outcome.BETTER:
        return Explanation(
            f"{title} take {costs}: {times(found)} as fast",
            f"use __builtin_prefetch {best.labels['ahead']} iterations ahead, or batch the look-ups",
            sure(plain, best),
        )
    if found.is_no_better:
        return Explanation(
            f"{title} gain nothing from software prefetch, {EQUALLY}, at any distance measured"
        )
    return cannot_tell(f"whether prefetch helps {title[0].lower()}{title[1:]}", costs, found)


# ---- transpose


def _transpose(section: Section) -> list[Explanation | None]:
    shapes = values(section, "side")
    found = [int(shape) for shape in shapes if str(shape).isdigit()]
    return [_turn(section, max(found))] if found else []


def _turn(section: Section, side: int) -> Explanation | None:
    def one(method: str) -> Figure | None:
        return next(
            (each for each in section.figures
             if each.labels.get("side") == side and str(each.labels["method"]).startswith(method)),
            None,
        )  # fmt: skip

    copy, tiles, theirs = one("a copy"), one("in tiles"), one("NumPy")
    if copy is None or tiles is None:
        return None
    title = f"Transposing {side} x {side} doubles in tiles"
    found = gain(tiles, copy)
    if found.outcome is Outcome.BETTER:
        text = f"{title} takes {times(found)} a copy"
    elif found.outcome is Outcome.EQUAL:
        text = f"{title} takes as long as a copy, {EQUALLY}"
    else:  # a transpose moves what a copy moves: one that is faster met a disturbed copy
        costs = f"the tiles took {tiles.median:.3g} ms and the copy {copy.median:.3g} ms"
        text = cannot_tell("what a transpose costs beside a copy", costs, found).text
    if theirs is None:
        decided = found.outcome in (Outcome.BETTER, Outcome.EQUAL)
        return Explanation(text, sure=decided and sure(copy, tiles), decided=decided)
    return _beside_numpy(text, tiles, theirs, copy)


def _beside_numpy(text: str, tiles: Figure, theirs: Figure, copy: Figure) -> Explanation:
    found = gain(theirs, tiles)
    if found.outcome is Outcome.BETTER:
        return Explanation(
            f"{text}. Row by row, as NumPy does, takes {times(found)} the tiles",
            "use `mematlas.bench.transpose(matrix)`, or work in tiles",
            sure(copy, tiles, theirs),
        )
    if found.is_no_better:
        return Explanation(f"{text}. Row by row, as NumPy does, takes no longer, {EQUALLY}")
    costs = f"{tiles.median:.3g} ms in tiles, {theirs.median:.3g} ms row by row, as NumPy does"
    unknown = cannot_tell("whether tiles are faster than rows", costs, found)
    return Explanation(f"{text}. {unknown.text}", sure=False, decided=False)


EXPLAIN: dict[str, Callable[[Section], list[Explanation | None]]] = {
    "patterns": _patterns,
    "prefetch": _prefetch,
    "transpose": _transpose,
}
