"""The dominators of a heap for other tools: Parquet, Arrow, DOT."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from mematlas.errors import UnsupportedError, UsageError
from mematlas.heap.model.answers import TIMES
from mematlas.present.output_file import writing
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.heap.model.answers import Holder, Summary
    from mematlas.heap.model.heap import Heap

ENDINGS = (".parquet", ".arrow", ".dot")


def write_export(path: str, heap: Heap, summary: Summary) -> None:
    """Write the blocks with their dominators (.parquet, .arrow), or the tree of holders (.dot).

    Raises:
        UsageError: another ending.
        UnsupportedError: pyarrow is not installed.
    """
    if path.endswith(".dot"):
        with writing(path) as part:
            part.write_text(render_dot(summary), "utf-8")
        return
    if not path.endswith(ENDINGS):
        raise UsageError(f"{path}: the name must end in {', '.join(ENDINGS)}")
    try:
        pa, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise UnsupportedError(
            "this needs pyarrow: run `pip install 'mematlas[parquet]'`"
        ) from None
    table = heap.arrow()
    with writing(path) as part:
        if path.endswith(".parquet"):
            parquet.write_table(table, part)
        else:
            with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)


def render_dot(summary: Summary) -> str:
    """Render the tree of holders as a graph of Graphviz."""
    return "\n".join(
        ("digraph heap {", " rankdir=LR; node [shape=box];", *_nodes(summary), "}", "")
    )


def _nodes(summary: Summary) -> Iterator[str]:
    yield f" n0 [label={_quote(f'{summary.name} {format_bytes(summary.totals.size)}')}];"
    numbers = iter(range(1, 1 << 30))
    waiting: list[tuple[int, Holder]] = [(0, each) for each in summary.holders]
    while waiting:
        above, each = waiting.pop(0)
        number = next(numbers)
        times = f" {TIMES} {each.count:,}" if each.count > 1 else ""
        yield f" n{number} [label={_quote(f'{each.name}{times} {format_bytes(each.retained)}')}];"
        yield f" n{above} -> n{number};"
        waiting += [(number, below) for below in each.held]


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'
