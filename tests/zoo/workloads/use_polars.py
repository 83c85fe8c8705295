"""Make a frame and keep it."""

import time

import polars as pl


def make():
    """Return a frame of about 90 MB."""
    return pl.select(pl.int_range(0, 6_000_000).alias("a")).with_columns(b=pl.col("a") * 2)


frame = make()
time.sleep(1.5)
print(frame.height, frame["b"].sum())
