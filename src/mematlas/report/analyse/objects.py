"""Live Python objects by type, with the line that allocated most of each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mematlas.report.model.report import ObjectType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mematlas.recording.model import Frame, Objects, Recording
    from mematlas.report.analyse.stacks import Stacks


def find_object_types(
    recording: Recording, paths: Mapping[int, Stacks]
) -> tuple[ObjectType, ...] | None:
    """Sum types of equal name over processes, most bytes first; None if no process was scanned."""
    found = [recording.objects[index] for index in sorted(paths.keys() & recording.objects)]
    if not found:
        return None
    sums: dict[str, NDArray[np.float64]] = {}
    owners: dict[str, dict[Frame | None, float]] = {}
    for each in found:
        _add(paths[each.process], each, sums, owners)
    types = []
    for name, (size, count, variance) in sums.items():
        owner, most = max(owners[name].items(), key=lambda pair: pair[1])
        error = round(math.sqrt(max(variance, 0.0)))
        types.append(ObjectType(name, round(size), round(count), error, owner, round(most)))
    return tuple(sorted(types, key=lambda each: -each.live_bytes))


def _add(
    stacks: Stacks,
    objects: Objects,
    sums: dict[str, NDArray[np.float64]],
    owners: dict[str, dict[Frame | None, float]],
) -> None:
    rows = objects.rows
    which, frames = stacks.owners_of(rows["stack"].astype(np.int64), {})
    made, groups = np.unique(
        rows["type"].astype(np.int64) * max(len(frames), 1) + which, return_inverse=True
    )
    columns = [
        np.bincount(groups, rows[name], len(made)) for name in ("bytes", "count", "variance")
    ]
    for key, values in zip(made.tolist(), np.stack(columns, axis=1), strict=True):
        name, owner = objects.names[key // len(frames)], frames[key % len(frames)]
        sums[name] = sums.get(name, np.zeros(3)) + values
        by_owner = owners.setdefault(name, {})
        by_owner[owner] = by_owner.get(owner, 0.0) + float(values[0])
