"""Symbolization of native addresses from ELF files and their separate debug files."""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import math
import os
import re
import time
import zlib
from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.linux.regular_file import open_regular
from mematlas.recording import debuginfod, elf, encoded_names, symbolic_package
from mematlas.recording.model import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from symbolic.symcache import SourceLocation, SymCache

    from mematlas.recording.model import Module

DEBUG_ROOT = Path("/usr/lib/debug")
CACHE_BYTES = 1 << 30  # limit of the cache; the least recently used files are removed
MINI_DEBUG_BYTES = 64 << 20  # a .gnu_debugdata that unpacks to more is not used
_BLOCK = 1 << 20
_MOST_COPIED = 1 << 30
_WORTH_KEEPING_S = 0.05
_CLONE = re.compile(
    r"(\.(cold|part|constprop|isra|lto_priv|llvm|localalias)(\.\d+)*)+$|_alias_\d+$|^__GI_|\.abi(0|internal)$"
)
_COLD = re.compile(r"\.cold(\.\d+)?$")
_STRING = re.compile(
    r"std::(__cxx11::)?basic_string<char, std::char_traits<char>, std::allocator<char> ?>( (?=>))?"
)
_VDSO = ("linux-vdso.so.1", "linux-gate.so.1", "[vdso]")
_TOO_MANY = "[too many modules at one address]"  # as the collector names it
_END_MARKS = {
    "_init": 64,
    "_fini": 64,
}  # symbols without a size, before the PLT and at the end of the text


@dataclass(slots=True)
class Table:
    """Symbols of one loaded file: lookup tables, best first. `note` says what is missing."""

    path: str
    load_address: int = 0
    caches: list[SymCache] = field(default_factory=list)
    note: str = ""
    sources: dict[int, Path] = field(default_factory=dict)  # by id() of the cache
    hot_names: dict[int, str] = field(default_factory=dict)
    starts: array[int] | None = None  # of functions; None: not read yet
    is_loaded: bool = False  # the file at `path` is the one that was loaded
    has_lines: bool = True  # False: the symbols tell where a function begins, and no more
    named: dict[tuple[object, ...], Frame] = field(default_factory=dict)  # each frame once

    def all_frames(self, file_addresses: list[int]) -> list[tuple[Frame, ...]]:
        """Return the frames of each of ascending return addresses."""
        if self.has_lines or len(self.caches) != 1:
            return [*map(self.frames, file_addresses)]
        cache, found, start = self.caches[0], list[tuple[Frame, ...]](), math.inf
        frames: tuple[Frame, ...] = ()
        # No symbol begins between a function's start and an address in it, so those before the address are in it too.
        for file_address in reversed(file_addresses):
            relative = file_address - 1 - self.load_address
            if relative < start:
                places = cache.lookup(relative) if relative >= 0 else []
                if len(places) == 1 and places[0].symbol not in _END_MARKS:
                    frames, start = self._named(places, cache), int(places[0].sym_addr)
                else:
                    frames, start = self.frames(file_address), math.inf
            found.append(frames)
        return found[::-1]

    def frames(self, file_address: int) -> tuple[Frame, ...]:
        """Return the frames of the call before a return address, innermost inlined frame first."""
        # A damaged recording may say that the file lies elsewhere.
        for cache in self.caches if file_address > self.load_address else ():
            found = cache.lookup(file_address - 1 - self.load_address)
            if found and not _past_the_end(found[-1], file_address - self.load_address):
                return self._named(found, cache)
        return (self._unnamed(file_address),)

    def _unnamed(self, file_address: int) -> Frame:
        """Return the frame of a function without a symbol: its module and start, and its length."""
        if self.starts is None:
            self.starts = elf.function_starts(self.path) if self.is_loaded else array("Q")
        name, index = self.path.rpartition("/")[2], bisect_right(self.starts, file_address - 1)
        start = self.starts[index - 1] if 0 < index < len(self.starts) else file_address
        length = self.starts[index] - start if 0 < index < len(self.starts) else None
        return Frame(f"{name}+{start:#x}", None, None, self.path, "native", length)

    def _symbol(self, found: SourceLocation, cache: SymCache) -> str:
        """Return the symbol of a function. Cold parts that start at the same address are told apart by their hot parts."""
        if not _COLD.search(found.symbol):
            return str(found.symbol)
        address = int(found.sym_addr)
        if address not in self.hot_names:
            source = self.sources.get(id(cache))
            self.hot_names[address] = (
                elf.function_at(source, address + self.load_address) if source else ""
            )
        return self.hot_names[address] or str(found.symbol)

    def _named(self, found: list[SourceLocation], cache: SymCache) -> tuple[Frame, ...]:
        last = len(found) - 1
        return tuple(self._frame(each, cache, number == last) for number, each in enumerate(found))

    def _frame(self, found: SourceLocation, cache: SymCache, outermost: bool) -> Frame:
        symbol = self._symbol(found, cache) if outermost else found.symbol
        key = (symbol, found.full_path, found.line, outermost)
        frame = self.named.get(key)
        if frame is None:
            kind = "native" if outermost else "inlined"
            file, line = found.full_path or None, found.line or None
            frame = self.named[key] = Frame(demangle(symbol), file, line, self.path, kind)
        return frame


