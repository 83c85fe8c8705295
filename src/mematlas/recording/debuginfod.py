"""Client of debuginfod servers ($DEBUGINFOD_URLS), with the cache directory of elfutils.

Servers are asked only for files without local symbols, and only if that variable is set.

"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from pathlib import Path

_TIMEOUT_S = 90.0  # as in elfutils; $DEBUGINFOD_TIMEOUT overrides it
_MISS_S = 600.0  # how long a "not found" is cached
_BUILD_ID = re.compile(r"[0-9a-f]{8,128}\Z")
_given_up: dict[str, str] = {}  # servers that failed in this process, with the reason


def find(build_id: str) -> Path | None:
    """Return the debug file of a build, cached or fetched; None if no server has it."""
    servers = os.environ.get("DEBUGINFOD_URLS", "").split()
    if not servers or not _BUILD_ID.match(build_id):
        return None
    kept = _folder() / build_id / "debuginfo"
    try:
        status = kept.stat()
    except OSError:
        status = None
    if status and status.st_size:
        return kept
    if status and time.time() - status.st_mtime < _MISS_S:
        return None
    return kept if _fetch(servers, build_id, kept) else None


def failures() -> list[str]:
    """List the servers that could not be reached, and why."""
    return [f"debug information: {server}: {reason}" for server, reason in _given_up.items()]


def _folder() -> Path:
    named = os.environ.get("DEBUGINFOD_CACHE_PATH")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "debuginfod_client"


def _fetch(servers: list[str], build_id: str, kept: Path) -> bool:
    asked = False
    for server in servers:
        if server in _given_up or not server.startswith(("http://", "https://", "file://")):
            continue
        answer = _ask(server, build_id, kept)
        if answer:
            return True
        asked |= answer is not None
    if asked:  # an empty file caches "not found"
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            kept.write_bytes(b"")
    return False


def _ask(server: str, build_id: str, kept: Path) -> bool | None:
    """Fetch from one server. Return False if it does not have the file, None if it failed."""
    import urllib.error
    import urllib.request

    part = kept.with_suffix(f".{os.getpid()}.part")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        url = f"{server.rstrip('/')}/buildid/{build_id}/debuginfo"
        with (
            urllib.request.urlopen(url, timeout=_timeout()) as answer,  # noqa: S310  checked above
            part.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)
        part.replace(kept)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return False
        _given_up[server] = f"{error.code} {error.reason}"
    except (OSError, ValueError) as error:
        missing = server.startswith("file:") and "No such file" in str(error)
        if missing:
            return False
        _given_up[server] = str(getattr(error, "reason", error))
    else:
        return True
    finally:
        part.unlink(missing_ok=True)
    return None


def _timeout() -> float:
    try:
        return float(os.environ.get("DEBUGINFOD_TIMEOUT", "")) or _TIMEOUT_S
    except ValueError:
        return _TIMEOUT_S
