"""Small objects with known times: a burst, many kept over a pause, and some allocated one by one."""

import time


def rush():
    for _ in range(20_000):
        object()


def keep():
    kept = []
    for _ in range(1000):
        kept.append(object())
    time.sleep(0.05)
    kept.clear()


def dawdle():
    for _ in range(30):
        thing = object()
        time.sleep(0.002)
        del thing


rush()
keep()
rush()
dawdle()