def open_table(module: Module) -> Table:
    """Open the symbols of a module as loaded. A file of another build is never used."""
    if module.path in _VDSO:
        return Table("[vdso]")
    if module.path == _TOO_MANY:
        note = "more than 63 libraries were loaded at one address in turn; the later ones have no names"
        return Table(module.path, note=note)
    path = Path(module.path.removesuffix(" (deleted)"))
    table = Table(str(path))
    try:
        headers = elf.read(path)
    except OSError as error:
        headers = None
        table.note = f"{path}: {error.strerror}; functions are shown as module+offset"
    if headers and module.build_id and headers.build_id != module.build_id:
        table.note = (
            f"{path}: rebuilt since it was loaded (build ID {module.build_id[:12]}, now "
            f"{headers.build_id[:12] or 'none'}); functions are shown as module+offset"
        )
        headers = None
    debug = find_debug_file(path, headers, module.build_id)
    sources = [debug] if debug else []
    if headers:
        table.load_address = headers.load_address
        table.is_loaded = True
        sources.append(path)
    elif debug:
        table.note = ""  # symbols of the loaded build
        debug_headers = elf.read(debug)
        table.load_address = debug_headers.load_address if debug_headers else 0
    table.has_lines = debug is not None or headers is None or headers.has_debug
    _add_caches(table, sources, module.build_id)
    if headers and headers.mini_debug and not debug:
        table.caches[:0] = _open_mini_debug(headers.mini_debug)
    return table


def _add_caches(table: Table, sources: list[Path], build_id: str) -> None:
    if sources and not symbolic_package.load():
        table.note = symbolic_package.MISSING
        return
    for source in sources:
        for cache in _open(source, build_id):
            table.caches.append(cache)
            table.sources[id(cache)] = source


def find_debug_file(path: Path, headers: elf.Elf | None, build_id: str) -> Path | None:
    """Find the separate debug file of a build in the same places as gdb, or fetch it."""
    found = find_installed(path, headers, build_id)
    if found is None and (not headers or not headers.has_debug):
        fetched = debuginfod.find(build_id)
        return fetched if fetched and _belongs(fetched, build_id, None) else None
    return found


def find_installed(path: Path, headers: elf.Elf | None, build_id: str) -> Path | None:
    """Find the separate debug file of a build on this machine."""
    if build_id:
        found = DEBUG_ROOT / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
        if _belongs(found, build_id, None):
            return found
    if headers and headers.debug_link:
        name, check = headers.debug_link
        folder = Path(os.path.realpath(path)).parent  # Path.resolve() raises on a loop of links
        rooted = DEBUG_ROOT / folder.relative_to("/")
        for found in (folder / name, folder / ".debug" / name, rooted / name):
            if found != path and _belongs(found, build_id, check):
                return found
    return None


def _belongs(debug: Path, build_id: str, check: int | None) -> bool:
    try:
        headers = elf.read(debug)
        if headers is None:
            return False
        if build_id:
            return headers.build_id == build_id
        return check is not None and _crc32(debug) == check
    except OSError:
        return False


