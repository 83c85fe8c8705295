"""Measures tests, judges their limits and prints the table.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import hashlib
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mematlas.errors import MematlasError
from mematlas.pytest import resident
from mematlas.pytest.limits import NAMES, Judge, Limit, Violation, parse_marker, parse_size
from mematlas.pytest.plugin import LEFT_OUT
from mematlas.pytest.session import Sampling, TestFigures, TestRecorder
from mematlas.pytest.text import Results, table, title
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator

_MOST_NAME = 255  # bytes of a file name
_MOST_CANDIDATES = 250  # recordings that are kept for lines, of --mematlas-top 0
_LEAST_KEPT = 1 << 20  # bytes of a peak whose lines are worth a recording
_LINES = 3  # of a test in the table
_LEAST_SHARE = 50  # of the peak: lines with less are not worth naming
_LEAST_SAMPLE, _SAMPLE_BYTES = 4096, 128 << 10
_OF_LIMIT = 400  # samples in a default limit: the standard error is 5 %
_NO_OBJECTS = 'limit_leaked_objects: mematlas judges bytes by call stack; write limit_leaks("1 KB"), or install pytest-memray'
_SECTION = "mematlas"
_LIMITS = pytest.StashKey[tuple[Limit, ...]]()
_VIOLATIONS = pytest.StashKey[list[Violation]]()
_FIGURES = pytest.StashKey[TestFigures | None]()


class Measuring:
    """The hooks of a run that measures. `option` returns a setting by name, `names` are the markers to judge."""

    def __init__(
        self, config: pytest.Config, option: Callable[[str], Any], names: Collection[str]
    ) -> None:
        """Read the settings, and start the recorder where tests will run.

        Raises:
            UsageError: of pytest, if a setting is malformed.
        """
        self._config, self._names = config, names
        self._all = bool(option("mematlas"))
        self._hidden = bool(option("hide-mematlas-summary")) or not self._all
        self._only_increase = bool(option("mematlas-fail-on-increase"))
        self._top = _count("mematlas-top", option, least=0)
        self._frames = _count("mematlas-stacks", option, least=1)
        self._native = bool(option("mematlas-native"))
        self._defaults = {name: _default(name, option(f"mematlas-{name}")) for name in NAMES}
        self._sampling = _sampling(self._defaults, exact=bool(option("mematlas-exact")))
        self._results = Results()
        self._recorder = TestRecorder()
        folder = str(option("mematlas-dir"))
        self._kept = Path(folder).absolute() if folder else None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._candidates: dict[
            str, tuple[int, str]
        ] = {}  # peaks and recordings of the heaviest so far
        self._rss = 0  # at the start of a limit_resident test
        if self._kept:
            _make(self._kept)
        if getattr(config.option, "numprocesses", None) is None:  # workers of xdist run the tests
            self._recorder.start()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Measure the call of a test, without its fixtures."""
        limits = self._limits(item)
        if not self._recorder.is_owner or not (self._all or limits):
            return (yield)
        try:
            self._begin(item, limits)
        except MematlasError as error:
            self._results.unmeasured[item.nodeid] = str(error)
            if any(not limit.is_default for limit in limits):
                pytest.fail(f"the limits of this test cannot be checked: {error}", pytrace=False)
            return (yield)
        try:
            return (yield)
        finally:
            self._end(item, limits)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Fail a test that passed, but exceeds a limit."""
        report = yield
        if call.when != "call":
            return report
        if figures := item.stash.get(_FIGURES, None):
            report.mematlas = asdict(figures)  # type: ignore[attr-defined]  # kept by xdist
            report.user_properties += [
                ("mematlas_peak_bytes", figures.peak_bytes),
                ("mematlas_allocated_bytes", figures.allocated_bytes),
            ]
        if report.outcome == "passed":
            for violation in item.stash.get(_VIOLATIONS, []):
                report.outcome = "failed"
                report.mematlas_violated = True  # type: ignore[attr-defined]  # kept by xdist
                text = f"{report.longrepr}\n" if report.longrepr else ""
                report.longrepr = text + violation.message
                if violation.lines:
                    lines = "\n".join(violation.lines)
                    report.sections.append((f"{_SECTION}: {violation.title}", lines))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the figures of a test, of a worker's too."""
        found = getattr(report, "mematlas", None)
        if found:
            self._results.figures[report.nodeid] = TestFigures(**found)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.CollectReport | pytest.TestReport
    ) -> tuple[str, str, str] | None:
        """Return a status of its own for a test that exceeds a limit."""
        if report.when == "call" and getattr(report, "mematlas_violated", False):
            return "failed", "M", "MEMORY PROBLEMS"
        return None

    def pytest_sessionfinish(self) -> None:
        """Name the lines of the heaviest tests, and end the recorder."""
        if not self._recorder.is_owner:
            return
        try:
            self._name_lines()
        finally:
            self._recorder.close()
            if self._scratch:
                self._scratch.cleanup()
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output["mematlas"] = {
                "lines": self._results.lines,
                "paths": self._results.paths,
                "unmeasured": self._results.unmeasured,
            }

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Collect what a worker of xdist knows."""
        found = getattr(node, "workeroutput", {}).get("mematlas")
        if found:
            for test, lines in found["lines"].items():
                self._results.lines[test] = [(size, where) for size, where in lines]
            self._results.paths.update(found["paths"])
            self._results.unmeasured.update(found["unmeasured"])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        if self._hidden:
            return
        terminalreporter.write_sep("=", title(self._results))
        for line in table(self._results, self._top):
            terminalreporter.write_line(line)
        if self._kept:
            count = len(self._results.paths)
            terminalreporter.write_line(
                f"{count} {'recording' if count == 1 else 'recordings'} in {self._kept}; "
                "mematlas report FILE shows one"
            )

    def _limits(self, item: pytest.Item) -> tuple[Limit, ...]:
        """Return the limits of a test: those of its markers, else the default ones."""
        if (known := item.stash.get(_LIMITS, None)) is not None:
            return known
        if LEFT_OUT in self._names and item.get_closest_marker(LEFT_OUT):
            pytest.fail(_NO_OBJECTS, pytrace=False)
        found = []
        for name in NAMES:
            marker = item.get_closest_marker(name) if name in self._names else None
            if marker:
                found.append(_parse(name, marker))
            elif self._all and (default := self._defaults[name]):
                found.append(default)
        limits = item.stash[_LIMITS] = tuple(found)
        return limits

    def _begin(self, item: pytest.Item, limits: tuple[Limit, ...]) -> None:
        item.stash[_VIOLATIONS] = []
        item.stash[_FIGURES] = None  # those of an earlier run of the test, if it is repeated
        is_marked = any(not limit.is_default for limit in limits)
        kept = str(self._kept / file_name(item.nodeid)) if self._kept else None
        self._recorder.begin(Sampling(exact=True) if is_marked else self._sampling, kept)
        if any(limit.name == "limit_resident" for limit in limits):
            self._rss = resident.reset_peak()  # with the memory that the tracer takes at its start
        if kept:
            self._results.paths[item.nodeid] = kept

    def _end(self, item: pytest.Item, limits: tuple[Limit, ...]) -> None:
        """Check the limits of the test before anything else is allocated: its records end with the next test."""
        if not self._recorder.is_owner:  # a forked child that left the test by an exception
            return
        try:
            self._judge(item, limits)
        except MematlasError as error:
            item.stash[_FIGURES] = None
            self._results.unmeasured[item.nodeid] = str(error)
            if any(not limit.is_default for limit in limits):
                message = f"the limits of this test cannot be checked: {error}"
                item.stash[_VIOLATIONS] = [Violation(message, "", ())]

    def _judge(self, item: pytest.Item, limits: tuple[Limit, ...]) -> None:
        grown = None
        if any(limit.name == "limit_resident" for limit in limits):
            grown = max(0, resident.peak() - self._rss)
        if any(limit.name == "limit_leaks" for limit in limits):
            gc.collect()  # garbage in cycles is no leak
        figures, path = self._recorder.end(self._scratch_path(item), self._worth())
        found = item.stash[_FIGURES] = TestFigures(**figures, resident_bytes=grown)
        if path and not self._hidden:
            self._candidates[item.nodeid] = (found.peak_bytes, path)
            self._drop_candidate()
        verbosity = self._config.get_verbosity("mematlas")
        judge = Judge(self._recorder, found, self._frames, self._native, verbosity)
        violations = [judge.judge(limit) for limit in limits]
        item.stash[_VIOLATIONS] = [each for each in violations if each]
        self._remember(item, found, limits)

    def _worth(self) -> int:
        """Return the peak from which a test is among the heaviest so far."""
        if len(self._candidates) < (self._top or _MOST_CANDIDATES):
            return _LEAST_KEPT
        return max(_LEAST_KEPT, 1 + min(peak for peak, _ in self._candidates.values()))

    def _drop_candidate(self) -> None:
        if len(self._candidates) <= (self._top or _MOST_CANDIDATES):
            return
        lightest = min(self._candidates, key=lambda test: self._candidates[test][0])
        _, path = self._candidates.pop(lightest)
        if not self._kept:
            Path(path).unlink(missing_ok=True)

    def _scratch_path(self, item: pytest.Item) -> str | None:
        if self._kept or self._hidden:
            return None
        self._scratch = self._scratch or tempfile.TemporaryDirectory(prefix="mematlas-pytest-")
        return str(Path(self._scratch.name, file_name(item.nodeid)))

    def _name_lines(self) -> None:
        start = str(self._config.invocation_params.dir)
        for test, (peak, path) in self._candidates.items():
            try:
                found = self._recorder.lines(path, _LINES)
            except MematlasError:
                continue
            self._results.lines[test] = [
                (each["bytes"], each["function"] + _place(each["file"], each["line"], start))
                for each in found
                if each["bytes"] >= peak / _LEAST_SHARE
            ]

    def _remember(self, item: pytest.Item, figures: TestFigures, limits: tuple[Limit, ...]) -> None:
        """Keep the peak of a limit_memory test, or fail it if it was lower in its last good run."""
        cache = getattr(self._config, "cache", None)  # none with -p no:cacheprovider
        if cache is None or not any(
            limit.name == "limit_memory" and not limit.is_default for limit in limits
        ):
            return
        key = f"mematlas/{hashlib.sha256(item.nodeid.encode()).hexdigest()[:32]}"
        before = cache.get(key, None)
        if self._only_increase and before is not None and figures.peak_bytes > before:
            message = (
                f"Test previously used {format_bytes(before)} but now uses "
                f"{format_bytes(figures.peak_bytes)}"
            )
            violation = Violation(
                message, "more memory than in its last good run", (f"    {message}",)
            )
            item.stash[_VIOLATIONS].append(violation)
        elif not item.stash[_VIOLATIONS]:
            cache.set(key, figures.peak_bytes)


def file_name(nodeid: str) -> str:
    """Return the name of a test's recording, of at most 255 bytes; that of another test differs."""
    name = nodeid.replace("::", "-").replace(os.sep, "-").replace("\0", "-")
    encoded = f"{name}.atlas".encode("utf-8", "replace")
    if len(encoded) <= _MOST_NAME:
        return encoded.decode("utf-8", "replace")
    ending = f"-{hashlib.sha256(nodeid.encode('utf-8', 'replace')).hexdigest()[:16]}.atlas"
    return encoded[: _MOST_NAME - len(ending)].decode("utf-8", "ignore") + ending


