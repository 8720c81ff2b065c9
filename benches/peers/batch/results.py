"""What results add up to, whatever the order they come in: the same in every peer (`../timely/src/checksum.rs`).

Invariant: all but the sums agree bit by bit; the sums are weighted by their groups, so that they cannot change places
unnoticed.
"""

import numpy as np


FACTOR = np.uint64(0xBF7158809CF4F3C7)


def mix(x):
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014), with its increment; over arrays of 64-bit numbers."""
    return finish(x + np.uint64(0x9E3779B97F4A7C15))


def finish(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def parts(column):
    """The 64-bit numbers that stand for a column: of texts their lengths and their first 16 bytes."""
    if column.dtype.kind in "OUST":
        texts = [text.encode() for text in column]
        words = np.array([text[:16].ljust(16, b"\0") for text in texts], "S16")
        # numpy takes zeros away from the end of an element, but they are still there.
        words = np.frombuffer(words.tobytes(), np.uint64).reshape(-1, 2)
        return [np.array([len(text) for text in texts], np.uint64), words[:, 0], words[:, 1]]
    return [column.astype(np.float64 if column.dtype.kind == "f" else np.int64).view(np.uint64)]


def checksum(exact, total=None, mean=None):
    """Of columns of results; of those in `exact`, times are in microseconds."""
    hashes = np.zeros(len(exact[0]), np.uint64)
    for column in exact:
        for part in parts(np.asarray(column)):
            hashes = hashes * FACTOR + part
    hashes = mix(hashes)
    weights = 0.5 + (hashes >> np.uint64(11)).astype(np.float64) / 2.0**53
    return {
        "results": len(hashes),
        "exact": f"{int(hashes.sum(dtype=np.uint64)):016x}",
        "sums": 0.0 if total is None else float((weights * total).sum()),
        "means": 0.0 if mean is None else float((weights * mean).sum()),
    }
