"""What `import NAME` cost: the memory of each imported module, with all that it imported in turn."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas._core.columns.trie import trie_add_up
from mematlas.recording.ownership import RUNTIME, is_import_system, tier
from mematlas.report.model.report import Import

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Frame
    from mematlas.report.analyse.stacks import Stacks
    from mematlas.report.analyse.table import StackTable

    Numbers = NDArray[np.int64]

_OTHER, _SYSTEM, _MODULE, _RUNTIME = 0, 1, 2, 3  # the interpreter's C frames lie between all others
_ROOT = re.compile(
    r"^.*/(?:site|dist)-packages/|^.*/lib(?:64)?/python3[^/]*/(?:lib-dynload/)?|^.*/(?=[^/]+/__init__\.py$)|^.*/"
)


def find_imports(table: StackTable) -> tuple[Import, ...]:
    """Sum the memory of stacks by the modules whose import they are in, largest first."""
    found: dict[str, list[int]] = {}  # by file
    for process in table.processes():
        for file, sums in _of_process(table, process):
            whole = found.setdefault(file, [0, 0])
            whole[0] += sums[0]
            whole[1] += sums[1]
    names = module_names(file for file, sums in found.items() if any(sums))
    imports = [Import(name, *found[file]) for file, name in names.items()]
    return tuple(
        sorted(
            imports,
            key=lambda each: (-each.resident_bytes, -each.live_bytes, each.name),
        )
    )


def _of_process(table: StackTable, process: int) -> Iterator[tuple[str, list[int]]]:
    paths = table.paths[process]
    kinds = np.array([*map(_kind, paths.frames_of_words), _OTHER], np.uint8)
    kind = kinds[paths.word_of]
    if not (kind == _MODULE).any():
        return
    sums = [_inclusive(table, process, paths, name) for name in ("resident", "live")]
    for file, node in _imports(paths, kind):
        yield file, [int(column[node]) for column in sums]


def _inclusive(table: StackTable, process: int, paths: Stacks, name: str) -> Numbers:
    """Return the bytes of each node and of all nodes below it."""
    mine = table.process == process
    whole = np.zeros(len(paths.parents), np.int64)
    np.add.at(whole, table.stack[mine], table.metric(name)[mine])
    trie_add_up(paths.parents, whole)
    return whole


def _imports(paths: Stacks, kind: NDArray[Any]) -> Iterator[tuple[str, int]]:
    """Yield the file of each import and its node: that of the import system, if it imported one module."""
    parents, words = paths.parents.tolist(), paths.word_of
    tops: dict[int, int] = {}  # by node of the import system: the outermost of its run
    runs: dict[int, list[tuple[str, int]]] = {}
    for node in np.flatnonzero(kind != _OTHER).tolist():
        top = tops.get(parents[node])
        if kind[node] == _SYSTEM:
            tops[node] = node if top is None else top
        elif kind[node] == _RUNTIME:
            if top is not None:
                tops[node] = top
        elif top is not None:
            file = paths.frames_of_words[words[node]][0].file or ""
            runs.setdefault(top, []).append((file, node))
    for top, modules in runs.items():
        if len({file for file, _ in modules}) == 1:
            yield modules[0][0], top
        else:
            yield from modules


def _kind(frames: Sequence[Frame]) -> int:
    if frames and all(map(is_import_system, frames)):
        return _SYSTEM
    if frames and all(frame.kind != "python" and tier(frame) == RUNTIME for frame in frames):
        return _RUNTIME
    is_module = len(frames) == 1 and frames[0].kind == "python" and frames[0].function == "<module>"
    return _MODULE if is_module else _OTHER


def module_name(file: str) -> str:
    """Return the name of a module by its file: below site-packages or the library with its packages."""
    name = _ROOT.sub("", file, count=1)
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") or file


def module_names(files: Iterable[str]) -> dict[str, str]:
    """Return the name of each module by its file. Equal names get as many directories as tell them apart."""
    alike: dict[str, list[str]] = {}
    for file in dict.fromkeys(files):
        alike.setdefault(module_name(file), []).append(file)
    return {
        file: name
        for short, group in alike.items()
        for file, name in zip(group, _told_apart(short, group), strict=True)
    }


def _told_apart(short: str, files: Sequence[str]) -> Sequence[str]:
    if len(files) == 1:
        return [short]
    roots = [found.group() if (found := _ROOT.match(file)) else "" for file in files]
    folders = [[each for each in root.split("/") if each] for root in roots]
    for depth in range(1, max(map(len, folders)) + 1):
        names = ["/".join([*each[-depth:], short]) for each in folders]
        if len(set(names)) == len(files):
            return names
    return files
