"""Training beside TRL's and scoring beside padded texts, models of 0.5B, 1B and 3B: one command, no download.

    python bench/gpu.py --repeats 3
    python bench/gpu.py --tiny

Made for a GPU, where it was never run: none was there. Models are Llamas of random weights, texts random
words, the tokenizer is SmolLM2's, which comes as a package; bf16 where the machine has it. What is measured
is what bench/peers.py and bench/scoring.py measure. `share` is of what one product of the layers' size
reaches, at 6 FLOP a weight and token in training, 2 in scoring, tokens counted as given: a way that computes
a prompt once can pass 1. `--tiny` has sizes for a CPU. Prints JSON, a line a size, work and way.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from step_profile import product_rate

from outweigh.models.batches import token_budget
from outweigh.models.precision import autocast_dtype, default_device

HERE = Path(__file__).parent


class Size(NamedTuple):
    """Of a model and of what goes through it."""

    hidden: int
    layers: int
    pairs: int
    batch: int
    shape: str  # tokens of prompt / response
    responses: int  # a prompt, scored


SIZES = {
    "0.5B": Size(1280, 20, 512, 32, "256/256", 16),
    "1B": Size(1792, 24, 512, 32, "256/256", 16),
    "3B": Size(2816, 30, 256, 32, "256/256", 16),
}
TINY = {"tiny": Size(64, 2, 4, 2, "16/8", 2)}


def printed(script: str, *told: str) -> list[dict[str, Any]]:
    """What a bench beside this one prints, line by line.

    Raises:
        SystemExit: it failed, with the end of what it said.
    """
    command = [sys.executable, str(HERE / script), *told]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script} {' '.join(told)}: failed.\n{done.stderr[-3000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def lines(name: str, size: Size, repeats: int) -> Iterator[dict[str, Any]]:
    """A line for each work and way."""
    device = default_device()
    dtype = autocast_dtype(device) or torch.float32
    rate = product_rate(dtype, token_budget(device), size.hidden, device)
    weights = size.layers * 12 * size.hidden**2  # 4 in attention, 3 * 8 / 3 in the feed-forward part
    machine = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    of_all = {"model": name, "device": machine, "dtype": str(dtype), "tflop_per_s": round(rate / 1e12, 2)}
    model = ["--hidden", str(size.hidden), "--layers", str(size.layers), "--repeats", str(repeats)]
    asked = ["--shape", size.shape, "--pairs", str(size.pairs), "--batch", str(size.batch)]
    for line in printed("peers.py", *model, *asked):
        yield of_all | line | {"share": round(6 * weights * line["tokens_a_second"] / rate, 3)}
    asked = ["--shapes", size.shape, "--responses", str(size.responses)]
    for line in printed("scoring.py", *model, *asked):
        for way, texts in line["texts_a_second"].items():
            tokens = texts * line["tokens"] / line["texts"]
            found = {"work": "scoring", "data": line["shape"], "way": way, "texts_a_second": texts}
            found |= {"tokens_a_second": round(tokens), "share": round(2 * weights * tokens / rate, 3)}
            yield of_all | found | {"times_ours_is_faster": line["times_ours_is_faster"][way]}


def main() -> None:
    """Prints the lines, size after size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--tiny", action="store_true", help="a model and texts for a CPU, in a minute")
    parser.add_argument("--repeats", type=int, default=3)
    told = parser.parse_args()
    for name, size in (TINY if told.tiny else {name: SIZES[name] for name in told.sizes}).items():
        for line in lines(name, size, told.repeats):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
