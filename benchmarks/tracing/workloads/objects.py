"""Many small Python objects, built, indexed and dropped, some calls deep. Argument: how many."""

from __future__ import annotations

import sys


def person(number: int) -> dict[str, object]:
    """Build one record of several objects."""
    return {"id": number, "name": f"person {number}", "tags": [str(n) for n in range(4)]}


def people(count: int) -> list[dict[str, object]]:
    """Build all records."""
    return [person(number) for number in range(count)]


def by_name(rows: list[dict[str, object]]) -> dict[str, dict[str, object]]:
    """Index the records by a string each."""
    return {str(row["name"]): row for row in rows}


def labels(rows: list[dict[str, object]]) -> list[str]:
    """Make two short-lived and one kept string of each record."""
    return [(str(row["id"]) + " " + str(row["name"])).upper() for row in rows]


def main(count: int) -> None:
    """Do it three times over."""
    for _ in range(3):
        rows = people(count)
        index, texts = by_name(rows), labels(rows)
    print(len(rows), len(index), len(texts))


if __name__ == "__main__":
    main(int(sys.argv[1]))
