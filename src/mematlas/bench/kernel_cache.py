"""The kernels that were the fastest on this machine, kept for later processes.

A file for each machine and version in the user's cache folder. A choice changes no result, only time, and the
core refuses one that it could not have made. A file of another user, of another CPU or version, or with one
changed byte is not read. Where the folder cannot be written, each process measures for itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from mematlas import _core
from mematlas._core.bench.kernels import (
    KernelChoice,
    add_kernel_choice,
    clear_kernel_choices,
    kernel_choices,
    kernel_choices_made,
)
from mematlas._version import __version__
from mematlas.bench.fingerprint import caches

_FORMAT = 1
_MOST_BYTES = 1 << 20
_CPU_FIELDS = (
    "vendor_id", "cpu family", "model", "model name", "stepping", "microcode",
    "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision",
)  # fmt: skip
_TYPES = {"int": (int,), "str": (str,), "bool": (bool,), "dict[str, float]": (dict,)}

_loaded = False
_saved = 0


def machine_key() -> dict[str, Any]:
    """Return what a choice depends on beside the work: CPU, microcode, caches, page size and version."""
    cpus: set[tuple[tuple[str, str], ...]] = set()
    with suppress(OSError):
        for block in Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n"):
            lines = (line.partition(":") for line in block.splitlines())
            told = {name.strip(): value.strip() for name, _, value in lines}
            cpus.add(tuple((name, told[name]) for name in _CPU_FIELDS if name in told))
    return {
        "cpus": sorted([list(each) for each in cpu] for cpu in cpus if cpu),
        "caches": [asdict(each) for each in caches()],
        "page_size": _core.PAGE,
        "vectors": _core.stream_vectors(),
        "version": __version__,
    }


def cache_path(key: dict[str, Any]) -> Path:
    """Return the file of a machine. A home folder may be shared by several."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(base) if base.startswith("/") else Path.home() / ".cache"
    name = hashlib.sha256(_canonical(key)).hexdigest()[:16]
    return folder / "mematlas" / "kernels" / f"{name}.json"


def load() -> None:
    """Use the choices of earlier processes, once in a process. What cannot be believed is left out."""
    global _loaded  # noqa: PLW0603 - the choices are of the process, too
    if _loaded:
        return
    _loaded = True
    with suppress(OSError, RuntimeError):  # no home folder
        key = machine_key()
        for choice in read(cache_path(key), key):
            add_kernel_choice(choice)


def save() -> None:
    """Keep what this process measured since the last call. Nothing happens where that is not possible."""
    global _saved  # noqa: PLW0603
    made = kernel_choices_made()
    if made == _saved:
        return
    _saved = made
    with suppress(OSError, RuntimeError):
        key = machine_key()
        path = cache_path(key)
        mine = kernel_choices()
        kept = {_class(each): each for each in read(path, key)}
        kept |= {_class(each): each for each in mine if each.measured_here}
        write(path, key, list(kept.values()))


def measure_anew() -> None:
    """Forget the choices of this process, and do not read those of others."""
    global _loaded  # noqa: PLW0603
    _loaded = True
    clear_kernel_choices()


def in_use() -> list[KernelChoice]:
    """Return the choices of this process, by work and size."""
    return sorted(kernel_choices(), key=lambda each: (each.work, each.rows, each.columns))


def file_in_use() -> str | None:
    """Return the file that keeps the choices; None if none is believed, as where the folder cannot be written."""
    with suppress(OSError, RuntimeError):
        key = machine_key()
        path = cache_path(key)
        return str(path) if read(path, key) else None
    return None


def _class(choice: KernelChoice) -> tuple[Any, ...]:
    """Return what distinguishes the choices of one machine. `costs` names the allowed kernels."""
    return (
        choice.work, choice.rows, choice.columns, choice.from_step, choice.to_step,
        choice.from_pages, choice.to_pages, frozenset(choice.costs),
    )  # fmt: skip


def read(path: Path, key: dict[str, Any]) -> list[KernelChoice]:
    """Read the choices of a file; none if the file is missing or not to be believed."""
    try:
        found = json.loads(_trusted_bytes(path))
        body = {name: found[name] for name in ("format", "machine", "choices")}
        sound = (
            found["digest"] == hashlib.sha256(_canonical(body)).hexdigest()
            and body["format"] == _FORMAT
            and _canonical(body["machine"]) == _canonical(key)
        )
        return [_choice(each) for each in body["choices"]] if sound else []
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return []


def _trusted_bytes(path: Path) -> bytes:
    """Read a regular file that nobody but this user or root could write; else OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        status = os.fstat(descriptor)
        others = stat.S_IWGRP | stat.S_IWOTH
        if (
            not stat.S_ISREG(status.st_mode)
            or status.st_uid not in (os.geteuid(), 0)
            or status.st_mode & others
            or status.st_size > _MOST_BYTES
        ):
            raise PermissionError
        return file.read(_MOST_BYTES)


def _choice(data: dict[str, Any]) -> KernelChoice:
    values = {
        each.name: data[each.name] for each in fields(KernelChoice) if each.name != "measured_here"
    }
    for each in fields(KernelChoice):
        if each.name in values and type(values[each.name]) not in _TYPES[str(each.type)]:
            raise TypeError
    values["costs"] = {str(name): float(cost) for name, cost in values["costs"].items()}
    return KernelChoice(**values)


def write(path: Path, key: dict[str, Any], choices: list[KernelChoice]) -> None:
    """Write a file as a whole; OSError if that is not possible, or the folder is another user's."""
    folders = path.parents[:4]
    if not folders[-1].is_dir():  # no home folder: none is made
        raise FileNotFoundError
    # As by sudo, which keeps HOME: root would leave folders that the user cannot write, and follow the user's links.
    if not all(map(_is_own, folders)):
        raise PermissionError
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent.stat().st_uid != os.geteuid():
        raise PermissionError
    listed = [asdict(each) for each in choices]
    for each in listed:
        del each["measured_here"]
    body: dict[str, Any] = {"format": _FORMAT, "machine": key, "choices": listed}
    body["digest"] = hashlib.sha256(_canonical(body)).hexdigest()
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        part.unlink()
    try:
        with open(os.open(part, flags, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(body, file, indent=1)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _is_own(folder: Path) -> bool:
    """Return whether a folder, and a link that leads there, is of this user or root, or missing."""
    for follow in (False, True):
        with suppress(FileNotFoundError):
            if folder.stat(follow_symlinks=follow).st_uid not in (os.geteuid(), 0):
                return False
    return True


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
