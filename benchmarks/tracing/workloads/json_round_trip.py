"""A big document to JSON text and back. Argument: its length."""

from __future__ import annotations

import json
import sys


def document(count: int) -> list[dict[str, object]]:
    """Build the document: numbers, strings, lists and nested objects."""
    return [
        {"id": n, "key": f"k{n}", "values": [n * k / 7 for k in range(10)], "in": {"a": [str(n)]}}
        for n in range(count)
    ]


def main(count: int) -> None:
    """Write it and read it back three times."""
    source = document(count)
    for _ in range(3):
        text = json.dumps(source)
        back = json.loads(text)
    print(len(text), back == source)


if __name__ == "__main__":
    main(int(sys.argv[1]))
