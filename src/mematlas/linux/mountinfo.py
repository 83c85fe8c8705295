"""Lines of /proc/PID/mountinfo: proc_pid_mountinfo(5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Mount(NamedTuple):
    """One mount as a process sees it."""

    mount_id: str
    device: str  # MAJOR:MINOR, as st_dev of its files
    path: str  # a blank reads \040
    kind: str  # of file system
    options: tuple[str, ...] = ()  # of the file system, not of the mount


def parse(text: str) -> Iterator[Mount]:
    """Parse a mountinfo. Lines that are none are left out."""
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        words, more = fields.split(), rest.split(" ")
        if len(words) >= 5:
            options = tuple(more[2].split(",")) if len(more) > 2 else ()
            yield Mount(words[0], words[2], words[4], more[0], options)
