"""Samples of software events with addresses, through the rings of perf_event_open(2)."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import select
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas._core import PerfFlag
from mematlas.linux.cpulist import parse_list

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ENABLE, _SET_OUTPUT, _GET_ID = 0x2400, 0x2405, 0x80082407
_LOST, _COMM_RECORD, _FORK_RECORD, _SAMPLE, _MMAP2_RECORD = 2, 3, 7, 9, 10
_EXEC_BIT, _KERNEL_MODE = 1 << 13, 1
_RING_PAGES = 128
_HEAD, _TAIL = 128, 129  # of the ring's first page, in words
_CHAIN_DEPTH = 8
_CONTEXT = (
    1 << 64
) - 4096  # PERF_CONTEXT_MAX: larger words mark the mode of the frames that follow


@dataclass(frozen=True, slots=True)
class Sample:
    """One event: the call chain in user mode, leaf first, and the address that was accessed."""

    time: int
    pid: int
    event: int
    address: int
    stack: tuple[int, ...]
    in_kernel: bool


@dataclass(frozen=True, slots=True)
class PerfMapping:
    """A record of a new mapping."""

    time: int
    pid: int
    start: int
    end: int
    offset: int
    name: str
    executable: bool


@dataclass(frozen=True, slots=True)
class Forked:
    """A record of a fork."""

    time: int
    pid: int
    parent: int


@dataclass(frozen=True, slots=True)
class Execed:
    """A record of an exec."""

    time: int
    pid: int


Record = Sample | PerfMapping | Forked | Execed


class PerfSampler:
    """Samples of some threads and their children, in one ring for each CPU.

    `events` maps software events to their periods. OSError if the kernel refuses.
    """

    def __init__(
        self, tids: Sequence[int], events: dict[int, int], *, kernel: bool, on_exec: bool
    ) -> None:
        """Open the events. Sampling starts at exec, or at once."""
        self._descriptors: list[int] = []
        self._rings: list[tuple[int, mmap.mmap, memoryview]] = []
        self._event_of: dict[int, int] = {}
        self._flags = PerfFlag.LOST
        self._flags |= PerfFlag.KERNEL if kernel else PerfFlag(0)
        self._flags |= PerfFlag.ON_EXEC if on_exec else PerfFlag(0)
        self._reported_lost = 0
        try:
            for cpu in _online():
                self._open_on(cpu, tids, events)
        except BaseException:
            self.close()
            raise
        if not on_exec:
            for descriptor in self._descriptors:
                fcntl.ioctl(descriptor, _ENABLE, 0)

    def _open_on(self, cpu: int, tids: Sequence[int], events: dict[int, int]) -> None:
        first = -1
        for tid in tids:
            for event, period in events.items():
                # One event of each thread suffices for the records of its mappings.
                maps = PerfFlag.MAPS if event == next(iter(events)) else PerfFlag(0)
                try:
                    descriptor = self._open(event, period, maps, tid, cpu)
                except ProcessLookupError:
                    continue  # the thread has ended
                self._descriptors.append(descriptor)
                number = struct.unpack("Q", fcntl.ioctl(descriptor, _GET_ID, b"\0" * 8))[0]
                self._event_of[number] = event
                if first < 0:
                    first = descriptor
                    self._add_ring(descriptor)
                else:
                    fcntl.ioctl(descriptor, _SET_OUTPUT, first)

    def _open(self, event: int, period: int, maps: PerfFlag, tid: int, cpu: int) -> int:
        try:
            return _open(event, period, self._flags | maps, tid, cpu)
        except OSError as error:
            if error.errno != errno.EINVAL or not self._flags & PerfFlag.LOST:
                raise
        self._flags &= ~PerfFlag.LOST  # before Linux 6.0
        return _open(event, period, self._flags | maps, tid, cpu)

    def _add_ring(self, descriptor: int) -> None:
        size = (1 + _RING_PAGES) * _core.PAGE
        ring = mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._rings.append((descriptor, ring, memoryview(ring).cast("Q")))

    @property
    def lost(self) -> int:
        """Return the number of samples lost because a ring was full.

        A ring reports a loss with the next record that fits, so the last losses are in the counters
        alone, and before Linux 6.0 they are not known.
        """
        if not self._flags & PerfFlag.LOST:
            return self._reported_lost
        return sum(struct.unpack("<QQ", os.read(each, 16))[1] for each in self._descriptors)

    def wait(self, seconds: float) -> None:
        """Wait until a ring is half full, or for `seconds`."""
        poll = select.poll()
        for descriptor, _, _ in self._rings:
            poll.register(descriptor, select.POLLIN)
        poll.poll(seconds * 1000)

    def drain(self) -> list[Record]:
        """Return all records of the rings, oldest first, and free their space."""
        found = [record for _, ring, words in self._rings for record in self._take(ring, words)]
        found.sort(key=lambda record: record.time)
        return found

    def _take(self, ring: mmap.mmap, words: memoryview) -> Iterator[Record]:
        head, tail = words[_HEAD], words[_TAIL]
        size = _RING_PAGES * _core.PAGE
        begin = tail % size
        data = ring[_core.PAGE + begin : _core.PAGE + min(begin + head - tail, size)]
        if len(data) < head - tail:
            data += ring[_core.PAGE : _core.PAGE + head - tail - len(data)]
        words[_TAIL] = head
        at = 0
        while at + 8 <= len(data):
            kind, misc, length = struct.unpack_from("<IHH", data, at)
            if length < 8:
                return
            record = self._parse(kind, misc, data[at + 8 : at + length])
            if record is not None:
                yield record
            at += length

    def _parse(self, kind: int, misc: int, body: bytes) -> Record | None:
        if kind == _SAMPLE:
            number, _, pid, _, time, address, depth = struct.unpack_from("<QQIIQQQ", body)
            chain = struct.unpack_from(f"<{depth}Q", body, 48)
            stack = tuple(each for each in chain if each < _CONTEXT)
            event = self._event_of.get(number, 0)
            return Sample(time, pid, event, address, stack, misc & 7 == _KERNEL_MODE)
        time = struct.unpack_from("<Q", body, len(body) - 16)[0] if len(body) >= 24 else 0
        if kind == _LOST:
            self._reported_lost += struct.unpack_from("<QQ", body)[1]
        elif kind == _MMAP2_RECORD:
            pid, _, start, length, offset = struct.unpack_from("<IIQQQ", body)
            name = os.fsdecode(body[64:-24].split(b"\0", 1)[0])
            executable = bool(struct.unpack_from("<I", body, 56)[0] & mmap.PROT_EXEC)
            return PerfMapping(time, pid, start, start + length, offset, name, executable)
        elif kind == _FORK_RECORD:
            pid, parent = struct.unpack_from("<II", body)
            return Forked(time, pid, parent) if pid != parent else None
        elif kind == _COMM_RECORD and misc & _EXEC_BIT:
            return Execed(time, struct.unpack_from("<I", body)[0])
        return None

    def close(self) -> None:
        """Close the rings and events."""
        for _, ring, words in self._rings:
            words.release()
            ring.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._rings, self._descriptors = [], []


def _open(event: int, period: int, flags: PerfFlag, tid: int, cpu: int) -> int:
    return _core.open_perf_sampler(
        event,
        period,
        flags,
        watermark=_RING_PAGES * _core.PAGE // 2,
        depth=_CHAIN_DEPTH,
        tid=tid,
        cpu=cpu,
    )


def _online() -> list[int]:
    """Return the CPUs that are online: threads may be moved to any of them."""
    return parse_list(Path("/sys/devices/system/cpu/online").read_text())