def _parse(name: str, marker: pytest.Mark) -> Limit:
    try:
        return parse_marker(name, marker.args, dict(marker.kwargs))
    except (TypeError, ValueError) as error:
        wrong = str(error)
    pytest.fail(f"{name}: {wrong}", pytrace=False)


def _count(name: str, option: Callable[[str], Any], *, least: int) -> int:
    """Parse a setting that counts something."""
    text = str(option(name))
    if not text.strip().isdecimal() or int(text) < least:
        raise pytest.UsageError(f"--{name} {text}: write a number, {least} or more")
    return int(text)


def _default(name: str, text: str) -> Limit | None:
    if not text:
        return None
    try:
        return Limit(name, parse_size(text), is_default=True)
    except ValueError as error:
        raise pytest.UsageError(f"mematlas_{name}: {error}") from None


def _sampling(defaults: dict[str, Limit | None], *, exact: bool) -> Sampling:
    """Return what is recorded of tests without markers: samples that are close enough for the default limits.

    A leak is judged by its stacks, so every allocation is recorded for that.
    """
    if exact or defaults["limit_leaks"]:
        return Sampling(exact=True)
    limit = defaults["limit_memory"]
    wanted = limit.limit_bytes // _OF_LIMIT if limit else _SAMPLE_BYTES
    return Sampling(exact=False, sample_bytes=max(_LEAST_SAMPLE, min(_SAMPLE_BYTES, wanted)))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise pytest.UsageError(f"--mematlas-dir {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise pytest.UsageError(f"--mematlas-dir {folder}: not writable")


def _place(file: str | None, line: int | None, start: str) -> str:
    """Format where a line is, relative to a directory where that is shorter; "" if it is unknown."""
    if not file:
        return ""
    name = min(file, os.path.relpath(file, start), key=len) if file.startswith("/") else file
    return f" ({name}:{line})" if line else f" ({name})"
