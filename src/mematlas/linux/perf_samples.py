"""Samples of software events with addresses, through the rings of perf_event_open(2)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import select
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.errors import UnsupportedError
from mematlas.linux.perf import CALLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SOFTWARE = 1
_SIZE = 128  # of struct perf_event_attr
_IP, _TID, _TIME, _ADDR, _CHAIN, _IDENTIFIER = 1, 2, 4, 8, 1 << 5, 1 << 16
_FIELDS = _IP | _TID | _TIME | _ADDR | _CHAIN | _IDENTIFIER
_DISABLED, _INHERIT, _NO_KERNEL, _NO_HYPERVISOR = 1, 1 << 1, 1 << 5, 1 << 6
_MMAP, _COMM, _ON_EXEC, _TASK, _WATERMARK = 1 << 8, 1 << 9, 1 << 12, 1 << 13, 1 << 14
_MMAP_DATA, _ID_ALL, _NO_KERNEL_CHAIN = 1 << 17, 1 << 18, 1 << 21
_MMAP2, _COMM_EXEC = 1 << 23, 1 << 24
_ENABLE, _SET_OUTPUT, _GET_ID = 0x2400, 0x2405, 0x80082407
_LOST, _COMM_RECORD, _FORK_RECORD, _SAMPLE, _MMAP2_RECORD = 2, 3, 7, 9, 10
_EXEC_BIT, _KERNEL_MODE = 1 << 13, 1
_COUNTS_LOST = 1 << 4  # a read also tells how many samples found no room (Linux 6.0)
_RING_PAGES = 128
_HEAD, _TAIL = 128, 129  # of the ring's first page, in words
_CHAIN_DEPTH = 8
_CONTEXT = (1 << 64) - 4096  # words from here on mark whose frames follow


@dataclass(frozen=True, slots=True)
class Sample:
    """One event: where the program was (its own frames, leaf first) and the address it was about."""

    time: int
    pid: int
    event: int
    address: int
    stack: tuple[int, ...]
    in_kernel: bool


@dataclass(frozen=True, slots=True)
class Mapped:
    """A mapping that appeared."""

    time: int
    pid: int
    start: int
    end: int
    offset: int
    name: str
    executable: bool


@dataclass(frozen=True, slots=True)
class Forked:
    """A process that came from another."""

    time: int
    pid: int
    parent: int


@dataclass(frozen=True, slots=True)
class Execed:
    """A process that runs another program from here on."""

    time: int
    pid: int


Record = Sample | Mapped | Forked | Execed


class Sampler:
    """Rings, one a CPU, that take samples of some threads and of all they start.

    `events` maps software events to their periods. OSError if the kernel refuses.
    """

    def __init__(
        self, tids: Sequence[int], events: dict[int, int], *, kernel: bool, on_exec: bool
    ) -> None:
        """Open everything; sampling starts at exec, or at once."""
        self._descriptors: list[int] = []
        self._rings: list[tuple[int, mmap.mmap, memoryview]] = []
        self._event_of: dict[int, int] = {}
        self._reading = _COUNTS_LOST
        self._said_lost = 0
        try:
            for cpu in sorted(_online()):
                self._open_on(cpu, tids, events, kernel=kernel, on_exec=on_exec)
        except BaseException:
            self.close()
            raise
        if not on_exec:
            for descriptor in self._descriptors:
                fcntl.ioctl(descriptor, _ENABLE, 0)

    def _open_on(
        self,
        cpu: int,
        tids: Sequence[int],
        events: dict[int, int],
        *,
        kernel: bool,
        on_exec: bool,
    ) -> None:
        first = -1
        for tid in tids:
            for event, period in events.items():
                flags = _flags(kernel=kernel, on_exec=on_exec, maps=event == next(iter(events)))
                try:
                    descriptor = self._open(event, period, flags, tid, cpu)
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

    def _open(self, event: int, period: int, flags: int, tid: int, cpu: int) -> int:
        try:
            return _open(event, period, flags, self._reading, tid, cpu)
        except OSError as error:
            if error.errno != errno.EINVAL or not self._reading:
                raise
        self._reading = 0
        return _open(event, period, flags, self._reading, tid, cpu)

    def _add_ring(self, descriptor: int) -> None:
        size = (1 + _RING_PAGES) * mmap.PAGESIZE
        ring = mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._rings.append((descriptor, ring, memoryview(ring).cast("Q")))

    @property
    def lost(self) -> int:
        """Count the samples that found no room.

        The rings tell of some only with a later record that has room: those before the end are known
        of the counters alone, and before Linux 6.0 not at all.
        """
        if not self._reading:
            return self._said_lost
        return sum(struct.unpack("<QQ", os.read(each, 16))[1] for each in self._descriptors)

    def wait(self, seconds: float) -> None:
        """Wait until a ring is half full, or the time is over."""
        poll = select.poll()
        for descriptor, _, _ in self._rings:
            poll.register(descriptor, select.POLLIN)
        poll.poll(seconds * 1000)

    def drain(self) -> list[Record]:
        """Take all there is, oldest first."""
        found = [record for _, ring, words in self._rings for record in self._take(ring, words)]
        found.sort(key=lambda record: record.time)
        return found

    def _take(self, ring: mmap.mmap, words: memoryview) -> Iterator[Record]:
        head, tail = words[_HEAD], words[_TAIL]
        size = _RING_PAGES * mmap.PAGESIZE
        begin = tail % size
        data = ring[mmap.PAGESIZE + begin : mmap.PAGESIZE + min(begin + head - tail, size)]
        if len(data) < head - tail:
            data += ring[mmap.PAGESIZE : mmap.PAGESIZE + head - tail - len(data)]
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
            self._said_lost += struct.unpack_from("<QQ", body)[1]
        elif kind == _MMAP2_RECORD:
            pid, _, start, length, offset = struct.unpack_from("<IIQQQ", body)
            name = os.fsdecode(body[64:-24].split(b"\0", 1)[0])
            executable = bool(struct.unpack_from("<I", body, 56)[0] & mmap.PROT_EXEC)
            return Mapped(time, pid, start, start + length, offset, name, executable)
        elif kind == _FORK_RECORD:
            pid, parent = struct.unpack_from("<II", body)
            return Forked(time, pid, parent) if pid != parent else None
        elif kind == _COMM_RECORD and misc & _EXEC_BIT:
            return Execed(time, struct.unpack_from("<I", body)[0])
        return None

    def close(self) -> None:
        """Close all."""
        for _, ring, words in self._rings:
            words.release()
            ring.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._rings, self._descriptors = [], []


def _flags(*, kernel: bool, on_exec: bool, maps: bool) -> int:
    flags = _DISABLED | _INHERIT | _NO_HYPERVISOR | _WATERMARK | _ID_ALL | _NO_KERNEL_CHAIN
    flags |= 0 if kernel else _NO_KERNEL
    flags |= _ON_EXEC if on_exec else 0
    return flags | (_MMAP | _MMAP2 | _MMAP_DATA | _COMM | _COMM_EXEC | _TASK if maps else 0)


def _open(event: int, period: int, flags: int, reading: int, tid: int, cpu: int) -> int:
    number = CALLS.get(os.uname().machine)
    if number is None:
        raise UnsupportedError(f"perf_event_open is not known on {os.uname().machine}")
    watermark = _RING_PAGES * mmap.PAGESIZE // 2
    head = struct.pack(
        "<IIQQQQQII", _SOFTWARE, _SIZE, event, period, _FIELDS, reading, flags, watermark, 0
    )
    attributes = bytearray(head.ljust(_SIZE, b"\0"))
    struct.pack_into("<H", attributes, 108, _CHAIN_DEPTH)
    call = ctypes.CDLL(None, use_errno=True).syscall
    descriptor: int = call(number, bytes(attributes), tid, cpu, -1, 8)  # close on exec
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return descriptor


def _online() -> set[int]:
    """List the CPUs that run: threads may be moved to any of them."""
    with open("/sys/devices/system/cpu/online", encoding="ascii") as file:  # noqa: PTH123
        parts = [part.split("-") for part in file.read().strip().split(",")]
    return {cpu for part in parts for cpu in range(int(part[0]), int(part[-1]) + 1)}
