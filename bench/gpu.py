"""Training beside TRL's and scoring beside padded texts, models of 0.5B, 1B and 3B: one command, no download.

    python bench/gpu.py --repeats 3
    python bench/gpu.py --tiny

Models are Llamas of random weights, texts random words, the tokenizer is SmolLM2's, which comes as a package,
or one in a folder; bf16 where the machine has it. What is measured is what bench/peers.py and
bench/scoring.py measure, the trainings of a size in one process. `share` is of what one product of the
layers' size reaches, at 6 FLOP a weight and token in training, 2 in scoring, tokens counted as given: a way
that computes a prompt once can pass 1. `--tiny` has sizes for a CPU. Prints JSON, a line a size, work and
way.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from packs import feed_forward
from step_profile import product_rate

from outweigh.models.batches import token_budget
from outweigh.models.precision import autocast_dtype, default_device

HERE = Path(__file__).parent
WORKS = ("reward", "dpo", "scoring")


class Size(NamedTuple):
    """Of a model and of what goes through it."""

    hidden: int
    layers: int
    pairs: int
    batch: int
    shape: str  # tokens of prompt / response
    prompts: int
    responses: int  # a prompt, scored


SIZES = {
    "0.5B": Size(1280, 20, 256, 8, "256/256", 16, 16),
    "1B": Size(1792, 24, 128, 8, "256/256", 16, 16),
    "3B": Size(2816, 30, 64, 8, "256/256", 8, 16),
}
TINY = {"tiny": Size(64, 2, 4, 2, "16/8", 2, 2)}


def printed(script: str, *told: str) -> Iterator[dict[str, Any]]:
    """What a bench beside this one prints, line by line as it comes, but not what trainers log between.

    Raises:
        SystemExit: it failed; what it said stands in the standard error.
    """
    command = [sys.executable, str(HERE / script), *told]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        yield from (json.loads(line) for line in running.stdout if line.startswith('{"'))
    if running.returncode:
        raise SystemExit(f"{script} {' '.join(told)}: failed.")


def lines(name: str, size: Size, told: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A line for each work and way."""
    device = default_device()
    dtype = autocast_dtype(device) or torch.float32
    rate = product_rate(dtype, token_budget(device), size.hidden, device)
    weights = size.layers * size.hidden * (4 * size.hidden + 3 * feed_forward(size.hidden))
    machine = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    of_all = {"model": name, "device": machine, "dtype": str(dtype), "tflop_per_s": round(rate / 1e12, 2)}
    model = [f"--hidden={size.hidden}", f"--layers={size.layers}"]
    model += [f"--repeats={told.repeats}", f"--tokenizer={told.tokenizer}"]
    asked = [f"--data={told.data}" if told.data else f"--shape={told.shape or size.shape}"]
    asked += [f"--pairs={size.pairs}", f"--batch={size.batch}"]
    for work in told.work:
        if work == "scoring":
            yield from scored(of_all, weights / rate, model, size, told)
        else:
            for line in printed("peers.py", *model, *asked, f"--work={work}", "--together"):
                yield of_all | line | {"share": round(6 * weights * line["tokens_a_second"] / rate, 3)}


def scored(
    of_all: dict[str, Any], seconds: float, model: list[str], size: Size, told: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """A line for each way to score; `seconds` is what the machine takes for one FLOP of each weight."""
    asked = [f"--shapes={told.shape or size.shape}", f"--prompts={size.prompts}"]
    for line in printed("scoring.py", *model, *asked, f"--responses={size.responses}"):
        for way, texts in line["texts_a_second"].items():
            tokens = texts * line["tokens"] / line["texts"]
            found = {"work": "scoring", "data": line["shape"], "way": way, "texts_a_second": texts}
            found |= {"tokens_a_second": round(tokens), "share": round(2 * seconds * tokens, 3)}
            yield of_all | found | {"times_ours_is_faster": line["times_ours_is_faster"][way]}


def main() -> None:
    """Prints the lines, size after size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--tiny", action="store_true", help="a model and texts for a CPU, in a minute")
    parser.add_argument("--work", nargs="+", choices=WORKS, default=WORKS)
    parser.add_argument("--shape", help="tokens of prompt / response, in place of each size's own")
    parser.add_argument("--tokenizer", default="smollm2", help="a bundled one, a folder or a Hub name")
    parser.add_argument("--data", type=Path, help="pairs to train on in place of random words")
    parser.add_argument("--repeats", type=int, default=3)
    told = parser.parse_args()
    for name, size in (TINY if told.tiny else {name: SIZES[name] for name in told.sizes}).items():
        for line in lines(name, size, told):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
