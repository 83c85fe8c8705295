"""Holds 60,000 rows as dicts, read from JSON, and an index of them."""

import json

rows = [
    {"id": i, "name": f"row {i}", "tags": ["a" * (i % 37), "b" * (i % 11)]} for i in range(60000)
]
text = json.dumps(rows)
back = json.loads(text)
del text
index = {row["id"]: row for row in back}
