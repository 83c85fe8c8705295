"""Allocates in each way in which Python code is run; each way keeps blocks of its own size."""

import asyncio
import functools
import sys
import threading

KEPT = []


def keep(size):
    KEPT.append(bytearray(size))


class Shop:
    def method(self):
        keep(1_050_000)

    @property
    def price(self):
        keep(1_100_000)
        return 0

    def __del__(self):
        keep(1_150_000)


def generator():
    for _ in range(3):
        keep(1_200_000)
        yield


def delegating():
    yield from generator()


async def task(size, other):
    await asyncio.sleep(0)
    keep(size)
    await other()


async def even():
    await asyncio.sleep(0)
    keep(1_250_000)


async def odd():
    await asyncio.sleep(0)
    keep(1_300_000)


async def tasks():
    await asyncio.gather(task(1_350_000, even), task(1_350_000, odd))


def recurse(depth):
    if depth:
        return recurse(depth - 1)
    keep(1_450_000)


def größe():
    keep(1_500_000)


def 大きさ():
    keep(1_550_000)


def compare(a, b):
    keep(1_600_000)
    return 0


def in_thread():
    Shop().method()


def main():
    Shop().price
    list(generator())
    for _ in delegating():
        pass
    asyncio.run(tasks())
    recurse(100)
    größe()
    大きさ()
    sorted([2, 1], key=functools.cmp_to_key(compare))
    list(map(lambda size: keep(size), [1_650_000]))
    exec(compile("def made():\n\n    keep(1_700_000)\nmade()", "<made here>", "exec"), globals())
    worker = threading.Thread(target=in_thread)
    worker.start()
    worker.join()
    print(sys.version_info[0], sys.version_info[1])


main()
