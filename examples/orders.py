"""A small order service, to be looked at with `mematlas run -- python examples/orders.py`.

It holds memory in the ways real services do, one of them a mistake:

- `CustomerCache` keeps the newest customers and drops the others: big at exit, yet no leak.
- `reserve_archive` maps 256 MiB; `archive` touches a tenth of it. Only that tenth is in memory.
- `invoice_worker` is a second thread with allocations of its own.
- `make_auditor` returns a closure that remembers every order, for ever. That is the leak.

Only the standard library; the same orders every time; a few seconds.
"""

from __future__ import annotations

import json
import mmap
import random
import sys
import threading
from collections import OrderedDict
from queue import Queue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Order = dict[str, Any]

ORDERS = 120_000
CUSTOMERS = 20_000
CACHED_CUSTOMERS = 3_000
ARCHIVE_BYTES = 256 << 20
ARCHIVE_RECORD = 224  # so that the year so far fills a tenth
GOODS = ("kettle", "teapot", "lamp", "notebook", "ink", "envelope", "cup", "candle")


class CustomerCache:
    """The customers seen last, each with what they bought; bounded, so it cannot leak."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.customers: OrderedDict[int, dict[str, Any]] = OrderedDict()

    def add(self, order: Order) -> dict[str, Any]:
        """Note the order with its customer, as the newest; forget the oldest when full."""
        customer = self.customers.pop(order["customer"], None) or load_customer(order["customer"])
        customer["spent"] += order["total"]
        customer["recent"] = [*customer["recent"][-4:], order["id"]]
        self.customers[order["customer"]] = customer
        if len(self.customers) > self.limit:
            self.customers.popitem(last=False)
        return customer


def load_customer(number: int) -> dict[str, Any]:
    """Build a customer's record, as a database would deliver it."""
    return {
        "id": number,
        "name": f"Customer {number:05}",
        "address": {"street": f"{number % 97} High Street", "town": f"Town {number % 301}"},
        "notes": f"prefers {GOODS[number % len(GOODS)]}; " * 12,
        "spent": 0,
        "recent": [],
    }


def make_auditor() -> tuple[Callable[[Order, str], None], Callable[[], int]]:
    """Return a function that records an order and one that counts the records.

    Nothing ever takes a record out of `trail`: this is the leak to be found.
    """
    trail: list[str] = []

    def audit(order: Order, request: str) -> None:
        trail.append(f"order {order['id']}, total {order['total']}, as it came in: {request}")

    return audit, lambda: len(trail)


def reserve_archive() -> mmap.mmap:
    """Map room for a whole year of orders; costs address space, no memory yet."""
    return mmap.mmap(-1, ARCHIVE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def archive(room: mmap.mmap, position: int, request: str) -> int:
    """Write one order to the archive; the pages written to become resident here."""
    record = request.encode()[:ARCHIVE_RECORD].ljust(ARCHIVE_RECORD)
    room[position : position + ARCHIVE_RECORD] = record
    return position + ARCHIVE_RECORD


def incoming(count: int) -> Iterator[str]:
    """Yield orders as JSON text, as a network would bring them."""
    chance = random.Random(7)
    for number in range(count):
        lines = ", ".join(
            f'{{"good": "{chance.choice(GOODS)}", "count": {chance.randint(1, 9)}, "price": 250}}'
            for _ in range(chance.randint(1, 6))
        )
        yield f'{{"id": {number}, "customer": {chance.randrange(CUSTOMERS)}, "lines": [{lines}]}}'


def read_order(request: str) -> Order:
    """Parse an order and work out its total."""
    order: Order = json.loads(request)
    order["total"] = sum(line["count"] * line["price"] for line in order["lines"])
    return order


def reply(order: Order) -> str:
    """Answer an order, in JSON again."""
    return json.dumps({"order": order["id"], "total": order["total"], "state": "accepted"})


def invoice_worker(inbox: Queue[Order | None], totals: list[int]) -> None:
    """Write invoices until told to stop; each is dropped once it is sent."""
    while (order := inbox.get()) is not None:
        rows = [
            f"{line['good']:<12}{line['count']:>4} x {line['price']}" for line in order["lines"]
        ]
        invoice = "\n".join([f"Invoice {order['id']}", *rows, f"Total {order['total']}"])
        totals.append(len(invoice))
        del totals[:-100]


# The service's state, which lives as long as the process.
cache = CustomerCache(CACHED_CUSTOMERS)
audit, audited = make_auditor()


def serve(count: int) -> None:
    """Take `count` orders through the whole service."""
    room = reserve_archive()
    inbox: Queue[Order | None] = Queue(maxsize=64)
    worker = threading.Thread(target=invoice_worker, args=(inbox, []), name="invoices", daemon=True)
    worker.start()
    position = sent = 0
    for request in incoming(count):
        order = read_order(request)
        cache.add(order)
        audit(order, request)
        position = archive(room, position, request)
        sent += len(reply(order))
        inbox.put(order)
        if (order["id"] + 1) % (ORDERS // 4) == 0:
            print(f"{order['id'] + 1} orders, {len(cache.customers)} customers cached")
    inbox.put(None)
    worker.join()
    share = position / ARCHIVE_BYTES
    print(f"{audited()} audit records; {share:.0%} of the archive used; {sent:,} bytes sent")


if __name__ == "__main__":
    serve(int(sys.argv[1]) if len(sys.argv) > 1 else ORDERS)
