"""What `import NAME` cost: the memory of each imported module, with all that it imported in turn."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas._core.columns.trie import trie_add_up, trie_nearest
from mematlas.recording.ownership import is_import_system, is_native_runtime
from mematlas.report.model.report import Import

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Frame
    from mematlas.report.analyse.stacks import Stacks
    from mematlas.report.analyse.table import StackTable
    from mematlas.report.analyse.word_frames import WordFrames

    Numbers = NDArray[np.int64]

_OTHER, _SYSTEM, _MODULE, _RUNTIME = 0, 1, 2, 3  # the interpreter's C frames lie between all others
_ROOT = re.compile(
    r"^.*/(?:site|dist)-packages/|^.*/lib(?:64)?/python3[^/]*/(?:lib-dynload/)?|^.*/(?=[^/]+/__init__\.py$)|^.*/"
)


def find_imports(table: StackTable, by: str = "resident") -> tuple[Import, ...]:
    """Sum the memory of stacks by the modules whose import they are in, largest first.

    `by` is the metric of resident bytes: PSS for several processes that share memory.
    """
    found: dict[str, list[int]] = {}  # by file
    for process in table.processes():
        for file, sums in _of_process(table, process, by):
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


def _of_process(table: StackTable, process: int, by: str) -> Iterator[tuple[str, list[int]]]:
    paths = table.paths[process]
    kinds = np.append(_kinds(paths.word_frames), _OTHER).astype(np.uint8)
    imports = list(_imports(paths, kinds))
    if not imports:
        return
    nodes = np.array(sorted({node for _, node in imports}), np.uint32)
    nearest = trie_nearest(paths.parents, nodes)
    sums = [_inclusive(table, process, nodes, nearest, name) for name in (by, "live")]
    for file, node in imports:
        at = int(np.searchsorted(nodes, node))
        yield file, [int(column[at]) for column in sums]


def _inclusive(
    table: StackTable,
    process: int,
    nodes: NDArray[np.uint32],
    nearest: NDArray[np.uint32],
    name: str,
) -> Numbers:
    """Return the bytes of some nodes, ascending, each with all nodes below it."""
    parents = table.paths[process].parents
    rows, values = table.narrow(name).nonzero()
    mine = table.process[rows] == process
    whole = np.zeros(len(nodes) + 1, np.int64)
    np.add.at(whole, nearest[table.stack[rows[mine]]], values[mine])
    # The nodes are a trie of their own, below a root in front for those that lie in none.
    above = nearest[parents[nodes]]
    own = np.append(np.uint32(0), np.where(above < len(nodes), above + 1, 0).astype(np.uint32))
    sums = np.append(np.int64(0), whole[:-1])
    trie_add_up(own, sums)
    return sums[1:]


def _imports(paths: Stacks, kinds: NDArray[np.uint8]) -> Iterator[tuple[str, int]]:
    """Yield the file of each import and its node: that of the import system, if it imported one module."""
    words, parents = paths.word_of, paths.parents
    modules = np.flatnonzero((kinds == _MODULE)[words])
    tops = _tops(parents, words, kinds, modules)
    imported = np.flatnonzero(tops)
    runs: dict[int, list[tuple[str, int]]] = {}
    for node, top in zip(modules[imported].tolist(), tops[imported].tolist(), strict=True):
        file = paths.frames_of_words[words[node]][0].file or ""
        runs.setdefault(top, []).append((file, node))
    for top, found in runs.items():
        if len({file for file, _ in found}) == 1:
            yield found[0][0], top
        else:
            yield from found


def _tops(
    parents: NDArray[np.uint32], words: NDArray[Any], kinds: NDArray[np.uint8], modules: Numbers
) -> Numbers:
    """Return for each module's node the outermost node of the import system above it; 0 if none.

    Only the interpreter's C frames lie between the module and that node.
    """
    tops = np.zeros(len(modules), np.int64)
    waiting, at = np.arange(len(modules)), parents[modules]
    while len(waiting):
        kind = kinds[words[at]]
        # The root is its own parent, and its word may be that of frames that were not seen.
        within = ((kind == _SYSTEM) | (kind == _RUNTIME)) & (at != 0)
        tops[waiting[kind == _SYSTEM]] = at[kind == _SYSTEM]
        waiting, at = waiting[within], parents[at[within]]
    return tops


def _kinds(words: WordFrames) -> Numbers:
    """Return of which kind the code of each word is."""
    system = words.all(words.mark(is_import_system))
    runtime = words.all(words.mark(is_native_runtime))
    module = words.all(words.mark(_is_module)) & (words.lengths == 1)
    return np.select([system, runtime, module], [_SYSTEM, _RUNTIME, _MODULE], _OTHER)


def _is_module(frame: Frame) -> bool:
    return frame.function == "<module>" and frame.kind == "python"


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
