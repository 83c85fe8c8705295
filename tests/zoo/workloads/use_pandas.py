"""Make frames and keep them."""

import time

import pandas as pd


def make():
    """Return a frame of 48 MB."""
    return pd.DataFrame({name: range(1_000_000) for name in "abcdef"})


frame = make()
groups = frame.groupby(frame["a"] % 1000).sum()
time.sleep(1.5)
print(len(frame), int(groups["b"].sum()))
