"""DuckDB or Polars over the benchmark's rows, as a peer of Tidemill; run by `../run`.

    peer.py duckdb|polars THREADS FOLDER memory|csv|json

Says `ready` when the rows are loaded, or at once where they are read from a file, which is timed. Then it groups them
once for every line of its input and answers with a line of JSON. What adds up the results is not timed.
"""

import json
import os
import sys
import time

peer, threads, folder, source = sys.argv[1:]
os.environ["POLARS_MAX_THREADS"] = threads  # read when Polars is imported

import numpy as np

from results import checksum

WINDOW_US = 10_000_000


def columns():
    return {"key": np.fromfile(f"{folder}/key.i64", np.int64), "ts": np.fromfile(f"{folder}/ts.i64", np.int64),
            "value": np.fromfile(f"{folder}/value.f64", np.float64)}


def duckdb_peer():
    import duckdb
    import pyarrow

    database = duckdb.connect()
    database.execute(f"SET threads = {threads}")
    types = "{'key': 'BIGINT', 'ts': 'TIMESTAMP', 'value': 'DOUBLE'}"
    if source == "memory":
        rows = pyarrow.table(columns())
        database.execute("CREATE TABLE loaded AS SELECT * FROM rows")
        table, micros = "loaded", "ts"
    elif source == "csv":
        table, micros = f"read_csv('{folder}/rows.csv', header = false, columns = {types})", "epoch_us(ts)"
    else:
        table, micros = f"read_json('{folder}/rows.json', format = 'newline_delimited', columns = {types})", "epoch_us(ts)"
    query = f"""SELECT CAST(floor({micros} / {WINDOW_US}) AS BIGINT) AS w, key, count(*) AS n, min(value) AS low,
        max(value) AS high, sum(value) AS total, avg(value) AS mean FROM {table} GROUP BY w, key"""
    return lambda: database.execute(query).fetchnumpy()


def polars_peer():
    import polars
    from polars import col

    if source == "memory":
        rows, micros = polars.DataFrame(columns()).lazy(), col("ts")
    else:
        schema = {"key": polars.Int64, "ts": polars.String, "value": polars.Float64}
        path = f"{folder}/rows.{source}"
        scan = polars.scan_csv(path, has_header=False, schema=schema) if source == "csv" else polars.scan_ndjson(path, schema=schema)
        rows, micros = scan, col("ts").str.to_datetime("%Y-%m-%d %H:%M:%S%.6f", time_unit="us").dt.epoch("us")
    value = col("value")
    query = rows.group_by((micros // WINDOW_US).alias("w"), "key").agg(
        polars.len().alias("n"), value.min().alias("low"), value.max().alias("high"), value.sum().alias("total"),
        value.mean().alias("mean"))
    return lambda: query.collect()


def main():
    run = {"duckdb": duckdb_peer, "polars": polars_peer}[peer]()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        found = run()
        seconds = time.perf_counter() - start
        w, key, n, low, high, total, mean = (np.asarray(found[name]) for name in ("w", "key", "n", "low", "high", "total", "mean"))
        total = checksum((w.astype(np.int64) + 1) * WINDOW_US, key, n.astype(np.int64), low, high, total, mean)
        print(json.dumps({"seconds": seconds, "checksum": total}), flush=True)


main()
