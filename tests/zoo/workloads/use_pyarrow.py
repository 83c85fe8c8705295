"""Make an array and keep it."""

import time

import pyarrow as pa
import pyarrow.compute as pc


def make():
    """Return an array of 64 MB."""
    return pc.add(pa.array(range(2_000_000), pa.int64()), pa.scalar(1))


kept = [make() for _ in range(3)]
time.sleep(1.5)
print(len(kept), pc.sum(kept[0]).as_py())
