"""Explanations of patterns, prefetch and transpose: the order of access."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.bench.explain.terms import CLEAR, Explanation, differ, find, nanoseconds, sure, values

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.bench.model import Figure, Section

_LINE = 64
_WORD = 8


# ---- patterns


def _patterns(section: Section) -> list[Explanation | None]:
    return [_columns(section), _strides(section)]


def _columns(section: Section) -> Explanation | None:
    rows = find(section.figures, what="matrix", order="along rows")
    columns = find(section.figures, what="matrix", order="down columns")
    if rows is None or columns is None:
        return None
    ratio = columns.median / rows.median
    if ratio < CLEAR or not differ(rows, columns):
        return Explanation(
            "Rows and columns cost the same on this machine",
            "any order is fine",
            sure(rows, columns),
        )
    return Explanation(
        f"Column order costs {ratio:.1f}x, because each {_LINE}-byte line is fetched for {_WORD} bytes",
        "make rows the outer and columns the inner loop, or transpose first",
        sure(rows, columns),
    )


def _strides(section: Section) -> Explanation | None:
    dense = find(section.figures, what="stride", distance=_WORD)
    line = find(section.figures, what="stride", distance=_LINE)
    page = find(section.figures, what="stride", distance=4096)
    if dense is None or line is None or page is None:
        return None
    return Explanation(
        f"A word costs {nanoseconds(dense.median)} in a dense array, {nanoseconds(line.median)} as the only one "
        f"of its cache line, {nanoseconds(page.median)} as the only one of its page",
        "store fields that are read together next to each other (arrays of values, not of objects)",
        sure(dense, line, page),
    )


# ---- prefetch


def _prefetch(section: Section) -> list[Explanation | None]:
    return [_ahead(section, str(work)) for work in values(section, "what")]


def _ahead(section: Section, work: str) -> Explanation | None:
    sweep = [each for each in section.figures if each.labels["what"] == work]
    plain = find(sweep, ahead=0)
    others = [each for each in sweep if each is not plain]
    if plain is None or not others:
        return None
    best = min(others, key=lambda each: each.median)
    ratio = plain.median / best.median
    what = f"Random look-ups with {work} on each"
    if ratio < CLEAR or not differ(plain, best):
        return Explanation(
            f"{what} gain nothing from software prefetch: out-of-order execution is enough",
            "do not prefetch",
            sure(plain, best),
        )
    return Explanation(
        f"{what} take {nanoseconds(plain.median)}, and {nanoseconds(best.median)} when prefetched "
        f"{best.labels['ahead']} items ahead: {ratio:.1f}x as fast",
        f"use __builtin_prefetch {best.labels['ahead']} iterations ahead, or batch the look-ups",
        sure(plain, best),
    )


# ---- transpose


def _transpose(section: Section) -> list[Explanation | None]:
    sides = [int(value) for value in values(section, "side")]
    return [_turn(section, max(sides))] if sides else []


def _turn(section: Section, side: int) -> Explanation | None:
    def one(method: str) -> Figure | None:
        return next(
            (each for each in section.figures
             if each.labels["side"] == side and str(each.labels["method"]).startswith(method)),
            None,
        )  # fmt: skip

    copy, tiles, theirs = one("a copy"), one("in tiles"), one("NumPy")
    if copy is None or tiles is None:
        return None
    text = f"Transposing {side} x {side} doubles in tiles takes {tiles.median / copy.median:.1f}x a copy"
    figures = [copy, tiles]
    if theirs is not None:
        text += f", and row by row, as NumPy does, {theirs.median / copy.median:.0f}x"
        figures.append(theirs)
    return Explanation(
        text, "use `mematlas.bench.transpose(matrix)`, or work in tiles", sure(*figures)
    )


EXPLAIN: dict[str, Callable[[Section], list[Explanation | None]]] = {
    "patterns": _patterns,
    "prefetch": _prefetch,
    "transpose": _transpose,
}
