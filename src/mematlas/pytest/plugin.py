"""Options and markers of the pytest plugin. What measures is imported only when a test is to be measured.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import pytest  # noqa: TC002 - pytest reads the types of its hooks

_MARKERS = (
    'limit_memory(limit, *, current_thread_only=False): fail the test if it holds "24 MB" or more at its peak',
    'limit_resident(limit): fail the test if RSS grows by "24 MB" or more while it runs',
    "limit_leaks(location_limit, *, filter_fn=None, current_thread_only=False): fail if a call stack leaves it",
)
_NAMES = frozenset(marker.partition("(")[0] for marker in _MARKERS)
_SHARED = frozenset(("limit_memory", "limit_leaks"))  # with pytest-memray
_KEY = "mematlas_measuring"


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
        ("hide-mematlas-summary", "do not list the heaviest tests"),
    ):
        group.addoption(f"--{name}", action="store_true", default=None, help=text)
        parser.addini(name.replace("-", "_"), text, type="bool", default=False)
    for name, default, text in (
        ("mematlas-top", "10", "list the N heaviest tests (0: all)"),
        ("mematlas-stacks", "1", "show N frames of each stack of a failure"),
    ):
        group.addoption(f"--{name}", metavar="N", type=int, default=None, help=text)
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


def pytest_configure(config: pytest.Config) -> None:
    """Describe the markers, and start measuring if it is asked for."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    if option(config, "mematlas"):
        _measuring(config, _NAMES)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start measuring if a test has one of the markers. pytest-memray judges those that it shares."""
    config = session.config
    if config.pluginmanager.hasplugin(_KEY) or config.option.collectonly:
        return
    names = _NAMES - _SHARED if config.pluginmanager.hasplugin("memray_manager") else _NAMES
    if any(mark.name in names for item in session.items for mark in item.iter_markers()):
        _measuring(config, names)


def option(config: pytest.Config, name: str) -> object:
    """Return an option of the command line, or else of the configuration."""
    given = config.getoption(name.replace("-", "_"), None)
    return config.getini(name.replace("-", "_")) if given is None else given


def _measuring(config: pytest.Config, names: frozenset[str]) -> None:
    from mematlas.pytest.measuring import Measuring

    measuring = Measuring(config, lambda name: option(config, name), names)
    config.pluginmanager.register(measuring, _KEY)
