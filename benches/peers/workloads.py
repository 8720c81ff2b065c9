"""What is measured: the rows, the job, and what its results add up to.

Invariant: all peers of a workload are given the rows that `tidemill bench` makes for it, or the first of them.
"""

import dataclasses
import json
import pathlib
import re
import string

from tools import HERE, PYTHON, TIDEMILL, command

# Flink needs half a minute for what takes the others a second, so it is given the first fifth of the rows: a rate is that of
# the rows that were read.
FLINK_SHARE = 5

WINDOWS = {
    "tumbling": "TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)",
    "hopping": "HOP(TABLE events, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND)",
    "session": "SESSION(TABLE events PARTITION BY `key`, DESCRIPTOR(ts), INTERVAL '10' SECOND)",
}


TOTALS = "'connector' = 'totals'"


@dataclasses.dataclass
class Rows:
    """Rows in a folder, and what all results over them add up to where that does not depend on the clock."""

    folder: pathlib.Path
    number: int
    checksum: dict | None


def totals(job, folder, tables=("results",)):
    """What the results of a job file add up to as Tidemill computes them, which go to folders of the tables' names."""
    file = folder / "check.sql"
    file.write_text(job)
    command(TIDEMILL, "run", file)
    return json.loads(command(PYTHON, HERE / "batch" / "expected.py", *(folder / table for table in tables)))


def first(rows):
    """How many of the rows Flink is given."""
    return max(1, rows // FLINK_SHARE)


def files(path):
    return f"'connector' = 'filesystem', 'path' = '{path}', 'format' = 'parquet'"


def columns(path):
    return f"'connector' = 'columns', 'path' = '{path}'"


def template(name, **words):
    return string.Template((HERE / name).read_text()).substitute(words)


@dataclasses.dataclass(frozen=True)
class Windows:
    """A window over the rows of `tidemill bench`; keys as batch/rows.py takes them."""

    title: str
    window: str = "tumbling"
    keys: str = "10000"
    text_keys: bool = False
    source: str = "memory"

    def peers(self):
        """Who takes part, and why others do not."""
        missing = {}
        if self.source != "memory":
            missing["timely"] = "it has no reader of text: files would measure a parser written for it"
            missing["flink"] = "it is measured with rows in memory"
        elif self.text_keys:
            missing["timely"] = "it is written for keys that are numbers"
        elif self.window == "session":
            missing["timely"] = "sessions are not written for it"
            if self.keys == "1000000":
                missing["flink"] = "with a million sessions and 2 GB of heap a run over 2 million rows took it minutes"
        return [peer for peer in ("timely", "duckdb", "polars", "flink") if peer not in missing], missing

    def bench(self, rows):
        """Arguments of `tidemill bench`."""
        skew, keys = "uniform", self.keys
        if keys.startswith("zipf:"):
            _, keys, exponent = keys.split(":")
            skew = f"zipf:{exponent}"
        arguments = [self.window, "--rows", rows, "--keys", keys, "--skew", skew, "--source", self.source]
        arguments += ["--key-type", "text"] if self.text_keys else []
        return arguments + (["--one-file"] if self.source != "memory" else [])

    def rows(self, folder, rows):
        """All rows."""
        return self._write(folder / "all", rows, 6)

    def rows_for_flink(self, folder, rows):
        """The first rows, and Flink's job: it knows times in milliseconds only."""
        part = self._write(folder / "part", first(rows), 3)
        (part.folder / "flink.sql").write_text(self._job(3, columns(part.folder), TOTALS))
        return part

    def _write(self, folder, rows, digits):
        folder.mkdir()
        options = ["--write", self.source] if self.source != "memory" else []
        options += ["--text-keys"] if self.text_keys else []
        options += ["--millis"] if digits == 3 else []
        command(PYTHON, HERE / "batch" / "rows.py", *options, rows, self.keys, folder)
        job = self._job(digits, files(folder / "rows.parquet"), files(folder / "results"))
        return Rows(folder, rows, totals(job, folder))

    def _job(self, digits, rows, results):
        counted_only = ", ".join(["CAST(0 AS DOUBLE)"] * 4)
        return template(
            "windows.sql",
            key_type="STRING" if self.text_keys else "BIGINT",
            time_type=f"TIMESTAMP({digits})",
            window=WINDOWS[self.window],
            aggregates=counted_only if self.window == "hopping" else "MIN(`value`), MAX(`value`), SUM(`value`), AVG(`value`)",
            rows=rows,
            results=results,
        )


@dataclasses.dataclass(frozen=True)
class Nexmark:
    """A query of ../nexmark over the first of its events."""

    query: str
    repeatable: bool = True

    @property
    def title(self):
        """What it is, by the first line of its file."""
        return re.match(r"-- (.*)", self._text()).group(1)

    def peers(self):
        return ["flink"], dict.fromkeys(("timely", "duckdb", "polars"), "it is measured with one window over rows")

    def bench(self, rows):
        return [f"nexmark:{self.query}", "--rows", first(rows)]

    def rows_for_flink(self, folder, rows):
        """Events that Tidemill generates, and Flink's job, which is Tidemill's but for the connectors."""
        made, events = folder / "made", first(rows)
        (folder / "events.sql").write_text(template("nexmark-events.sql", events=events, columns=files(made)))
        command(TIDEMILL, "run", folder / "events.sql", "--parallelism", 1)
        part = folder / "part"
        part.mkdir()
        command(PYTHON, HERE / "batch" / "columns.py", made, part)
        (part / "flink.sql").write_text(self._job(columns(part), lambda table: TOTALS))
        if not self.repeatable:
            return Rows(part, events, None)
        source = f"'connector' = 'nexmark', 'first-event.rate' = '100000', 'next-event.rate' = '100000', 'events.num' = '{events}'"
        tables = re.findall(r"CREATE TABLE (nexmark_\w+)", self._text())
        return Rows(part, events, totals(self._job(source, lambda table: files(part / table)), part, tables))

    def _text(self):
        return (HERE.parent / "nexmark" / f"{self.query}.sql").read_text()

    def _job(self, events, results):
        job = re.sub(r"WITH \(\s*'connector' = 'nexmark',[^)]*\)", f"WITH ({events})", self._text())
        table = r"(CREATE TABLE (nexmark_\w+) [^;]*WITH )\('connector' = 'blackhole'\)"
        return re.sub(table, lambda found: f"{found[1]}({results(found[2])})", job)


WORKLOADS = {
    "w1": Windows("tumbling 10 s, 10 000 keys"),
    "w1-1key": Windows("tumbling 10 s, 1 key", keys="1"),
    "w1-zipf": Windows("tumbling 10 s, 10 000 keys, Zipf 1.1", keys="zipf:10000:1.1"),
    "w1-1m": Windows("tumbling 10 s, 1 000 000 keys", keys="1000000"),
    "w1s": Windows("tumbling 10 s, 10 000 keys of 16 bytes of text", text_keys=True),
    "w2": Windows("hopping 10 s by 2 s, 100 000 keys, the count", "hopping", keys="100000"),
    "w3-json": Windows("tumbling 10 s, 10 000 keys, from one file of NDJSON", source="json"),
    "w3-csv": Windows("tumbling 10 s, 10 000 keys, from one file of CSV", source="csv"),
    "w5": Windows("sessions, gap 10 s, 10 000 keys", "session"),
    "w5-1m": Windows("sessions, gap 10 s, 1 000 000 keys", "session", keys="1000000"),
    **{f"w4-{query}": Nexmark(query) for query in ("q0", "q1", "q2", "q5", "q7", "q8", "q11")},
    "w4-q12": Nexmark("q12", repeatable=False),
}
