"""Where things are, and how commands are run."""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PYTHON = TARGET / "peers" / "venv" / "bin" / "python"
TIDEMILL = TARGET / "release" / "tidemill"


class Missing(Exception):
    """Why a peer cannot take part."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def command(*words, **options):
    """Runs a command; what it prints. A failure is told with the line of its complaint that says most."""
    done = subprocess.run([str(word) for word in words], **{"cwd": ROOT, "capture_output": True, "text": True} | options)
    if done.returncode:
        complaint = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        line = next((line for line in complaint if line.lower().startswith(("error", "[error"))), complaint[-1])
        raise Missing(f"`{pathlib.Path(words[0]).name} {words[1]}` failed: {line}")
    return done.stdout
