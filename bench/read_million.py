"""Prints how fast a million pairs are read, checked, split and tokenised, and the peak memory it takes.

    python bench/read_million.py [--pairs 1000000]

The file is made in a temporary folder: prompts, responses of 20 to 120 words, votes.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from outweigh.data.checks import check_pairs_data
from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet, read_pairs
from outweigh.data.rendering import Renderer
from outweigh.data.split import hold_out
from outweigh.data.tokens import tokenise
from outweigh.models.loading import load_tokenizer
from outweigh.training.items import items_of

WORDS = [f"word{number:04d}" for number in range(5000)]


def write_pairs(path: Path, pairs: int) -> None:
    """Writes so many pairs; four of them share a prompt."""
    draw = random.Random(0)

    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(20, 120)))

    with path.open("w", encoding="utf-8") as out:
        for row in range(pairs):
            values = {
                "prompt": f"Question {row // 4}",
                "chosen": text(),
                "rejected": text(),
                "votes_chosen": 3,
            }
            out.write(json.dumps(values) + "\n")


def timed(name: str, pairs: int, step: Callable[[], Any]) -> Any:
    """What the step returns; prints its rate and the memory that the process has had at most so far."""
    started = time.perf_counter()
    result = step()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"{name:<14} {seconds:8.1f} s {pairs / seconds:12,.0f} pairs/s   peak {peak:5.2f} GB", flush=True)
    return result


def steps(cache: Path) -> dict[str, Callable[[PairSet], Any]]:
    """What is measured after reading, by name; token ids are written into `cache`."""

    def tokens(pairs: PairSet) -> Any:
        renderer, items = Renderer(load_tokenizer("minilm")), items_of(pairs)
        return tokenise(items.read(), renderer, TokenConfig(), key=items.key, cache_dir=cache)

    return {
        "check": check_pairs_data,
        "hold out": lambda pairs: hold_out(pairs, 0.1, seed=0),
        "tokenise": tokens,
    }


def measure(path: Path, cache: Path, count: int) -> None:
    """Reads the file twice, the second time from the cache, and takes each further step once."""
    timed("read", count, lambda: read_pairs(path, cache_dir=cache))
    pairs = timed("read again", count, lambda: read_pairs(path, cache_dir=cache))
    for name, step in steps(cache).items():
        timed(name, count, partial(step, pairs))


def main() -> None:
    """Makes the file and measures in a process of its own, so that making it does not count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder:
        measure(args.folder / "pairs.jsonl", args.folder / "cache", args.pairs)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.jsonl"
        write_pairs(path, args.pairs)
        print(f"{args.pairs:,} pairs, {path.stat().st_size / 1024**3:.2f} GB", flush=True)
        command = [sys.executable, __file__, "--pairs", str(args.pairs), "--folder", folder]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
