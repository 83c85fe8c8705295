"""A reference smaps parser in plain Python: slow, simple, and independent of the one in C."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mematlas.linux.mappings import Mappings

HEADER = re.compile(
    rb"([0-9a-f]+)-([0-9a-f]+) ([r-])([w-])([x-])([sp]) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) *(.*)",
    re.DOTALL,
)
FIELD = re.compile(rb"([A-Z][\w-]*): *(\d+)( kB)?")


def parse(text: bytes) -> list[dict[str, Any]]:
    """Return each mapping as a dict: start, end, perms, offset, device, inode, name, flags, fields."""
    rows: list[dict[str, Any]] = []
    for line in text.split(b"\n"):
        if match := HEADER.fullmatch(line):
            rows.append(_mapping(match))
        elif line.startswith(b"VmFlags:"):
            rows[-1]["flags"] = frozenset(line.decode().split()[1:])
        elif match := FIELD.match(line):
            unit = 1024 if match[3] else 1
            rows[-1]["fields"][match[1].decode()] = int(match[2]) * unit
    return rows


def _mapping(match: re.Match[bytes]) -> dict[str, Any]:
    return {
        "start": int(match[1], 16),
        "end": int(match[2], 16),
        "permissions": b"".join(match.group(3, 4, 5, 6)).decode(),
        "offset": int(match[7], 16),
        "device": (int(match[8], 16), int(match[9], 16)),
        "inode": int(match[10]),
        "name": match[11],
        "flags": frozenset(),
        "fields": {},
    }


def as_dicts(mappings: Mappings) -> list[dict[str, object]]:
    """Return mappings in the form of parse()."""
    names = ("start", "end", "offset", "device", "inode", "name", "flags", "fields")
    return [
        {name: getattr(row, name) for name in names} | {"permissions": row.permissions.text()}
        for row in mappings
    ]
