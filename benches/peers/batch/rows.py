"""The rows of `tidemill bench`, made again for peers that are other programs.

    rows.py ROWS KEYS|zipf:KEYS:EXPONENT FOLDER [csv|json]

Writes `key.i64`, `ts.i64` (microseconds) and `value.f64`, little-endian, a column each, and `rows.csv`, from which
Tidemill computes the results that all must agree with. For a workload of text, values are rounded to hundredths, as
in `tidemill bench`, and the rows are in `rows.csv` or `rows.json` besides.

The recipe is that of `connectors/generator/src/workload.rs`: a row every 10 µs, held back by less than a second; every
column is a function of seed and row number, by SplitMix64.
"""

import pathlib
import sys

import numpy as np
import polars

from results import finish

GAMMA = 0x9E3779B97F4A7C15
SEED = 1
STEP_US = 10
DISORDER_US = 1_000_000


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


def main(count, key_text, folder, text=None):
    folder = pathlib.Path(folder)
    count = int(count)
    times = np.arange(count, dtype=np.int64) * STEP_US - below(bits(1, count), DISORDER_US)
    values = unit(bits(2, count)) * 100.0
    if text:
        values = np.floor(values * 100.0 + 0.5) / 100.0
    columns = {"key": keys(key_text, count), "ts": times, "value": values}
    for name, column in columns.items():
        column.tofile(folder / f"{name}.{'f64' if name == 'value' else 'i64'}")
    rows = polars.DataFrame(columns).with_columns(polars.col("ts").cast(polars.Datetime("us")))
    rows.write_csv(folder / "rows.csv", include_header=False, datetime_format="%Y-%m-%d %H:%M:%S%.6f")
    if text == "json":
        written = polars.col("ts").dt.strftime("%Y-%m-%d %H:%M:%S%.6f")
        rows.with_columns(written).write_ndjson(folder / "rows.json")


main(*sys.argv[1:])
