"""Pushes of OTLP profiles, whose definition is alpha: opentelemetry-proto has it, and may change it.

https://github.com/open-telemetry/opentelemetry-proto/tree/main/opentelemetry/proto/profiles/v1development

Each of Go's four sample types is a Profile. Allocations are those since the push before; live figures are of the
moment. Stacks, functions and texts stand once, in the dictionary that all share; element 0 of each of its tables
is the empty one.
"""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceRequest,
    ExportProfilesServiceResponse,
)

from mematlas._version import __version__
from mematlas.present.printable import clean, shorten
from mematlas.report import frame_names
from mematlas.report.analyse.code_frames import code_only
from mematlas.report.analyse.export import largest, path_keys
from mematlas.report.analyse.table import StackTable
from mematlas.report.export.source import OTHER_STACKS, UNKNOWN_STACK
from mematlas.serve.heap_profile import GO_COLUMNS, MOST_PUSHED
from mematlas.serve.http_post import LONGEST_REASON, authorization, post
from mematlas.serve.pusher import PushError
from mematlas.serve.pyroscope import service_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from opentelemetry.proto.profiles.v1development.profiles_pb2 import ProfilesDictionary

    from mematlas.recording.model import Frame
    from mematlas.serve.destination import Destination
    from mematlas.serve.state import State

    Numbers = NDArray[np.int64]

_MOST_BYTES = 3_500_000  # of a message; receivers take 4 MiB
_LEAST_STACKS = 100
_ALLOCATED = GO_COLUMNS[:2]  # since the push before
_PATH = "/v1development/profiles"


class _Type(NamedTuple):
    """A sample type: its name, its unit and its column."""

    name: str
    unit: str
    column: str


_TYPES = tuple(
    _Type(name, unit, column)
    for (name, unit), column in zip(
        (
            ("alloc_objects", "count"),
            ("alloc_space", "bytes"),
            ("inuse_objects", "count"),
            ("inuse_space", "bytes"),
        ),
        GO_COLUMNS,
        strict=True,
    )
)


class Sums(NamedTuple):
    """Allocations so far: the keys of stacks, ascending, and the columns of these. `time_ns`: the moment."""

    keys: Numbers
    columns: dict[str, Numbers]
    time_ns: int


class Transport(Protocol):
    """Sends a request to a collector."""

    def export(self, request: ExportProfilesServiceRequest) -> ExportProfilesServiceResponse:
        """Send a request and return the answer. Raises PushError."""
        ...


class OtlpSender:
    """Sends what was allocated since the push that was answered last, and what is live."""

    def __init__(self, transport: Transport) -> None:
        """Store the transport."""
        self._transport = transport
        self._before: Sums | None = None

    def send(self, state: State) -> None:
        """Send the profiles of a reading. Raises PushError."""
        table = StackTable.of(state.report.stacks)
        now = _sums_of(table, state)
        answer = self._transport.export(build_request(state, table, now, self._before))
        self._before = now
        refused = answer.partial_success
        if refused.rejected_profiles:  # which must not be sent again
            reason = shorten(clean(refused.error_message), LONGEST_REASON)
            raise PushError(f"{refused.rejected_profiles} profiles refused: {reason}", final=True)


class HttpTransport:
    """OTLP over HTTP, in binary form."""

    def __init__(self, destination: Destination, token: str) -> None:
        """Store where to send."""
        path = "" if destination.path.endswith(_PATH) else _PATH
        self._url, self._is_local = destination.url + path, destination.is_local
        self._headers = {
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "gzip",
            **authorization(destination, token),
        }

    def export(self, request: ExportProfilesServiceRequest) -> ExportProfilesServiceResponse:
        """Send a request."""
        body = gzip.compress(request.SerializeToString(), 1)
        answer = post(self._url, body, self._headers, is_local=self._is_local)
        response = ExportProfilesServiceResponse()
        try:
            response.ParseFromString(answer)
        except DecodeError:
            raise PushError("the answer is not that of OTLP") from None
        return response


