"""One gzip stream, deflated in blocks by several threads."""

from __future__ import annotations

import os
import resource
import struct
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_BLOCK = 1 << 20  # bytes deflated together; larger ones shrink hardly better
_HEAD = b"\x1f\x8b\x08" + bytes(6) + b"\xff"  # deflate, no name, no time, unknown system
_TRAILER = struct.Struct("<II")
_RAW = -15  # window bits of deflate without a head
_LAST_BLOCK = b"\x03\x00"  # an empty block that ends the stream


def compress(pieces: Iterable[bytes], level: int) -> Iterator[bytes]:
    """Yield one gzip stream of all pieces together.

    Each block ends at a byte with a flush, so that blocks deflated apart make up one stream.
    """
    workers = min(4, len(os.sched_getaffinity(0)))
    alone = _memory_is_limited()
    waiting: deque[Future[bytes]] = deque()
    checksum = length = 0
    yield _HEAD
    with ThreadPoolExecutor(workers) as pool:
        start: Callable[..., Future[bytes]] = _in_this_thread if alone else pool.submit
        for block in _blocks(pieces):
            checksum, length = zlib.crc32(block, checksum), length + len(block)
            try:
                waiting.append(start(_deflate, block, level))
            except RuntimeError:  # no memory or no right for one thread more
                start = _in_this_thread
                waiting.append(start(_deflate, block, level))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    yield _LAST_BLOCK + _TRAILER.pack(checksum, length & 0xFFFFFFFF)


def _memory_is_limited() -> bool:
    """Return whether a thread may find no memory to begin with; CPython then waits for it forever."""
    limits = (resource.getrlimit(each)[0] for each in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    return any(limit != resource.RLIM_INFINITY for limit in limits)


def _in_this_thread(work: Callable[[bytes, int], bytes], block: bytes, level: int) -> Future[bytes]:
    done: Future[bytes] = Future()
    done.set_result(work(block, level))
    return done


def _deflate(block: bytes, level: int) -> bytes:
    stream = zlib.compressobj(level, zlib.DEFLATED, _RAW)
    return stream.compress(block) + stream.flush(zlib.Z_SYNC_FLUSH)


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join small pieces to blocks."""
    held, size = [], 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
