"""Fill a cache that is known, lose cycles, and have a peak that a local variable holds."""

import gc

CACHE = {}


class Order:
    """One entry of the cache."""

    def __init__(self, number: int) -> None:
        self.note = f"order {number} " * 8


def fill() -> None:
    """Fill the cache."""
    for number in range(4000):
        CACHE[number] = Order(number)


def lose() -> None:
    """Lose cycles, which the collector is not there to free."""
    for _ in range(500):
        ring = []
        ring.append(ring)


def peak() -> int:
    """Hold a large buffer for a time."""
    held = bytearray(24 << 20)
    size = len(held)
    del held
    return size


gc.disable()
fill()
lose()
print(peak())
