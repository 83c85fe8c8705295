"""The kernel's list format for CPUs and nodes: `0-3,8`."""

from __future__ import annotations

from mematlas.errors import UsageError


def parse_list(text: str) -> list[int]:
    """Parse the kernel's list notation, such as "0-3,8", into sorted numbers. Raises UsageError."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        try:
            numbers.extend(range(int(first), int(last if dash else first) + 1))
        except ValueError:
            raise UsageError(f"{text.strip()!r} is not a list of numbers such as 0-3,8") from None
    if not numbers:
        raise UsageError(f"{text.strip()!r} is an empty list")
    return sorted(set(numbers))
