"""NumPy temporaries: few allocations, large ones. Argument: how many."""

from __future__ import annotations

import sys

import numpy as np


def main(count: int) -> None:
    """Multiply, scale and sum; keep a slice of each result."""
    random = np.random.default_rng(1)
    kept, total = [], 0.0
    for _ in range(count):
        a = random.random((1000, 1000))
        b = np.sqrt(a @ a.T) + a * 2 - a.mean(axis=0)
        kept.append(b[:100].copy())
        total += float(b.sum())
    print(f"{total:.3e}", len(kept))


if __name__ == "__main__":
    main(int(sys.argv[1]))
