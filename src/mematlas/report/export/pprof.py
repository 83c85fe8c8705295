"""pprof's profile.proto, gzipped. Each metric of a stack is a value of its sample.

https://github.com/google/pprof/blob/main/proto/profile.proto defines the fields.

"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas._core.columns.distinct import distinct
from mematlas._core.columns.samples import SampleEncoder
from mematlas.errors import MematlasError
from mematlas.present.printable import clean
from mematlas.recording.frames import modules_of
from mematlas.recording.model import Frame
from mematlas.report import frame_names, run_facts
from mematlas.report.export import gzip_stream
from mematlas.report.export.protobuf import data, number
from mematlas.report.export.source import started_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Module
    from mematlas.report.analyse.stacks import Stacks
    from mematlas.report.export.source import ExportSource

TYPES = (
    ("alloc_objects", "count", "allocations"),
    ("alloc_space", "bytes", "allocated_bytes"),
    ("inuse_objects", "count", "live_count"),
    ("inuse_space", "bytes", "live_bytes"),
    ("peak_objects", "count", "peak_count"),
    ("peak_space", "bytes", "peak_bytes"),
    ("end_objects", "count", "end_count"),
    ("end_space", "bytes", "end_bytes"),
    ("resident_space", "bytes", "resident_bytes"),
    ("pss_space", "bytes", "pss_bytes"),
    ("uss_space", "bytes", "uss_bytes"),
    ("huge_space", "bytes", "huge_bytes"),
    ("swap_space", "bytes", "swapped_bytes"),
    ("faulted_space", "bytes", "faulted_bytes"),
    ("temporary_space", "bytes", "temporary_bytes"),
    ("fragmented_space", "bytes", "fragmented_bytes"),
    ("idle_space", "bytes", "idle_bytes"),
)
"""Sample types. Go's four come first, in Go's order: readers look them up by name."""
DEFAULTS = {
    "live": "inuse_space",
    "allocated": "alloc_space",
    "swapped": "swap_space",
    **{
        name: f"{name}_space"
        for name in (
            *("resident", "pss", "uss", "peak", "huge", "faulted"),
            *("temporary", "fragmented", "idle"),
        )
    },
}
DROPPED = (
    r"(__libc_)?(m|c|re|v|pv)alloc|reallocarray|(posix_)?memalign|aligned_alloc|strn?dup|mmap(64)?|mremap|s?brk"
    r"|operator new.*|_?Py(Mem|Object)_(Raw)?(Malloc|Calloc|Realloc)|_?PyObject_(GC_)?(New|NewVar|Malloc)"
    r"|_PyObject_\w*(Malloc|Alloc|Realloc|Calloc)|_PyMem_\w+|PyType_GenericAlloc"
)
"""Functions that pprof hides with all that they call, so that who asked for the memory is shown."""
# Stacks. The figures of more do not fit into a cache, where rows are made of columns.
_BATCH = 1 << 13
_LEVEL = 1  # a higher one takes three times as long for a tenth less
_NATIVE_TOP = 1 << 63
_NO_PATH = Frame("[root]", None, None, None, "native")


def render(sources: Sequence[ExportSource]) -> Iterator[bytes]:
    """Render the profile."""
    yield from gzip_stream.compress(_Profile(sources).pieces(), _LEVEL)


class _Profile:
    """A profile while it is written. Strings, functions, mappings and locations are numbered at first use."""

    def __init__(self, sources: Sequence[ExportSource]) -> None:
        self._sources = sources
        self._source = sources[0]  # being written
        unknown = {name for each in sources for name in each.unknown}
        self._strings: dict[str, int] = {"": 0}
        self._functions: dict[tuple[str, str], int] = {}
        self._lines: dict[int, tuple[Frame, bytes]] = {}  # by id() of the frame, which stays alive
        wanted = sources[0].types or [name for name, _, column in TYPES if column not in unknown]
        self._types = [each for each in TYPES if each[0] in wanted]
        self._locations = 0
        self._mappings = [0]  # number written so far

    def pieces(self) -> Iterator[bytes]:
        """Yield the messages. The string table is last, because the others fill it."""
        for name, unit, _ in self._types:
            yield data(1, self._type(name, unit))
        for source in self._sources:
            self._source = source
            for process in source.table.processes():
                yield from self._process(process)
        if self._source.frames == "all":
            yield number(7, self._text(DROPPED))
        yield from self._times()
        yield data(11, self._type("space", "bytes"))
        samplings = [each.report.sampling for each in self._sources]
        exact = all(each.mode == "exact" for each in samplings)
        yield number(12, 1 if exact else max(each.sample_bytes for each in samplings))
        for source in self._sources:
            command, sampling = " ".join(source.report.command), source.report.sampling
            for text in (source.title, clean(command), run_facts.sampling(sampling)):
                yield number(13, self._text(text))
        yield number(14, self._text(DEFAULTS[self._source.by]))
        for text in self._strings:
            yield data(6, text.encode())

    def _times(self) -> Iterator[bytes]:
        """Yield the moment or earliest start, and the duration of the longest run."""
        if self._sources[0].span is not None:
            yield from map(number, (9, 10), self._sources[0].span)
            return
        reports = [each.report for each in self._sources]
        starts = map(started_nanoseconds, self._sources)
        yield number(9, min(filter(None, starts), default=0))
        yield number(10, max(round((run_facts.duration_s(each) or 0) * 1e9) for each in reports))

    def _text(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))

    def _type(self, name: str, unit: str) -> bytes:
        return number(1, self._text(name)) + number(2, self._text(unit))

    def _process(self, process: int) -> Iterator[bytes]:
        table = self._source.table
        rows = np.flatnonzero(table.process == process)
        paths = table.paths[process]
        first, pieces = self._words(process, paths, table.stack[rows].astype(np.int64))
        yield from pieces
        label = self._labels_of(process)
        kinds = {kind: self._label("kind", kind) for kind in self._kinds(rows)}
        encoder = SampleEncoder(paths.parents, first, [label + kind for kind in kinds.values()])
        numbers = {name: number for number, name in enumerate(kinds)}
        labels = np.zeros(256, np.uint8)
        for each in distinct(table.kind[rows]).tolist():
            labels[each] = numbers[table.kind_name_of(each)]
        columns = [table.columns.narrow(name) for _, _, name in self._types]
        for start in range(0, len(rows), _BATCH):
            some = rows[start : start + _BATCH]
            values = np.empty((len(some), len(columns)), np.int64)
            for number_of_type, column in enumerate(columns):
                values[:, number_of_type] = column.at(some)
            try:
                yield from encoder.encode(table.stack[some], labels[table.kind[some]], values)
            except OSError:
                message = "the recording is malformed: a stack leads to no root"
                raise MematlasError(message) from None

    def _labels_of(self, process: int) -> bytes:
        """Return the labels of all samples of a process. Those of the user give way to ours of the same name."""
        origin = self._source.origin(process)
        labels = {
            **origin.labels,
            "process": self._source.process_name(process),
            "recording": self._source.title,
            "host": origin.host,
            "run": origin.run,
        }
        return b"".join(self._label(key, value) for key, value in labels.items() if value)

    def _kinds(self, rows: NDArray[np.int64]) -> list[str]:
        """Return the names of the kinds of these rows, in order of occurrence."""
        table = self._source.table
        _, first = np.unique(table.kind[rows], return_index=True)
        return list(dict.fromkeys(table.kind_name(int(rows[at])) for at in np.sort(first)))

    def _label(self, key: str, value: str) -> bytes:
        return data(3, number(1, self._text(key)) + number(2, self._text(value)))

    def _words(
        self, process: int, paths: Stacks, stacks: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint32], Iterator[bytes]]:
        """Return the location of each node, and the messages that define the locations."""
        frames, words, which = paths.frames_of_words, paths.words, paths.word_of
        numbers = np.zeros(len(frames), np.int64)
        wanted = distinct(which[1:])
        numbers[wanted] = self._locations + 1 + np.arange(len(wanted))
        self._locations += len(wanted)
        found, unknown = numbers.astype(np.uint32)[which], 0
        if (stacks == 0).any():  # "no stack" has its own location, whatever word the root has
            self._locations += 1
            unknown = self._locations
        found[0] = unknown
        return found, self._messages(process, frames, words, numbers, unknown)

    def _messages(
        self,
        process: int,
        frames: list[tuple[Frame, ...]],
        words: NDArray[np.uint64],
        numbers: NDArray[np.int64],
        unknown: int,
    ) -> Iterator[bytes]:
        """Yield mappings, and locations with their functions."""
        modules = [each for each in self._source.recording.modules.get(process, []) if each.path]
        mappings = _Mappings(modules, self._mappings, self._mapped)
        wanted = np.flatnonzero(numbers)
        addresses = np.where(words[wanted] >= np.uint64(_NATIVE_TOP), np.uint64(0), words[wanted])
        inside = modules_of(words, modules)[wanted]
        pairs = zip(wanted.tolist(), addresses.tolist(), inside.tolist(), strict=True)
        for at, address, module in pairs:
            mapping, message = mappings.of(module if address else -1)
            yield message
            yield from self._location(int(numbers[at]), address, mapping, frames[at])
        if unknown:
            name = Frame(self._source.no_stack, None, None, None, "native")
            yield from self._location(unknown, 0, 0, (name,))

    def _mapped(self, mapping: int, module: Module) -> bytes:
        return data(
            3,
            number(1, mapping)
            + number(2, module.start)
            + number(3, module.end)
            + number(4, max(0, module.start - module.bias))
            + number(5, self._text(clean(module.path)))
            + number(6, self._text(module.build_id))
            + b"".join(number(field, 1) for field in (7, 8, 9, 10)),
        )

    def _location(
        self, location: int, address: int, mapping: int, frames: tuple[Frame, ...]
    ) -> Iterator[bytes]:
        lines = []
        for frame in frames or (_NO_PATH,):
            if id(frame) in self._lines:
                lines.append(self._lines[id(frame)][1])
                continue
            key = (frame_names.function_name(frame), clean(frame.file or ""))
            function = self._functions.get(key)
            if function is None:
                function = self._functions[key] = len(self._functions) + 1
                name, file = self._text(key[0]), self._text(key[1])
                # No system_name: pprof takes one for a mangled name, and drops "<module>" from it.
                yield data(5, number(1, function) + number(2, name) + number(4, file))
            line = data(4, number(1, function) + number(2, frame.line or 0))
            self._lines[id(frame)] = frame, line
            lines.append(line)
        yield data(
            4, number(1, location) + number(2, mapping) + number(3, address) + b"".join(lines)
        )


class _Mappings:
    """Modules of one process. A module is written when a location first refers to it."""

    def __init__(
        self, modules: list[Module], number_from: list[int], write: Callable[[int, Module], bytes]
    ) -> None:
        self._modules = modules
        self._next = number_from
        self._write = write
        self._known: dict[int, int] = {}

    def of(self, index: int) -> tuple[int, bytes]:
        """Return the mapping of a module, 0 for -1, and its message if it is new."""
        if index < 0:
            return 0, b""
        if index in self._known:
            return self._known[index], b""
        self._next[0] += 1
        self._known[index] = self._next[0]
        return self._next[0], self._write(self._next[0], self._modules[index])
