"""Parquet files as files of a column each, for peers that know nothing else: `columns.py FROM TO`, two folders.

The files are those of `../flink/src/main/java/Columns.java`. What is null there is 0 or empty here.
"""

import glob
import pathlib
import sys

import numpy as np
import polars


def main(source, target):
    # The names of the files tell in which order they were written.
    rows = polars.concat([polars.read_parquet(file) for file in sorted(glob.glob(f"{source}/*.parquet"))])
    for column in rows:
        file = pathlib.Path(target) / column.name
        if column.dtype == polars.String:
            text = column.fill_null("")
            np.cumsum(text.str.len_bytes().to_numpy(), dtype=np.int64).tofile(f"{file}.i64")
            pathlib.Path(f"{file}.bytes").write_bytes("".join(text).encode())
        else:
            micros = column.dt.epoch("us") if column.dtype == polars.Datetime else column
            micros.fill_null(0).cast(polars.Int64).to_numpy().tofile(f"{file}.i64")


main(*sys.argv[1:])
