"""Works in a pool of two forked processes, which share a list and build their own."""

from multiprocessing import get_context

base = [str(i) * 3 for i in range(100_000)]


def work(number: int) -> int:
    """Return a sum over the list, with 3 MB of blocks held meanwhile."""
    held = [bytes(100) for _ in range(20_000)]
    return sum(len(each) for each in base[number::7]) + len(held)


if __name__ == "__main__":
    with get_context("fork").Pool(2) as pool:
        pool.map(work, range(8))
