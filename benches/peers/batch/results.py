"""What results add up to, whatever the order they come in: the same in every peer (`../timely/src/checksum.rs`).

Invariant: all but the sums agree bit by bit; the sums are weighted by their groups, so that they cannot change places
unnoticed.
"""

import numpy as np


def mix(x):
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014), with its increment; over arrays of 64-bit numbers."""
    return finish(x + np.uint64(0x9E3779B97F4A7C15))


def finish(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def checksum(end, key, count, least, greatest, total, mean):
    """Of columns of results; `end` is the window's, in microseconds."""
    hashes = np.zeros(len(key), np.uint64)
    for part in (np.asarray(end, np.int64), np.asarray(key, np.int64), np.asarray(count, np.int64),
                 np.asarray(least, np.float64), np.asarray(greatest, np.float64)):
        hashes = mix(hashes ^ part.view(np.uint64))
    weights = 0.5 + (hashes >> np.uint64(11)).astype(np.float64) / 2.0**53
    return {
        "results": len(key),
        "exact": f"{int(hashes.sum(dtype=np.uint64)):016x}",
        "sums": float((weights * total).sum()),
        "means": float((weights * mean).sum()),
    }
