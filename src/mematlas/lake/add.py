"""Adds recordings to a lake."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.errors import MematlasError
from mematlas.lake.model import AddedRecording, Addition
from mematlas.lake.rows import run_rows
from mematlas.lake.write import GRACE_S, Writer, delete_replaced, merge_small

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mematlas.lake.rows import RunRows
    from mematlas.lake.storage import Storage

BATCH = 64  # recordings that one commit adds


def add(
    store: Storage,
    files: Sequence[str],
    labels: tuple[tuple[str, str], ...] = (),
    strip: Sequence[str] = (),
) -> Addition:
    """Add recordings, BATCH at a time. A recording that cannot be read is left out, and named in the result.

    `labels` come besides those of the recordings; `strip` are folders that are cut off the names of files.
    """
    writer = Writer(store)
    found: list[AddedRecording] = []
    for start in range(0, len(files), BATCH):
        found += _add_batch(writer, files[start : start + BATCH], labels, strip)
    state = merge_small(store, writer.state())
    delete_replaced(store, state, GRACE_S)
    count = [each.outcome for each in found].count
    return Addition(store.name, tuple(found), count("added"), count("known"), count("failed"))


def _add_batch(
    writer: Writer,
    files: Sequence[str],
    labels: tuple[tuple[str, str], ...],
    strip: Sequence[str],
) -> Iterator[AddedRecording]:
    read: list[tuple[str, RunRows | MematlasError]] = []
    for file in files:
        try:
            read.append((file, read_rows(file, labels, strip)))
        except MematlasError as error:
            read.append((file, error))
    rows = [each for _, each in read if not isinstance(each, MematlasError)]
    new = writer.add(rows) if rows else set()
    for file, each in read:
        if isinstance(each, MematlasError):
            yield AddedRecording(file, "failed", note=_without_name(str(each), file))
            continue
        run = each.run
        added = run["run"] in new
        new.discard(run["run"])  # the same recording once more in this call
        yield AddedRecording(
            file=file,
            outcome="added" if added else "known",
            run=run["run"],
            host=run["host"],
            service=run["service"],
            version=run["version"],
            day=run["day"],
            lines=len(each.lines) if added else 0,
            note="" if run["complete"] or not added else "it has no end yet: figures so far",
        )


def read_rows(
    file: str, labels: tuple[tuple[str, str], ...] = (), strip: Sequence[str] = ()
) -> RunRows:
    """Return the rows of a recording; `labels` come besides its own."""
    from dataclasses import replace

    from mematlas.api.recording import open as open_recording
    from mematlas.api.views import export_source

    recording = open_recording(file)
    source = export_source(recording, "parquet", by="live", table="lines")
    runs = source.recording.runs
    known = bool(runs and runs[0].id)
    return run_rows(
        replace(source, labels=labels),
        duration_s=recording.duration_s,
        content_id="" if known else _digest(file),
        strip=strip,
    )


def _digest(file: str) -> str:
    with Path(file).open("rb") as content:
        return "file-" + hashlib.file_digest(content, "sha256").hexdigest()[:16]


def _without_name(text: str, file: str) -> str:
    return text.removeprefix(f"{file}: ").removeprefix(f"{file} ")