def build_request(
    state: State, table: StackTable, now: Sums, before: Sums | None, most: int = MOST_PUSHED
) -> ExportProfilesServiceRequest:
    """Build a request of at most `most` stacks, and of fewer where they make it longer than receivers take."""
    columns = _changed(table, now, before)
    whole = StackTable(table.process, table.stack, table.kind, columns, table.paths)
    while True:
        shown, name = whole, UNKNOWN_STACK
        if most < len(whole):
            shown, name = largest(whole, GO_COLUMNS, most), OTHER_STACKS
        request = _Builder(state, code_only(shown), name).build(now, before)
        if request.ByteSize() <= _MOST_BYTES or most <= _LEAST_STACKS:
            return request
        most = max(min(most, len(whole)) // 2, _LEAST_STACKS)


def _sums_of(table: StackTable, state: State) -> Sums:
    keys, columns = _keys(table), {name: table.columns[name] for name in _ALLOCATED}
    found, of_key = np.unique(keys, return_inverse=True)
    summed = {name: np.zeros(len(found), np.int64) for name in columns}
    for name, column in columns.items():
        np.add.at(summed[name], of_key, column)
    return Sums(found, summed, state.time_ns)


def _keys(table: StackTable) -> Numbers:
    keys = np.zeros(len(table), np.int64)
    for process in table.processes():
        rows = np.flatnonzero(table.process == process)
        keys[rows] = path_keys(table, process, rows)
    return keys


def _changed(table: StackTable, now: Sums, before: Sums | None) -> dict[str, Numbers]:
    """Return the four columns, allocations without those of the push before; never below 0."""
    columns = {name: table.columns[name] for name in GO_COLUMNS}
    if before is None:
        return columns
    _, first = np.unique(_keys(table), return_index=True)
    at = np.searchsorted(before.keys, now.keys)
    same = at < len(before.keys)
    same[same] = before.keys[at[same]] == now.keys[same]
    for name in _ALLOCATED:
        change = now.columns[name].copy()
        change[same] -= before.columns[name][at[same]]
        columns[name] = np.zeros(len(table), np.int64)
        columns[name][first] = np.maximum(change, 0)
    return columns


class _Builder:
    """A request while it is built."""

    def __init__(self, state: State, table: StackTable, no_stack: str) -> None:
        self._state, self._table, self._no_stack = state, table, no_stack
        self._request = ExportProfilesServiceRequest()
        self._texts: dict[str, int] = {"": 0}
        self._functions: dict[tuple[str, str], int] = {}
        self._known_frames: dict[Frame | str, tuple[str, str, int]] = {}
        self._locations: dict[tuple[str, str, int], int] = {}  # by function, file and line
        self._stacks: dict[tuple[int, ...], int] = {}
        self._attributes: dict[tuple[str, str], int] = {}
        dictionary = self._dictionary
        for each in (
            dictionary.mapping_table, dictionary.location_table, dictionary.function_table,
            dictionary.link_table, dictionary.attribute_table, dictionary.stack_table,
        ):  # fmt: skip
            each.add()

    @property
    def _dictionary(self) -> ProfilesDictionary:
        return self._request.dictionary

    def build(self, now: Sums, before: Sums | None) -> ExportProfilesServiceRequest:
        """Return the request."""
        resource = self._request.resource_profiles.add()
        service, labels = service_of(self._state)
        for name, label in (("service.name", service), *_resource_labels(labels)):
            resource.resource.attributes.add(key=name).value.string_value = label
        scope = resource.scope_profiles.add()
        scope.scope.name, scope.scope.version = "mematlas", __version__
        sampling = self._state.report.sampling
        period = 1 if sampling.mode == "exact" else sampling.sample_bytes
        rows = self._rows()
        for type_ in _TYPES:
            is_sum = type_.column in _ALLOCATED
            begin = (before.time_ns if before else self._started_ns()) if is_sum else now.time_ns
            profile = scope.profiles.add(
                time_unix_nano=begin,
                duration_nano=max(0, now.time_ns - begin),
                period=period,
                profile_id=os.urandom(16),
            )
            profile.sample_type.type_strindex = self._text(type_.name)
            profile.sample_type.unit_strindex = self._text(type_.unit)
            profile.period_type.type_strindex = self._text("space")
            profile.period_type.unit_strindex = self._text("bytes")
            values = self._table.columns[type_.column].tolist()
            sums: dict[tuple[int, int], int] = {}
            for place, value in zip(rows, values, strict=True):
                if value:
                    sums[place] = sums.get(place, 0) + value
            for (stack, attribute_index), value in sums.items():
                profile.samples.add(
                    stack_index=stack, values=[value], attribute_indices=[attribute_index]
                )
        self._dictionary.string_table.extend(self._texts)
        return self._request

    def _started_ns(self) -> int:
        return self._state.time_ns - round(self._state.time_s * 1e9)

    def _rows(self) -> list[tuple[int, int]]:
        """Return stack and attribute of each row."""
        names = {each.index: str(each.pid) for each in self._state.report.processes}
        found = []
        for process, stack in zip(
            self._table.process.tolist(), self._table.stack.tolist(), strict=True
        ):
            attribute = self._attribute("process.pid", names.get(process, ""))
            found.append((self._stack(process, stack), attribute))
        return found

    def _stack(self, process: int, stack: int) -> int:
        frames = self._table.paths[process].frames(stack) or (self._no_stack,)
        locations = tuple(self._location(each) for each in frames)
        number = self._stacks.get(locations)
        if number is None:
            number = self._stacks[locations] = len(self._dictionary.stack_table)
            self._dictionary.stack_table.add(location_indices=locations)
        return number

    def _location(self, frame: Frame | str) -> int:
        known = self._known_frames.get(frame)
        if known is None:
            known = self._known_frames[frame] = self._place(frame)
        number = self._locations.get(known)
        if number is None:
            number = self._locations[known] = len(self._dictionary.location_table)
            function = self._function(*known[:2])
            self._dictionary.location_table.add().lines.add(function_index=function, line=known[2])
        return number

    def _place(self, frame: Frame | str) -> tuple[str, str, int]:
        if isinstance(frame, str):
            return frame, "", 0
        return frame_names.function_name(frame), clean(frame.file or ""), frame.line or 0

    def _function(self, name: str, file: str) -> int:
        number = self._functions.get((name, file))
        if number is None:
            number = self._functions[name, file] = len(self._dictionary.function_table)
            self._dictionary.function_table.add(
                name_strindex=self._text(name), filename_strindex=self._text(file)
            )
        return number

    def _attribute(self, key: str, value: str) -> int:
        number = self._attributes.get((key, value))
        if number is None:
            number = self._attributes[key, value] = len(self._dictionary.attribute_table)
            attribute = self._dictionary.attribute_table.add(key_strindex=self._text(key))
            attribute.value.string_value = value
        return number

    def _text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))


def _resource_labels(labels: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in sorted(labels.items()):
        if value:
            yield ("host.name" if name == "host" else name), value