def _crc32(path: Path) -> int:
    check = 0
    with open_regular(path) as file:
        while block := file.read(_BLOCK):
            check = zlib.crc32(block, check)
    return check


def _open(path: Path, build_id: str) -> Iterator[SymCache]:
    """Yield the lookup table of a file, from the disk cache if possible."""
    from symbolic.debuginfo import Archive
    from symbolic.exceptions import SymbolicError
    from symbolic.symcache import SymCache

    kept = _kept(path, build_id)
    if kept and kept.is_file():
        with contextlib.suppress(SymbolicError, OSError):
            cache = SymCache.open(str(kept))
            if cache.is_latest_version:
                os.utime(kept)
                yield cache
                return
    start = time.monotonic()
    try:
        with open_regular(path) as file:
            opened = f"/proc/self/fd/{file.fileno()}"
            owner = os.fstat(file.fileno()).st_uid
            # Archive maps the file: another user could end this process by truncating it meanwhile.
            archive = (
                Archive.open(os.fsencode(opened))
                if owner in {0, os.geteuid()}
                else Archive.from_bytes(file.read(_MOST_COPIED))
            )
            made = next(archive.iter_objects()).make_symcache()
    except (SymbolicError, StopIteration, OSError):
        return
    if kept and time.monotonic() - start > _WORTH_KEEPING_S:
        _keep(made, kept)
    yield made


def _open_mini_debug(data: bytes) -> list[SymCache]:
    """Return the lookup table of .gnu_debugdata, which has the symbols of static functions only."""
    if not symbolic_package.load():
        return []
    from symbolic.debuginfo import Archive
    from symbolic.exceptions import SymbolicError

    try:
        unpacker = lzma.LZMADecompressor()
        whole = unpacker.decompress(data, MINI_DEBUG_BYTES)
        if not unpacker.eof:
            return []
        return [each.make_symcache() for each in Archive.from_bytes(whole).iter_objects()]
    except (lzma.LZMAError, SymbolicError, EOFError):
        return []


def cache_directory() -> Path:
    """Return the directory of cached lookup tables."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "mematlas" / "symbols"


def _kept(path: Path, build_id: str) -> Path | None:
    """Return the cache path of a file's table: build ID plus path, size and mtime.

    Without a build ID the inode and ctime tell the file, which a program cannot set.
    """
    try:
        status = path.stat()
        whole = f"{path}\0{status.st_size}\0{status.st_mtime_ns}".encode(errors="surrogateescape")
        if not build_id:
            inode = f"\0{status.st_dev}\0{status.st_ino}\0{status.st_ctime_ns}".encode()
            build_id = f"file-{hashlib.sha256(whole + inode).hexdigest()[:32]}"
        return cache_directory() / f"{build_id}-{zlib.crc32(whole):08x}.symcache"
    except (OSError, RuntimeError):
        return None


def _keep(cache: SymCache, path: Path) -> None:
    """Store a table in the cache. A full or read-only disk is not an error."""
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with part.open("wb") as file:
            cache.dump_into(file)
        part.replace(path)
        _drop_oldest(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()


def _drop_oldest(directory: Path) -> None:
    files = [(each.stat(), each) for each in directory.iterdir()]
    excess = sum(status.st_size for status, _ in files) - CACHE_BYTES
    for status, each in sorted(files, key=lambda pair: pair[0].st_mtime_ns):
        if excess <= 0:
            return
        each.unlink(missing_ok=True)
        excess -= status.st_size


def _past_the_end(outermost: SourceLocation, relative: int) -> bool:
    """Return whether a symbol without a size was found for an address far beyond it."""
    limit = _END_MARKS.get(outermost.symbol)
    return limit is not None and relative - int(outermost.sym_addr) > limit


@lru_cache(maxsize=1 << 16)  # a function has many return addresses
def demangle(symbol: str) -> str:
    """Demangle a name, without parameters and clone suffixes of the compiler."""
    from multi_demangle import DemangleOptions, demangle_symbol

    symbol = _CLONE.sub("", symbol)
    if not symbol.startswith(("_Z", "_R", "__Z")):
        return encoded_names.decode(symbol) or symbol
    return _STRING.sub("std::string", demangle_symbol(symbol, DemangleOptions.name_only()))
