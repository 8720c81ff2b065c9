"""DuckDB or Polars over the benchmark's rows, as a peer of Tidemill; run by `../run`.

    peer.py duckdb|polars THREADS FOLDER memory|csv|json tumbling|hopping|session

Says `ready` when the rows are loaded, or at once where they are read from a file, which is timed. Then it groups them
once for every line of its input and answers with a line of JSON. What adds up the results is not timed.
"""

import json
import os
import pathlib
import sys
import time

peer, threads, folder, source, window = sys.argv[1:]
os.environ["POLARS_MAX_THREADS"] = threads  # read when Polars is imported

import numpy as np
import pyarrow

from results import checksum

# Of the windows of workloads.py, in microseconds; hopping windows are made of slices.
WINDOW_US = 10_000_000
SLICE_US = 2_000_000
SLICES = WINDOW_US // SLICE_US


def columns():
    keys = np.fromfile(f"{folder}/key.i64", np.int64)
    if pathlib.Path(f"{folder}/key.bytes").exists():
        offsets = np.concatenate([[0], keys]).astype(np.int32)
        buffers = [pyarrow.py_buffer(offsets), pyarrow.py_buffer(pathlib.Path(f"{folder}/key.bytes").read_bytes())]
        keys = pyarrow.StringArray.from_buffers(len(keys), *buffers)
    return pyarrow.table({"key": keys, "ts": np.fromfile(f"{folder}/ts.i64", np.int64),
                          "value": np.fromfile(f"{folder}/value.f64", np.float64)})


def duckdb_query(table, t):
    """All results of a table with the event time `t`, in microseconds."""
    totals = "count(*) AS n, min(value) AS low, max(value) AS high, sum(value) AS total, avg(value) AS mean"
    if window == "tumbling":
        return f"""SELECT (w + 1) * {WINDOW_US} AS "end", * FROM (
            SELECT CAST(floor({t} / {WINDOW_US}) AS BIGINT) AS w, key, {totals} FROM {table} GROUP BY w, key)"""
    if window == "hopping":
        return f"""SELECT (s + later + 1) * {SLICE_US} AS "end", key, CAST(sum(n) AS BIGINT) AS n FROM (
            SELECT CAST(floor({t} / {SLICE_US}) AS BIGINT) AS s, key, count(*) AS n FROM {table} GROUP BY s, key),
            range({SLICES}) AS hops(later) GROUP BY "end", key"""
    return f"""SELECT max(t) + {WINDOW_US} AS "end", key, {totals} FROM (
        SELECT key, value, t, count(*) FILTER (apart) OVER (PARTITION BY key ORDER BY t) AS nth FROM (
        SELECT key, value, {t} AS t, {t} - lag({t}) OVER (PARTITION BY key ORDER BY {t}) > {WINDOW_US} AS apart
        FROM {table})) GROUP BY key, nth"""


def duckdb_peer():
    import duckdb

    database = duckdb.connect()
    database.execute(f"SET threads = {threads}")
    types = "{'key': 'BIGINT', 'ts': 'TIMESTAMP', 'value': 'DOUBLE'}"
    if source == "memory":
        rows = columns()
        database.execute("CREATE TABLE loaded AS SELECT * FROM rows")
        table, micros = "loaded", "ts"
    elif source == "csv":
        table, micros = f"read_csv('{folder}/rows.csv', header = false, columns = {types})", "epoch_us(ts)"
    else:
        table, micros = f"read_json('{folder}/rows.json', format = 'newline_delimited', columns = {types})", "epoch_us(ts)"
    query = duckdb_query(table, micros)
    return lambda: database.execute(query).fetchnumpy()


def polars_query(rows, t):
    """All results of rows with the event time `t`, in microseconds."""
    import polars
    from polars import col

    value = col("value")
    totals = [polars.len().alias("n"), value.min().alias("low"), value.max().alias("high"), value.sum().alias("total"),
              value.mean().alias("mean")]
    if window == "tumbling":
        found = rows.group_by((t // WINDOW_US).alias("w"), "key").agg(totals)
        return found.with_columns(((col("w") + 1) * WINDOW_US).alias("end"))
    if window == "hopping":
        slices = rows.group_by((t // SLICE_US).alias("s"), "key").agg(polars.len().alias("n"))
        hops = slices.join(polars.LazyFrame({"later": range(SLICES)}), how="cross")
        return hops.group_by(((col("s") + col("later") + 1) * SLICE_US).alias("end"), "key").agg(col("n").sum())
    ordered = rows.sort("key", t)
    apart = (t.diff() > WINDOW_US) | (col("key") != col("key").shift())
    sessions = ordered.group_by("key", apart.fill_null(False).cum_sum().alias("nth"))
    return sessions.agg((t.max() + WINDOW_US).alias("end"), *totals)


def polars_peer():
    import polars
    from polars import col

    if source == "memory":
        rows, micros = polars.from_arrow(columns()).lazy(), col("ts")
    else:
        schema = {"key": polars.Int64, "ts": polars.String, "value": polars.Float64}
        path = f"{folder}/rows.{source}"
        scan = polars.scan_csv(path, has_header=False, schema=schema) if source == "csv" else polars.scan_ndjson(path, schema=schema)
        rows, micros = scan, col("ts").str.to_datetime("%Y-%m-%d %H:%M:%S%.6f", time_unit="us").dt.epoch("us")
    query = polars_query(rows, micros)
    return lambda: query.collect()


def total(found):
    """The checksum of results; where only rows are counted, the other columns are zeros."""
    end, key, n = (np.asarray(found[name]) for name in ("end", "key", "n"))
    if window == "hopping":
        nothing = np.zeros(len(n))
        return checksum([end, key, n, nothing, nothing], nothing, nothing)
    low, high, sums, means = (np.asarray(found[name]) for name in ("low", "high", "total", "mean"))
    return checksum([end, key, n, low, high], sums, means)


def main():
    run = {"duckdb": duckdb_peer, "polars": polars_peer}[peer]()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        found = run()
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "checksum": total(found)}), flush=True)


main()
