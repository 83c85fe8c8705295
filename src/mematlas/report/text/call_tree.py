"""Terminal view of call trees and of sums by package: one line a node, figures first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from mematlas.present import drawing
from mematlas.present.printable import NAME, clean, shorten
from mematlas.report import frame_names, quantities, titles
from mematlas.report.text.page import title, write
from mematlas.units import format_bytes, format_percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from mematlas.report.analyse.packages import PackageStats
    from mematlas.report.model.call_tree import CallTree, TreeNode

_LEAST_NAME = 12  # columns of a name and of a location, however deep in the tree
_DEEPEST = 24  # columns of box drawing; deeper branches stay there
_NUMBER, _SHARE, _ERROR = 10, 8, 9
_BAR = 12


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """What of a tree is shown: branches up to `depth`, with at least `least` (a fraction) of the total."""

    depth: int | None = None
    least: float = 0.01


class _Row(NamedTuple):
    """A node to print: `trunk` is drawn before it, `branch` joins it to its parent."""

    node: TreeNode
    trunk: str
    branch: str
    depth: int
    same: bool  # has all bytes of its parent, so that no figure is repeated


def render_call_tree(
    tree: CallTree, limits: TreeLimits, directory: str, console: Console, why_unknown: str | None
) -> None:
    """Print a call tree. On a terminal, lines are cut to its width; otherwise they are whole."""
    kind = "packages" if tree.by_package else "calls"
    direction = "callers below" if tree.inverted else "callers above"
    about = f"{titles.METRIC_TITLES[tree.by]}: {titles.METRIC_MEANINGS[tree.by]}; {direction}"
    if why_unknown:
        about = f"{titles.METRIC_TITLES[tree.by]}: unknown, {clean(why_unknown)}"
    _print_title(title(f"Tree of {kind}", about), console)
    if why_unknown:
        return
    if tree.root.bytes <= 0:
        _print(Text("  None."), console)
        return
    for line in _tree_lines(tree, limits, directory, console):
        _print(line, console)


def render_packages(
    packages: Sequence[PackageStats],
    by: str,
    *,
    top: int,
    directory: str,
    console: Console,
    why_unknown: str | None,
) -> None:
    """Print sums by package, with the largest line of each."""
    meaning = f"unknown, {clean(why_unknown)}" if why_unknown else titles.METRIC_MEANINGS[by]
    _print_title(title("Packages", f"{titles.METRIC_TITLES[by]}: {meaning}"), console)
    total = sum(each.bytes[by] for each in packages)
    some = [each for each in packages if each.bytes[by] > 0]
    if why_unknown or not some:
        _print(Text("" if why_unknown else "  None."), console)
        return
    for each in some[:top]:
        figures = _figures(each.bytes[by], each.variance, total)
        bar = drawing.bar(each.bytes[by] / some[0].bytes[by], _BAR, console)
        line = figures.append(bar, "cyan").append("  ").append(clean(each.name), "bold")
        line.append(f"  {quantities.count(each.lines, 'line')}", "dim")
        line.append(
            ", largest "
            + frame_names.owner_name(each.largest, directory, drawing.name_width(NAME, console)),
            "dim",
        )
        _print(line, console)
    if len(some) > top:
        rest = sum(each.bytes[by] for each in some[top:])
        more = quantities.count(len(some) - top, "more package")
        _print(_figures(rest, 0.0, total).append(f"in {more} (--top N)", "dim"), console)


def _figures(size: int, variance: float, total: int) -> Text:
    """Format bytes, share of the total and relative standard error as the head of a line."""
    text = Text("  ").append(format_bytes(size).rjust(_NUMBER), "bold")
    text.append(format_percent(size, total).rjust(_SHARE))
    error = f"±{_percent(math.sqrt(variance) / size)}" if variance >= 1 and size else ""
    return text.append(error.rjust(_ERROR), "dim").append("  ")


def _percent(share: float) -> str:
    """Format a relative error: "±3 %", "±0.2 %"."""
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 1 else f"{max(percent, 0.1):.1f} %"


def _tree_lines(
    tree: CallTree, limits: TreeLimits, directory: str, console: Console
) -> Iterator[Text]:
    least = limits.least * tree.root.bytes
    waiting: list[_Row | Text] = [_Row(tree.root, "", "", 0, same=False)]
    while waiting:
        row = waiting.pop()
        if isinstance(row, Text):
            yield row
            continue
        yield _line(row, tree, directory, console)
        children = list(row.node.children.values())
        deep = limits.depth is not None and row.depth >= limits.depth
        shown = [] if deep else [each for each in children if each.bytes >= least]
        hidden = children[len(shown) :]
        trunk = row.trunk + _under(row.branch)
        chain = len(shown) == 1 and shown[0].bytes == row.node.bytes
        if (rest := sum(each.bytes for each in hidden)) >= least:
            words = _rest_words(len(hidden), tree, deeper=deep)
            waiting.append(_rest(rest, trunk, words, tree, console))
            waiting += reversed(_rows(shown, trunk, row.depth, chain=False, ends=False))
        else:
            waiting += reversed(_rows(shown, trunk, row.depth, chain=chain, ends=True))


def _rows(
    children: Sequence[TreeNode], trunk: str, depth: int, *, chain: bool, ends: bool
) -> list[_Row]:
    """Return the rows of children. An only child with all bytes continues the line of its parent."""
    if chain:
        return [_Row(children[0], trunk, "", depth + 1, same=True)]
    if len(trunk) >= _DEEPEST:
        return [_Row(each, trunk, "", depth + 1, same=False) for each in children]
    rows = []
    for number, each in enumerate(children):
        last = number == len(children) - 1 and ends
        rows.append(_Row(each, trunk, "╰─ " if last else "├─ ", depth + 1, same=False))
    return rows


def _under(branch: str) -> str:
    return {"": "", "╰─ ": "   ", "├─ ": "│  "}[branch]


def _rest_words(count: int, tree: CallTree, *, deeper: bool) -> str:
    noun = "package" if tree.by_package else "caller" if tree.inverted else "call"
    option = "--depth N" if deeper else "--threshold PERCENT"
    return f"{quantities.count(count, f'more {noun}')} ({option})"


def _rest(size: int, trunk: str, words: str, tree: CallTree, console: Console) -> Text:
    head = _figures(size, 0.0, tree.root.bytes).append(trunk + "╰─ ", "dim")
    return _fitted(head.append(words, "dim"), console)


def _line(row: _Row, tree: CallTree, directory: str, console: Console) -> Text:
    head = _figures(row.node.bytes, row.node.variance, tree.root.bytes)
    if row.same:
        head = Text(" " * len(head.plain))
    head.append(row.trunk + row.branch, "dim")
    label = row.node.label
    if isinstance(label, str):
        return _fitted(head.append(clean(label), "bold"), console)
    name = frame_names.function_name(label)
    where = frame_names.location(label, directory)
    if console.is_terminal:
        width = max(2 * _LEAST_NAME, console.width - len(head.plain) - 2)
        where = shorten(where, max(_LEAST_NAME, width - min(len(name), width // 2)))
        name = shorten(name, max(_LEAST_NAME, width - len(where)))
    return _fitted(head.append(name, "bold").append("  ").append(where, "cyan"), console)


def _fitted(text: Text, console: Console) -> Text:
    """Cut a line on a terminal."""
    if console.is_terminal and len(text.plain) > console.width:
        text.truncate(console.width, overflow="ellipsis")
    return text


def _print_title(text: Text, console: Console) -> None:
    if console.is_terminal:
        write(text, console)
    else:
        _print(text, console)


def _print(text: Text, console: Console) -> None:
    """Print one line, in ASCII if the console has no Unicode."""
    if drawing.plain(console):
        plain = text.plain.translate({0x2502: "|", 0x2500: "-", 0x251C: "|", 0x2570: "`"})
        text = drawing.in_ascii(Text(plain))
    console.print(text, soft_wrap=True, highlight=False, markup=False, emoji=False)
