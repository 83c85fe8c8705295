"""Records of exec by all descendants of this process, through the rings of perf_event_open(2)."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.linux.cpulist import parse_list

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOST, _COMM, _EXEC_BIT = 2, 3, 1 << 13
_PAGES = 16  # 1,000 records or more
_HEAD, _TAIL = 128, 129  # of the ring's first page, in words


@dataclass(frozen=True, slots=True)
class ExecRecord:
    """One exec. `time_s` is of the monotonic clock; `name` is that of the thread, at most 15 bytes."""

    time_s: float
    pid: int
    name: str


class ExecRecords:
    """The execs of all processes that the calling thread starts from now on, and of their children.

    `lost` counts records that found their ring full.
    """

    def __init__(self) -> None:
        """Open a ring for each CPU. OSError if the kernel refuses."""
        self.lost = 0
        self._rings: list[tuple[int, mmap.mmap, memoryview]] = []
        try:
            for cpu in parse_list(Path("/sys/devices/system/cpu/online").read_text()):
                self._open(cpu)
        except BaseException:
            self.close()
            raise

    def _open(self, cpu: int) -> None:
        descriptor = _core.open_exec_records(cpu)
        try:
            size = (1 + _PAGES) * _core.PAGE
            ring = mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except BaseException:
            os.close(descriptor)
            raise
        self._rings.append((descriptor, ring, memoryview(ring).cast("Q")))

    def take(self) -> list[ExecRecord]:
        """Return the records since the last call, in the order of time."""
        found = [record for _, ring, words in self._rings for record in self._drain(ring, words)]
        return sorted(found, key=lambda record: record.time_s)

    def _drain(self, ring: mmap.mmap, words: memoryview) -> Iterator[ExecRecord]:
        size = _PAGES * _core.PAGE
        head, tail = words[_HEAD], words[_TAIL]
        start, length = tail % size, head - tail
        content = ring[_core.PAGE + start : _core.PAGE + min(start + length, size)]
        content += ring[_core.PAGE : _core.PAGE + max(0, start + length - size)]
        at = 0
        while at + 8 <= len(content):
            kind, misc, record_bytes = struct.unpack_from("<IHH", content, at)
            if record_bytes < 8:
                break
            if kind == _COMM and misc & _EXEC_BIT:
                yield _parse(content[at + 8 : at + record_bytes])
            elif kind == _LOST:
                self.lost += struct.unpack_from("<Q", content, at + 16)[0]
            at += record_bytes
        words[_TAIL] = head

    def close(self) -> None:
        """Close the rings. Records that were not taken are lost."""
        for descriptor, ring, words in self._rings:
            words.release()
            ring.close()
            os.close(descriptor)
        self._rings.clear()


def _parse(body: bytes) -> ExecRecord:
    (pid,) = struct.unpack_from("<I", body)
    (time_ns,) = struct.unpack_from("<Q", body, len(body) - 8)
    name = body[8:-8].split(b"\0", 1)[0]
    return ExecRecord(time_ns * 1e-9, pid, os.fsdecode(name))
