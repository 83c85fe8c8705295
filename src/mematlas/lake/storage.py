"""Where a lake is: a folder, or a bucket of an object store.

Files are written whole or not at all, and never changed. `create()` fails where a file exists: of two writers one wins.
"""

from __future__ import annotations

import os
import secrets
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from mematlas.errors import AccessError, MematlasError, TargetError, UnsupportedError, UsageError


class Storage(Protocol):
    """What a lake asks of the place where it is."""

    name: str

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, ascending; none if it does not exist."""

    def paths(self, folder: str) -> list[tuple[str, float]]:
        """Return all files below a folder: paths relative to the lake, Unix times of their change."""

    def read(self, path: str) -> bytes:
        """Return a file; FileNotFoundError."""

    def write(self, path: str, data: bytes) -> None:
        """Write a file as a whole."""

    def create(self, path: str, data: bytes) -> bool:
        """Write a file as a whole, unless there is one. Return whether it was written."""

    def remove(self, path: str) -> None:
        """Remove a file, if there is one."""

    def url(self, path: str) -> str:
        """Return the name by which an engine opens a file."""


class NotWrittenError(MematlasError):
    """A file is not in the lake, which is certain: a bucket may have it, though an answer was lost."""


def open_storage(name: str) -> Storage:
    """Return the storage of a lake: a folder, or s3://BUCKET/PREFIX."""
    scheme, found, _ = name.partition("://")
    if not found:
        return Folder(name)
    if scheme != "s3":
        raise UsageError(f"{name}: a lake is a folder or s3://BUCKET/PREFIX")
    return Bucket(name)


class Folder:
    """A folder of this machine, or of a network file system that has hard links."""

    def __init__(self, name: str) -> None:
        """Use a folder that may not exist yet."""
        self.name = name
        self._root = Path(name).absolute()

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, ascending; none if it does not exist."""
        try:
            return sorted(each.name for each in (self._root / folder).iterdir())
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            raise UsageError(f"{self.name} is a file; a lake is a folder") from None
        except PermissionError:
            raise AccessError(f"{self.name}/{folder} may not be read by this user") from None

    def paths(self, folder: str) -> list[tuple[str, float]]:
        """Return all files below a folder: paths relative to the lake, Unix times of their change."""
        found = []
        for path in (self._root / folder).rglob("*"):
            try:
                if path.is_file():
                    found.append((str(path.relative_to(self._root)), path.stat().st_mtime))
            except FileNotFoundError:  # a temporary file that has its name now
                continue
        return found

    def read(self, path: str) -> bytes:
        """Return a file; FileNotFoundError."""
        return (self._root / path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        """Write a file as a whole."""
        part = self._part(path, data)
        part.replace(self._root / path)
        _sync(part.parent)

    def create(self, path: str, data: bytes) -> bool:
        """Write a file as a whole, unless there is one. Return whether it was written.

        A hard link is made in one step and fails where there is a file; a rename would replace that file.
        """
        part = self._part(path, data)
        try:
            os.link(part, self._root / path)
        except FileExistsError:
            return False
        except OSError as error:
            raise UnsupportedError(
                f"{self.name}: {error.strerror}; a lake needs a file system with hard links"
            ) from None
        finally:
            part.unlink(missing_ok=True)
        _sync(part.parent)
        return True

    def remove(self, path: str) -> None:
        """Remove a file, if there is one, and the folders that are empty then."""
        full = self._root / path
        full.unlink(missing_ok=True)
        try:
            for parent in full.parents:
                if parent == self._root:
                    break
                parent.rmdir()
        except OSError:  # not empty, or a writer makes a file there
            pass

    def url(self, path: str) -> str:
        """Return the name by which an engine opens a file."""
        return str(self._root / path)

    def _part(self, path: str, data: bytes) -> Path:
        """Write a temporary file beside `path`, which reaches the disk before the name does."""
        target = self._root / path
        part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
        for _ in range(8):  # `remove` of another process may take the folder away meanwhile
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with part.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            except FileNotFoundError:
                continue
            except OSError as error:
                part.unlink(missing_ok=True)
                raise NotWrittenError(f"cannot write {self.name}: {error.strerror}") from None
            return part
        raise MematlasError(f"cannot write {self.name}: its folders are being removed")


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


class Bucket:
    """A prefix of an S3 bucket. `create` is a conditional PUT, which the store must know (S3 does since 2024)."""

    def __init__(self, name: str) -> None:
        """Use the credentials and the endpoint of the environment, as all AWS tools do."""
        try:
            s3fs = import_module("s3fs")
        except ModuleNotFoundError as error:
            if error.name != "s3fs":
                raise
            raise UnsupportedError("s3:// needs s3fs: run `pip install s3fs`") from None
        self.name = name.rstrip("/")
        # Listings are not kept: other writers add files.
        self.files: Any = s3fs.S3FileSystem(use_listings_cache=False)

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, ascending; none if it does not exist."""
        try:
            found = self.files.ls(f"{self.name}/{folder}", detail=False, refresh=True)
        except FileNotFoundError:
            return []
        except PermissionError as error:
            raise AccessError(f"{self.name}: {error}") from None
        return sorted(filter(None, (str(each).rsplit("/", 1)[-1] for each in found)))

    def paths(self, folder: str) -> list[tuple[str, float]]:
        """Return all files below a folder: paths relative to the lake, Unix times of their change."""
        found = self.files.find(f"{self.name}/{folder}", detail=True, refresh=True)
        root = self.name.removeprefix("s3://")
        return [
            (str(path)[len(root) + 1 :], info["LastModified"].timestamp())
            for path, info in found.items()
        ]

    def read(self, path: str) -> bytes:
        """Return a file; FileNotFoundError."""
        return bytes(self.files.cat_file(f"{self.name}/{path}"))

    def write(self, path: str, data: bytes) -> None:
        """Write a file as a whole."""
        self.files.pipe_file(f"{self.name}/{path}", data)

    def create(self, path: str, data: bytes) -> bool:
        """Write a file as a whole, unless there is one. Return whether it was written."""
        try:
            self.files.pipe_file(f"{self.name}/{path}", data, mode="create")
        except FileExistsError:
            return False
        except TypeError:
            raise UnsupportedError("s3:// needs s3fs 2025.2 or later") from None
        return True

    def remove(self, path: str) -> None:
        """Remove a file, if there is one."""
        try:
            self.files.rm_file(f"{self.name}/{path}")
        except FileNotFoundError:
            return

    def url(self, path: str) -> str:
        """Return the name by which an engine opens a file."""
        return f"{self.name}/{path}"


def new_path(table: str, day: str, service: str) -> str:
    """Return a path for a new file of a table, in its partition; never one that was returned before."""
    parts = [table]
    parts += [f"day={day}"] if day else []
    parts += [f"service={quote(service, safe='') or '%00'}"] if service else []
    return "/".join([*parts, f"{secrets.token_hex(12)}.parquet"])


def missing(name: str) -> TargetError:
    """Return the error for a lake that does not exist."""
    return TargetError(f"{name} is no lake; make one with `mematlas lake add FILE --to {name}`")
