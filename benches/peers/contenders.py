"""Those who take part: peers, which are processes that run when they are told to, and `tidemill bench`."""

import json
import subprocess
import sys

from tools import HERE, PYTHON, TARGET, TIDEMILL, Missing, command

TIMELY = TARGET / "release" / "timely-peer"
FLINK = HERE / "flink"
THREADS = (1, 2)
# How many threads there are is said when these start; the others are told with each run.
FIXED_THREADS = ("duckdb", "polars")
TOLERANCE = 1e-9
PEERS = {"timely": "timely dataflow", "duckdb": "DuckDB batch", "polars": "Polars batch", "flink": "Apache Flink SQL"}


class Peer:
    """A process that says `ready`, and then runs once for every line it is sent, which is a number of threads."""

    def __init__(self, kind, threads, rows, *words):
        self.kind, self.name, self.threads, self.rows = kind, PEERS[kind], threads, rows
        self.process = subprocess.Popen(
            [str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.answer("ready")

    def ask(self, threads):
        try:
            self.process.stdin.write(f"{threads}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # It has ended: what it said of that is read with the answer.

    def answer(self, expected=None):
        line = self.process.stdout.readline().strip()
        if not line or (expected and line != expected):
            self.process.kill()
            complaint = self.process.communicate()[1].strip().splitlines()
            raise Missing(complaint[-1] if complaint else f"it said '{line}' and ended")
        return line

    def run(self):
        """One run on each number of threads, as `bench` tells it. Wrong results end the script."""
        found, right = {}, self.rows.checksum
        for threads in self.threads:
            self.ask(threads)
            answer = json.loads(self.answer())
            if right and not agree(answer["checksum"], right):
                sys.exit(f"{self.name} on {threads} threads found {answer['checksum']}; Tidemill found {right}")
            found[self.name, threads] = (self.rows.number, answer["seconds"], right is not None)
        return found

    def close(self):
        self.process.kill()
        self.process.communicate()


def agree(one, other):
    near = lambda a, b: abs(a - b) <= TOLERANCE * max(abs(a), abs(b))
    same = one["results"] == other["results"] and one["exact"] == other["exact"]
    return same and near(one["sums"], other["sums"]) and near(one["means"], other["means"])


def prepare():
    """Builds and installs what peers need; why which of them cannot be had."""
    # devdeps: with it, the features of all dependencies are those of every other build here.
    command("cargo", "build", "--release", "-p", "tidemill", "-p", "devdeps", "--bin", "tidemill")
    if not PYTHON.exists():
        command(sys.executable, "-m", "venv", PYTHON.parent.parent)
    # The rows come from there as well, so that nothing can be measured without.
    command(PYTHON, "-m", "pip", "--quiet", "install", "-r", HERE / "batch" / "requirements.txt")
    missing = {}
    for peer, build in {"timely": build_timely, "flink": build_flink}.items():
        try:
            build()
        except FileNotFoundError as why:
            missing[peer] = f"`{why.filename}` is not installed"
        except Missing as why:
            missing[peer] = str(why)
    return missing


def build_timely():
    command("cargo", "build", "--release", "--manifest-path", HERE / "timely" / "Cargo.toml", "--target-dir", TARGET)


def build_flink():
    command("java", "-version")
    command("mvn", "--quiet", "--batch-mode", "compile", "dependency:build-classpath", "-Dmdep.outputFile=target/classpath", cwd=FLINK)


def words(peer, threads, rows, workload):
    """The command line of a peer."""
    if peer == "timely":
        return [TIMELY, rows.folder, workload.window]
    if peer == "flink":
        classpath = f"{FLINK / 'target' / 'classes'}:{(FLINK / 'target' / 'classpath').read_text().strip()}"
        opens = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.lang", "java.util")]
        return ["java", "-Xmx2g", *opens, "-cp", classpath, "SqlPeer", rows.folder / "flink.sql"]
    return [PYTHON, HERE / "batch" / "peer.py", peer, *threads, rows.folder, workload.source, workload.window]


def bench(arguments):
    """One round of `tidemill bench`: rows, seconds and whether results were compared, by name and threads."""
    report = json.loads(command(
        TIDEMILL, "bench", *arguments, "--parallelism", ",".join(map(str, THREADS)), "--warm-up", 1, "--runs", 1, "-o", "json"))
    return {(one["name"], one["threads"]): (one["rows"], one["seconds"][0], True) for one in report["contenders"]}
