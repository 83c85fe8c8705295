"""Options and markers of the pytest plugin. What measures is imported only when a test is to be measured.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

_MARKERS = (
    'limit_memory(limit, *, current_thread_only=False): fail the test if it holds "24 MB" or more at its peak',
    'limit_resident(limit): fail the test if RSS grows by "24 MB" or more while it runs',
    "limit_leaks(location_limit, *, filter_fn=None, current_thread_only=False): fail if a call stack leaves it",
)
_NAMES = frozenset(marker.partition("(")[0] for marker in _MARKERS)
_SHARED = frozenset(("limit_memory", "limit_leaks"))  # with pytest-memray
LEFT_OUT = "limit_leaked_objects"  # a marker of pytest-memray that would pass unseen
_KEY = "mematlas_measuring"
_INSTEAD = {  # of options of pytest-memray
    "--memray": "--mematlas",
    "--memray-bin-path": "--mematlas-dir",
    "--memray-bin-prefix": "--mematlas-dir with a directory for each run",
    "--hide-memray-summary": "--hide-mematlas-summary",
    "--most-allocations": "--mematlas-top",
    "--stacks": "--mematlas-stacks",
    "--native": "--mematlas-native",
    "--trace-python-allocators": "no such option, since Python objects always count",
    "--fail-on-increase": "--mematlas-fail-on-increase",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options, and the same in the configuration."""
    group = parser.getgroup("mematlas", "memory of tests (mematlas)")
    for name, text in (
        ("mematlas", "measure the memory of each test, and list the heaviest"),
        ("mematlas-exact", "record every allocation, not a sample (slower)"),
        (
            "mematlas-fail-on-increase",
            "fail a limit_memory test that needs more than in its last good run",
        ),
        ("mematlas-native", "show the C and C++ frames of the stacks of a failure, too"),
        ("hide-mematlas-summary", "do not list the heaviest tests"),
    ):
        group.addoption(f"--{name}", action="store_true", default=None, help=text)
        parser.addini(name.replace("-", "_"), text, type="bool", default=False)
    for name, default, text in (
        ("mematlas-top", "10", "list the N heaviest tests (0: all)"),
        ("mematlas-stacks", "1", "show N frames of each stack of a failure"),
    ):
        group.addoption(f"--{name}", metavar="N", default=None, help=text)
        parser.addini(name.replace("-", "_"), f"{text} (default {default})", default=default)
    text = "keep a recording of each test in this directory, for `mematlas report`"
    group.addoption("--mematlas-dir", metavar="DIR", default=None, help=text)
    parser.addini("mematlas_dir", text, default="")
    for name in sorted(_NAMES):
        text = f"{name} of tests without that marker, such as 24 MB; under --mematlas"
        parser.addini(f"mematlas_{name}", text, default="")
    parser.addini(
        "verbosity_mematlas", "verbosity of failed limits (default as -v and -q)", default="auto"
    )


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    parser: pytest.Parser, args: list[str]
) -> Generator[None, object, object]:
    """Refuse options of pytest-memray that nobody has declared, by the names that they have here.

    Raises:
        UsageError: of pytest, for such options.
    """
    result = yield
    if any(arg.partition("=")[0] in _INSTEAD for arg in args):
        _, unknown = parser.parse_known_and_unknown_args(args)
        names = list(dict.fromkeys(arg.partition("=")[0] for arg in unknown))
        wrong = "; ".join(
            f"{name}: mematlas has {_INSTEAD[name]}" for name in names if name in _INSTEAD
        )
        if wrong:
            raise pytest.UsageError(f"options of pytest-memray, which is not loaded: {wrong}")
    return result


def pytest_configure(config: pytest.Config) -> None:
    """Describe the markers, and start measuring if it is asked for."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    if option(config, "mematlas"):
        _measuring(config, _names(config))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start measuring if a test has one of the markers. pytest-memray judges those that it shares."""
    config = session.config
    if config.pluginmanager.hasplugin(_KEY) or config.option.collectonly:
        return
    names = _names(config) - (_SHARED if _is_beside_memray(config) else frozenset())
    if any(mark.name in names for item in session.items for mark in item.iter_markers()):
        _measuring(config, names)


def option(config: pytest.Config, name: str) -> object:
    """Return an option of the command line, or else of the configuration."""
    given = config.getoption(name.replace("-", "_"), None)
    return config.getini(name.replace("-", "_")) if given is None else given


def _is_beside_memray(config: pytest.Config) -> bool:
    return config.pluginmanager.hasplugin("memray_manager")


def _names(config: pytest.Config) -> frozenset[str]:
    """Return the markers to judge, and to refuse: the one that is left out, unless another plugin has it."""
    declared = [
        line.partition(":")[0].partition("(")[0].strip() for line in config.getini("markers")
    ]
    is_of_another = _is_beside_memray(config) or LEFT_OUT in declared
    return _NAMES if is_of_another else _NAMES | {LEFT_OUT}


def _measuring(config: pytest.Config, names: frozenset[str]) -> None:
    from mematlas.pytest.measuring import Measuring

    measuring = Measuring(config, lambda name: option(config, name), names)
    config.pluginmanager.register(measuring, _KEY)
