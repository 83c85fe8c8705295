"""Draw a figure and keep it."""

import time

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np


def draw(count):
    """Return a figure of many points."""
    values = np.random.default_rng(1).random((2, count))
    figure, axes = plt.subplots(figsize=(16, 12), dpi=150)
    axes.scatter(*values, c=values[0])
    figure.savefig("out.png")
    return figure


kept = draw(200_000)
time.sleep(1.5)
print(len(kept.axes))
