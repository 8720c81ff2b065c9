"""The rows of `tidemill bench`, made again for peers that are other programs.

    rows.py [--text-keys] [--millis] [--write csv|json] ROWS KEYS|zipf:KEYS:EXPONENT FOLDER

Writes a column each, little-endian: `key.i64`, `ts.i64` (microseconds) and `value.f64`. Keys that are text are in
`key.bytes`, one after the other, and `key.i64` says where each ends. `rows.parquet` has the same, from which Tidemill
computes the results that all must agree with. With `--millis`, times are whole milliseconds, for a peer that knows no
others. With `--write`, values are rounded to hundredths, as in `tidemill bench`, and the rows are in `rows.csv` or
`rows.json` besides.

The recipe is that of `connectors/generator/src/workload.rs`: a row every 10 µs, held back by less than a second; every
column is a function of seed and row number, by SplitMix64. So fewer rows are the first ones of more.
"""

import argparse
import pathlib

import numpy as np
import polars

from results import finish

GAMMA = 0x9E3779B97F4A7C15
SEED = 1
STEP_US = 10
DISORDER_US = 1_000_000
KEY_BYTES = 16


def bits(stream, count):
    """The first 64 random bits of each row in a stream."""
    with np.errstate(over="ignore"):
        seed = finish(np.array([SEED], np.uint64))
        start = finish(seed + np.uint64(stream * GAMMA % 2**64))
        rows = np.arange(count, dtype=np.uint64)
        return finish(finish(start + rows * np.uint64(GAMMA)) + np.uint64(GAMMA))


def below(random, bound):
    """Numbers below a bound of at most 32 bits: the upper half of the product."""
    bound, half = np.uint64(bound), np.uint64(32)
    low = ((random & np.uint64(0xFFFFFFFF)) * bound) >> half
    return (((random >> half) * bound + low) >> half).astype(np.int64)


def unit(random):
    return (random >> np.uint64(11)).astype(np.float64) / 2.0**53


def keys(text, count):
    random = bits(0, count)
    if not text.startswith("zipf:"):
        return below(random, int(text))
    _, number, exponent = text.split(":")
    shares = np.cumsum(np.arange(1, int(number) + 1, dtype=np.float64) ** -float(exponent))
    ranks = np.searchsorted(shares / shares[-1], unit(random), side="right")
    return np.minimum(ranks, int(number) - 1).astype(np.int64)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--text-keys", action="store_true")
    options.add_argument("--millis", action="store_true")
    options.add_argument("--write", choices=["csv", "json"])
    options.add_argument("rows", type=int)
    options.add_argument("keys")
    options.add_argument("folder", type=pathlib.Path)
    chosen = options.parse_args()
    folder = chosen.folder

    times = np.arange(chosen.rows, dtype=np.int64) * STEP_US - below(bits(1, chosen.rows), DISORDER_US)
    if chosen.millis:
        times = times // 1_000 * 1_000
    values = unit(bits(2, chosen.rows)) * 100.0
    if chosen.write:
        values = np.floor(values * 100.0 + 0.5) / 100.0
    numbers = keys(chosen.keys, chosen.rows)
    rows = polars.DataFrame({"key": numbers, "ts": times, "value": values})
    rows = rows.with_columns(polars.col("ts").cast(polars.Datetime("us")))
    if chosen.text_keys:
        text = polars.format("customer{}", polars.col("key").cast(polars.String).str.zfill(8))
        rows = rows.with_columns(text.alias("key"))
        (folder / "key.bytes").write_bytes("".join(rows["key"]).encode())
        numbers = np.arange(1, chosen.rows + 1, dtype=np.int64) * KEY_BYTES
    numbers.tofile(folder / "key.i64")
    times.tofile(folder / "ts.i64")
    values.tofile(folder / "value.f64")
    rows.write_parquet(folder / "rows.parquet")
    time_format = "%Y-%m-%d %H:%M:%S%.6f"
    if chosen.write == "csv":
        rows.write_csv(folder / "rows.csv", include_header=False, datetime_format=time_format)
    elif chosen.write == "json":
        rows.with_columns(polars.col("ts").dt.strftime(time_format)).write_ndjson(folder / "rows.json")


main()
