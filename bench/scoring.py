"""Texts a second in scoring N responses to a prompt: ours, and as most trainers do it, padded, 16 at a time.

    python bench/scoring.py --responses 16 --repeats 5
    python bench/scoring.py --shapes 256/64 --spread 0.5

A Llama of random weights and random tokens, since speed depends on neither; shapes are tokens of the prompt /
of the response, which `--spread` draws from that far around. bf16 autocast where the machine has it for both,
interleaved repeats after one to warm up, medians. Prints JSON, a line a shape.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
from peers import random_llama

from outweigh.models.batches import pad
from outweigh.models.loading import load_classifier, load_tokenizer
from outweigh.models.precision import autocast_dtype
from outweigh.models.reward import RewardModel

PADDED = 16
"""Texts a padded batch, in the order in which they come."""
CPU = torch.device("cpu")


def some_texts(shape: str, told: argparse.Namespace) -> list[list[int]]:
    """Token ids of all responses, those to one prompt together."""
    rng = np.random.default_rng(0)
    prompt, response = map(int, shape.split("/"))
    low, high = round(response * (1 - told.spread)), round(response * (1 + told.spread))
    texts = []
    for _ in range(told.prompts):
        shared = rng.integers(10, 10_000, prompt).tolist()
        sizes = rng.integers(max(1, low), high + 1, told.responses)
        texts += [shared + rng.integers(10, 10_000, size).tolist() for size in sizes]
    return texts


@torch.inference_mode()
def padded(model: RewardModel, texts: list[list[int]]) -> np.ndarray:
    """Rewards by the plain loop, float64 (N,)."""
    model.model.set_attn_implementation("sdpa")
    dtype = autocast_dtype(CPU)
    rewards = []
    for start in range(0, len(texts), PADDED):
        inputs = pad(texts[start : start + PADDED], model.tokenizer.pad_token_id, CPU)
        with torch.autocast("cpu", dtype) if dtype else nullcontext():
            rewards.append(model.model(**inputs).logits[:, 0].double())
    return torch.cat(rewards).numpy()


def ours(model: RewardModel, texts: list[list[int]]) -> np.ndarray:
    """Rewards as `outweigh score` gives them, float64 (N,)."""
    model.model.set_attn_implementation("outweigh")
    return model.score_ids(texts)


def main() -> None:
    """Prints a line for each shape."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", default=["1024/128", "256/64", "64/256"])
    parser.add_argument("--responses", type=int, default=16)
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--spread", type=float, default=0.0, help="share by which lengths differ")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5)
    told = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        random_llama(told, folder)
        tokenizer = load_tokenizer(folder)
        model = RewardModel(load_classifier(folder, tokenizer), tokenizer)
    ways: dict[str, Callable[[RewardModel, list[list[int]]], np.ndarray]] = {
        "outweigh": ours,
        "padded": padded,
    }
    for shape in told.shapes:
        texts = some_texts(shape, told)
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        rewards = {}
        for repeat in range(told.repeats + 1):
            for way, score in ways.items():
                started = time.perf_counter()
                rewards[way] = score(model, texts)
                if repeat:
                    seconds[way].append(time.perf_counter() - started)
        medians = {way: statistics.median(each) for way, each in seconds.items()}
        apart = np.abs(rewards["outweigh"] - rewards["padded"]).max() / np.abs(rewards["padded"]).max()
        line = {
            "shape": shape,
            "responses": told.responses,
            "texts_a_second": {way: round(len(texts) / each, 2) for way, each in medians.items()},
            "times_ours_is_faster": round(medians["padded"] / medians["outweigh"], 2),
            "from_to": [
                round(min(seconds["padded"]) / max(seconds["outweigh"]), 2),
                round(max(seconds["padded"]) / min(seconds["outweigh"]), 2),
            ],
            "rewards_apart": float(f"{apart:.1e}"),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
