"""Make a table in memory and ask for groups of it."""

import time

import duckdb

database = duckdb.connect(":memory:")
database.execute(
    "create table t as select range as a, hash(range) as b, range::varchar as c from range(3000000)"
)
kept = database.execute("select a % 7, count(*), max(c) from t group by 1 order by 1").fetchall()
time.sleep(1.5)
print(len(kept), kept[0])
