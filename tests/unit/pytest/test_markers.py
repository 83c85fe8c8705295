"""The arguments of the markers: pytest-memray's, and one clear error for any other."""

from __future__ import annotations

from typing import Any

import pytest

from mematlas.pytest.limits import parse_marker


def keep(_: object) -> bool:
    """Return True: every stack counts."""
    return True


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "expected"),
    [
        ("limit_memory", ["1 KB"], {}, (1024, False, None)),
        ("limit_memory", [], {"limit": "1 KB"}, (1024, False, None)),
        ("limit_memory", [], {"memory_limit": "1 KB"}, (1024, False, None)),
        ("limit_memory", ["1 KB"], {"current_thread_only": True}, (1024, True, None)),
        ("limit_resident", ["1 KB"], {}, (1024, False, None)),
        ("limit_leaks", [], {"location_limit": "1 KB"}, (1024, False, None)),
        ("limit_leaks", ["1 KB"], {"filter_fn": keep}, (1024, False, keep)),
        (
            "limit_leaks",
            ["1 KB"],
            {"filter_fn": None, "current_thread_only": True},
            (1024, True, None),
        ),
    ],
)
def test_arguments_are_those_of_pytest_memray(
    name: str, args: list[Any], kwargs: dict[str, Any], expected: tuple[int, bool, object]
) -> None:
    """By position the size alone, by name the rest."""
    limit = parse_marker(name, args, kwargs)
    assert (limit.limit_bytes, limit.current_thread_only, limit.filter_fn) == expected


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "message"),
    [
        ("limit_memory", [], {}, 'a size is missing; write limit_memory("24 MB", '),
        ("limit_memory", ["1 KB", True], {}, "2 sizes are given"),
        ("limit_memory", ["1 KB"], {"limit": "2 KB"}, "2 sizes are given"),
        ("limit_memory", ["1 KB"], {"filter_fn": keep}, "no argument is named filter_fn"),
        ("limit_memory", ["1 KB"], {"max": 1}, "no argument is named max"),
        ("limit_resident", ["1 KB"], {"current_thread_only": True}, "named current_thread_only"),
        ("limit_leaks", [], {"memory_limit": "1 KB"}, "no argument is named memory_limit"),
        (
            "limit_leaks",
            ["1 KB"],
            {"warmups": 3},
            "no argument is named warmups; write limit_leaks",
        ),
        ("limit_leaks", ["1 KB"], {"filter_fn": 3}, "filter_fn cannot be called: 3"),
    ],
)
def test_other_arguments_are_refused(
    name: str, args: list[Any], kwargs: dict[str, Any], message: str
) -> None:
    """The error names the argument, and the marker as it has to be written."""
    with pytest.raises(TypeError, match="write limit_") as caught:
        parse_marker(name, args, kwargs)
    assert message in str(caught.value)
