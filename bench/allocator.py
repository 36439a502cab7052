"""Seconds and memory of a training on a CPU with the C library's malloc and with another one.

    apt-get install libtcmalloc-minimal4
    python bench/allocator.py --library /usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4 --repeats 3

Each training is a process of its own; the two kinds take turns. Prints medians and ratios as JSON.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import outweigh
from outweigh.data.config import TokenConfig
from outweigh.data.files import raw_rows
from outweigh.training.config import TrainConfig


def train(data: Path, pairs: int) -> None:
    """Prints what one training of MiniLM takes in this process."""
    rows = [raw.values for raw in islice(raw_rows(data), pairs) if raw.values is not None]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        outweigh.train(rows, out=place, config=TrainConfig(tokens=TokenConfig(max_tokens=256)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(json.dumps({"seconds": time.perf_counter() - started, "peak_gib": peak}))


def main() -> None:
    """Runs the two kinds in turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/arguments.train.jsonl.gz"))
    parser.add_argument("--pairs", type=int, default=1600)
    parser.add_argument("--library", default="/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.one:
        return train(told.data, told.pairs)
    found: dict[str, list[dict[str, float]]] = {"malloc": [], Path(told.library).name: []}
    command = [sys.executable, __file__, "--one", "--data", str(told.data), "--pairs", str(told.pairs)]
    for _ in range(told.repeats):
        for name, each in found.items():
            preload = {} if name == "malloc" else {"LD_PRELOAD": told.library}
            done = subprocess.run(
                command, env=os.environ | preload, capture_output=True, text=True, check=True
            )
            each.append(json.loads(done.stdout.splitlines()[-1]))
    medians = {
        name: {key: round(statistics.median(one[key] for one in each), 2) for key in each[0]}
        for name, each in found.items()
    }
    first, second = medians.values()
    ratios = {key: round(second[key] / first[key], 2) for key in first}
    print(json.dumps({"pairs": told.pairs, "medians": medians, "ratios": ratios, "all": found}))


if __name__ == "__main__":
    main()
