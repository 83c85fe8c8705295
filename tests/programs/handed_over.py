"""Blocks that two threads pass to each other: a burst in one, a free in the other, and a reuse of the block."""

import sys
import threading

ROUNDS = int(sys.argv[1])
go, gone = threading.Lock(), threading.Lock()  # locks allocate nothing
go.acquire()
gone.acquire()
items = []


def free():
    for _ in range(ROUNDS):
        go.acquire()
        items.clear()
        gone.release()


def rush():
    for number in range(ROUNDS):
        for _ in range(3000 + number % 8):
            object()
        items.append(bytes(100))
        go.release()
        gone.acquire()
        again = [bytes(100) for _ in range(8)]
    return again


other = threading.Thread(target=free)
other.start()
rush()
other.join()
