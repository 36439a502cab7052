"""What each method adds to plain training, in seconds and memory; each training is a process of its own.

    python bench/overhead.py --pairs 320 --repeats 3

The methods take turns; a ratio is of medians to those of plain training. `training` is the time of the steps,
`all` that of the whole run with what the method works out before. Prints JSON.
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
from typing import Any

import numpy as np

import outweigh
from outweigh.data.files import raw_rows
from outweigh.study.config import configured
from outweigh.training.config import TrainConfig

METHODS: dict[str, dict[str, Any]] = {
    "plain": {},
    "margin from a column": {"margin": "strength"},
    "flip rate": {"flip_rate": 0.1},
    "cap from length": {"cap": "length"},
    "cap from cosine": {"cap": "cosine"},
    "cap, learned": {"cap": "learned"},
    "cap, random": {"cap": "random"},
    "batch margin": {"margin": "batch"},
    "batch margin, accumulated": {"margin": "batch", "device_pairs": 4},
    "plain, accumulated": {"device_pairs": 4},
    "centring": {"auxiliary": {"centring": 0.01}},
    "batch sum": {"auxiliary": {"batch-sum": 0.001}},
    "dropout": {"dropout": 0.05},
    "simcse": {"dropout": 0.05, "contrast": {"kind": "simcse"}},
    "swav": {"dropout": 0.05, "contrast": {"kind": "swav"}},
    "metarm": {"meta": {"data": "SHIFTED"}},
}
"""Options of `outweigh train`; SHIFTED stands for a file of five responses to each prompt."""


def rows_of(data: Path, pairs: int) -> list[dict[str, Any]]:
    """The first pairs of the file, each with a strength, which is made up: only its cost is looked at."""
    rng = np.random.default_rng(0)
    rows = [raw.values for raw in islice(raw_rows(data), pairs) if raw.values is not None]
    return [row | {"strength": float(rng.normal())} for row in rows]


def train(data: Path, pairs: int, method: str, max_tokens: int) -> None:
    """Prints what one training by the method takes in this process."""
    rows = rows_of(data, pairs)
    with tempfile.TemporaryDirectory() as place:
        shifted = Path(place) / "shifted.jsonl"
        responses = [row[side] for row in rows for side in ("chosen", "rejected")]
        groups = [responses[at : at + 5] for at in range(0, len(responses) - 4, 5)]
        lines = (json.dumps({"prompt": "Continue.", "responses": each}) for each in groups)
        shifted.write_text("".join(f"{line}\n" for line in lines))
        own = json.loads(json.dumps(METHODS[method]).replace("SHIFTED", str(shifted)))
        plain = {"tokens": {"max_tokens": max_tokens}, "validation": 0.0}
        config = configured(TrainConfig, plain | own, method)
        started = time.perf_counter()
        found = outweigh.train(rows, out=Path(place) / "run", config=config)
        seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "training": found["seconds"]["training"],
                "all": seconds,
                "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2,
            }
        )
    )


def main() -> None:
    """Runs the methods in turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/sense.train.jsonl.gz"))
    parser.add_argument("--pairs", type=int, default=320)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.one:
        return train(told.data, told.pairs, told.one, told.max_tokens)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in dict.fromkeys(["plain", *told.methods])}
    sizes = ["--data", str(told.data), "--pairs", str(told.pairs), "--max-tokens", str(told.max_tokens)]
    for _ in range(told.repeats):
        for name, each in found.items():
            command = [sys.executable, __file__, "--one", name, *sizes]
            with tempfile.TemporaryDirectory() as cache:  # what one works out, the next one must not find
                own = os.environ | {"OUTWEIGH_CACHE": cache}
                done = subprocess.run(command, env=own, capture_output=True, text=True, check=True)
            each.append(json.loads(done.stdout.splitlines()[-1]))
    medians = {
        name: {key: statistics.median(one[key] for one in each) for key in each[0]}
        for name, each in found.items()
    }
    for name, median in medians.items():
        ratios = {key: round(median[key] / medians["plain"][key], 3) for key in median}
        spread = [round(one["training"], 2) for one in found[name]]
        print(json.dumps({"method": name, "ratio": ratios, "training_seconds": spread}), flush=True)


if __name__ == "__main__":
    main()
