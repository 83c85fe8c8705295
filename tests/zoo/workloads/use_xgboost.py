"""Train trees and keep them."""

import time

import numpy as np
import xgboost

data = np.random.default_rng(1).random((60_000, 50), dtype=np.float32)


def train():
    """Return the data of the library and a model of it."""
    matrix = xgboost.QuantileDMatrix(data, label=data[:, 0] + data[:, 1])
    return matrix, xgboost.train({"nthread": 2, "max_depth": 6}, matrix, 20)


matrix, model = train()
time.sleep(1.5)
print(matrix.num_row(), model.num_boosted_rounds())
