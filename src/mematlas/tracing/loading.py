"""Loading the tracer's library into a stopped thread's process, whatever files that process can open.

A process with another root directory cannot open the library by its path. It gets a copy in a sealed memfd of
its own, or, where it has no /proc to open that by, in a file that is removed at once.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import secrets
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.errors import MematlasError
from mematlas.linux.system_calls import system_call_number
from mematlas.recording import elf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas._core import StoppedThread
    from mematlas.tracing.target import CodeMapping, Target

_RTLD_NOW, _RTLD_NODELETE = 2, 0x1000
_MFD_CLOEXEC, _MFD_ALLOW_SEALING = 1, 2
_MFD_EXEC = 0x10  # Linux 6.3; EINVAL before, where each memfd is executable
_SEAL_ALL = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_NAME = "mematlas-tracer"
_FOLDERS = ("tmp", "var/tmp", "dev/shm", "run")
_MESSAGE_BYTES = 256
_MAX_SLASHES = 64


def find_tracer(target: Target, library: str) -> CodeMapping | None:
    """Find the tracer's library in a process by its build ID, whatever it was loaded from."""
    wanted = _build_id(library)
    for mapping in target.read_code():
        if "mematlas" in mapping.name and wanted:
            found = target.process_code.read_build_id(mapping.image)
            if found == wanted:
                return mapping
    return None


def find_detach_functions(target: Target) -> list[int]:
    """Find the detach function of each tracer in a process, also of versions that are replaced on disk."""
    images = {each.image: each for each in target.read_code() if "mematlas" in each.name}
    found = (target.find_function(each, "mematlas_detach") for each in images.values())
    return [each for each in found if each]


def load_tracer(target: Target, thread: StoppedThread, library: str) -> CodeMapping:
    """Load the library, unless it is loaded already, and return its mapping.

    Raises:
        MematlasError: the process cannot load it; the message has its loader's reason.
        OSError: as of StoppedThread.call().
    """
    if found := find_tracer(target, library):
        return found
    reason = ""
    # The loader takes a library for loaded that has the path of one, though another version is there now.
    ways = (_from_path, _from_memfd, _from_file)[not target.sees(library) :]
    for way in ways:
        with way(target, thread, library) as path:
            if not path:
                continue
            flags = _RTLD_NOW | _RTLD_NODELETE
            if not thread.call(target.dlopen, thread.put(os.fsencode(path) + b"\0"), flags):
                reason = _read_reason(target, thread)
        if found := find_tracer(target, library):
            return found
    raise MematlasError(
        f"process {target.pid} could not load {library}: {reason or 'it can open no copy of it'}"
    )


@contextmanager
def _from_path(_target: Target, _thread: StoppedThread, library: str) -> Iterator[str]:
    yield library


@contextmanager
def _from_memfd(target: Target, thread: StoppedThread, library: str) -> Iterator[str]:
    """Copy the library to a memfd of the process; "" if it can have none."""
    name = thread.put(_NAME.encode() + b"\0")
    flags = _MFD_CLOEXEC | _MFD_ALLOW_SEALING
    create = system_call_number("memfd_create")
    try:
        try:
            descriptor = thread.system_call(create, name, flags | _MFD_EXEC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            descriptor = thread.system_call(create, name, flags)
    except OSError:
        yield ""
        return
    try:
        try:
            taken = thread.take_descriptor(descriptor)
        except (
            OSError
        ):  # ENOSYS before Linux 5.6; EPERM, EACCES by a filter or security module of ours
            yield ""
            return
        try:
            _fill_memfd(taken, target.pid, library)
        finally:
            os.close(taken)
        slashes = "/" * (1 + secrets.randbelow(_MAX_SLASHES))  # a path that no loaded library has
        yield f"/proc/self/fd{slashes}{descriptor}"
    finally:
        thread.system_call(system_call_number("close"), descriptor)


def _fill_memfd(file: int, pid: int, library: str) -> None:
    """Write the library to a descriptor taken from the process, and seal it.

    Another thread may have put another file at its number. What is written goes through the descriptor of the
    process, never through one opened here, which would have the rights of this user.
    """
    if not _is_new_memfd(file):
        raise MematlasError(f"process {pid} replaced the memfd for the tracer by another file")
    _copy(library, file)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEAL_ALL)


def _is_new_memfd(file: int) -> bool:
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink or found.st_size:
        return False
    try:
        return not fcntl.fcntl(file, fcntl.F_GET_SEALS)  # EINVAL: its file system has no seals
    except OSError:
        return False


@contextmanager
def _from_file(target: Target, _thread: StoppedThread, library: str) -> Iterator[str]:
    """Copy the library to a file in the root directory of the process; "" if no directory takes one."""
    for folder in _FOLDERS:
        name = f".{_NAME}-{secrets.token_hex(8)}"
        try:
            directory = _open_below(Path(f"/proc/{target.pid}/root"), folder)
        except OSError:
            continue
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                file = os.open(name, flags, 0o555, dir_fd=directory)
            except OSError:
                continue
            try:
                try:
                    os.fchmod(file, 0o555)
                    _copy(library, file)
                finally:
                    os.close(file)
                yield f"/{folder}/{name}"
            finally:
                os.unlink(name, dir_fd=directory)
            return
        finally:
            os.close(directory)
    yield ""


def _open_below(root: Path, folder: str) -> int:
    """Open a directory step by step; no link leads out of the other root."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    directory = os.open(root, flags)
    for part in folder.split("/"):
        try:
            below = os.open(part, flags | os.O_NOFOLLOW, dir_fd=directory)
        finally:
            os.close(directory)
        directory = below
    return directory


def _copy(library: str, file: int) -> None:
    data = memoryview(_read(library))
    while data:
        data = data[os.write(file, data) :]


@functools.cache
def _read(library: str) -> bytes:
    return Path(library).read_bytes()


def _read_reason(target: Target, thread: StoppedThread) -> str:
    """Read the reason of the process's loader by dlerror()."""
    function = target.find_in_libraries("dlerror")
    address = thread.call(function, 0, 0) if function else 0
    if not address:
        return ""
    try:
        text = thread.get(address, _MESSAGE_BYTES)
    except OSError:  # the text is near the end of a mapping
        return ""
    return text.partition(b"\0")[0].decode(errors="replace")


@functools.cache  # the program waits while it is loaded
def _build_id(library: str) -> bytes:
    found = elf.read(library)
    return bytes.fromhex(found.build_id) if found else b""
