"""Fit a forest and keep it."""

import time

import numpy as np
from sklearn.ensemble import RandomForestClassifier

data = np.random.default_rng(1).random((20_000, 40))
model = RandomForestClassifier(20, random_state=1, n_jobs=2).fit(data, data[:, 0] > data[:, 1])
time.sleep(1.5)
print(model.score(data, data[:, 0] > data[:, 1]))
