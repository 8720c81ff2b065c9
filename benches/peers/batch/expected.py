"""The checksum of what Tidemill wrote: `expected.py FOLDER …`, a folder of Parquet files for each table of results."""

import glob
import json
import sys

import polars

from results import checksum


def column(values):
    if values.dtype == polars.Datetime:
        return values.dt.epoch("us").to_numpy()
    if values.dtype.is_decimal():
        return values.to_physical().cast(polars.Int64).to_numpy()
    return values.to_numpy()


def table(folder):
    parts = [polars.read_parquet(file) for file in glob.glob(f"{folder}/**/*.parquet", recursive=True)]
    found = polars.concat(parts)
    exact = [column(found[name]) for name in found.columns if name not in ("total", "mean")]
    return checksum(exact, *(found[name].to_numpy() for name in ("total", "mean") if name in found.columns))


def main(folders):
    tables = [table(folder) for folder in folders]
    together = {name: sum(table[name] for table in tables) for name in ("results", "sums", "means")}
    exact = sum(int(table["exact"], 16) for table in tables) % 2**64
    print(json.dumps(together | {"exact": f"{exact:016x}"}))


main(sys.argv[1:])
