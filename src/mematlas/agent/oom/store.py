"""Reports of OOM kills on disk: one file each, with the recordings of those who were killed; bounded."""

from __future__ import annotations

import dataclasses
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mematlas.agent.oom.model import OomLine, OomPart, OomProcess, OomReport, OomUsage
from mematlas.agent.profile.recorder import replace_file
from mematlas.errors import AccessError, MematlasError, TargetError
from mematlas.present import json_writer

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_REPORTS = 200
_FOLDER = "oom"
_INNER = {
    "processes": OomProcess,
    "parts": OomPart,
    "usages": OomUsage,
    "process_parts": OomPart,
    "lines": OomLine,
}


def write_report(state: str, report: OomReport) -> None:
    """Write a report. OSError as of open()."""
    folder = Path(state, _FOLDER)
    folder.mkdir(mode=0o700, exist_ok=True)
    replace_file(str(folder / f"{report.id}.json"), json_writer.render("oom", report).encode())


def keep_recording(state: str, report: str, recording: str) -> str:
    """Keep a recording with a report, though it goes on or is removed; return its name, "" if that fails."""
    folder = Path(state, _FOLDER)
    name = f"{report}.atlas"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileExistsError):
            os.link(recording, folder / name)
        return name
    return ""


def list_reports(state: str) -> list[str]:
    """Return the IDs of all reports, the newest first. Raises AccessError if they may not be read."""
    try:
        names = [each.name for each in Path(state, _FOLDER).iterdir()]
    except FileNotFoundError:
        return []
    except PermissionError:
        raise AccessError(f"permission denied: {state}/{_FOLDER}; run as root") from None
    found = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    return sorted(found, key=_order, reverse=True)


def _order(name: str) -> tuple[str, int]:
    moment, _, number = name.rpartition("-")
    return moment, int(number) if number.isdecimal() else 0


def read_report(state: str, name: str) -> OomReport:
    """Read a report by its ID.

    Raises:
        TargetError: there is none.
        AccessError: it may not be read.
        MematlasError: the file is damaged.
    """
    path = Path(state, _FOLDER, f"{name}.json")
    if "/" in name:
        raise TargetError(f"there is no report {name!r}")
    try:
        data = json.loads(path.read_bytes())["data"]
        return _report(data)
    except FileNotFoundError:
        raise TargetError(
            f"there is no report {name!r}; `mematlas oom --list` lists them"
        ) from None
    except PermissionError:
        raise AccessError(f"permission denied: {path}; run as root") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MematlasError(f"{path} is damaged: {error}") from None


def _report(data: dict[str, Any]) -> OomReport:
    """Build a report from JSON. Fields of a newer version are left out."""
    values = _known(OomReport, data)
    for name, kind in _INNER.items():
        values[name] = tuple(kind(**_known(kind, each)) for each in data.get(name, ()))
    values["lines"] = tuple(
        dataclasses.replace(each, stack=tuple(each.stack)) for each in values["lines"]
    )
    values["notes"] = tuple(data.get("notes", ()))
    return OomReport(**values)


def _known(kind: Any, data: dict[str, Any]) -> dict[str, Any]:
    names = {each.name for each in dataclasses.fields(kind)}
    return {key: value for key, value in data.items() if key in names}


def recording_path(state: str, name: str) -> str:
    """Return the path of a recording that was kept with a report."""
    return str(Path(state, _FOLDER, os.path.basename(name)))  # noqa: PTH119


def prune(state: str, most_bytes: int, busy: Iterable[str] = ()) -> int:
    """Remove the oldest recordings, then the oldest reports, until the folder is within its limit; return its bytes.

    `busy` are recordings that are being written.
    """
    kept = {os.path.realpath(each) for each in busy}
    recordings = [
        each for each in _files(Path(state, "recordings")) if os.path.realpath(each) not in kept
    ]
    reports = _files(Path(state, _FOLDER))
    for each in [path for path in reports if path.suffix == ".json"][:-MOST_REPORTS]:
        _remove(each)
    used = used_bytes(state)
    for each in (*recordings, *reports):
        if used <= most_bytes:
            break
        used -= _remove(each)
    return used


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder, the oldest first."""
    found = []
    with suppress(OSError):
        for each in folder.iterdir():
            with suppress(OSError):
                found.append((each.lstat().st_mtime_ns, each))
    return [path for _, path in sorted(found)]


def _remove(path: Path) -> int:
    """Remove a file, and the recording of a report; return the bytes on disk that this freed."""
    freed = 0
    paths = [path, path.with_suffix(".atlas")] if path.suffix == ".json" else [path]
    for each in paths:
        with suppress(OSError):
            status = each.lstat()
            each.unlink()
            freed += status.st_blocks * 512 if status.st_nlink == 1 else 0
    return freed


def used_bytes(state: str) -> int:
    """Return the bytes on disk of a folder and those in it; a file with two names counts once."""
    sizes: dict[int, int] = {}
    for folder in (Path(state), Path(state, _FOLDER), Path(state, "recordings")):
        with suppress(OSError), os.scandir(folder) as entries:
            for each in entries:
                with suppress(OSError):
                    status = each.stat(follow_symlinks=False)
                    sizes[status.st_ino] = status.st_blocks * 512
    return sum(sizes.values())
