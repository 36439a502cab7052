"""Texts a second in scoring N responses to a prompt: ours; ours by the other attention; padded, 16 at a
time, as trainers do it; by transformers' text-classification pipeline, 16 at a time; and as TRL's GRPOTrainer
asks a reward model, the N responses in one padded pass.

    python bench/scoring.py --responses 16 --repeats 5
    python bench/scoring.py --shapes 256/64 --spread 0.5

A Llama of random weights and random words, since speed depends on neither; shapes are tokens of the prompt /
of the response, which `--spread` draws from that far around. The pipeline and TRL's way tokenise, too; the
others get token ids. bf16 autocast where the machine has it for all, interleaved repeats after one to warm
up, medians. Prints JSON, a line a shape.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from peers import random_llama, whole_words
from transformers import pipeline

from outweigh.models.batches import pad
from outweigh.models.loading import load_classifier, load_tokenizer
from outweigh.models.precision import autocast_dtype, default_device
from outweigh.models.reward import RewardModel
from outweigh.models.rows import Trees

PADDED = 16
"""Texts a padded batch, in the order in which they come."""
DEVICE = default_device()


def some_texts(shape: str, told: argparse.Namespace, words: list[int]) -> list[list[int]]:
    """Token ids of all responses, those to one prompt together, each a word of its own."""
    rng = np.random.default_rng(0)
    prompt, response = map(int, shape.split("/"))
    low, high = round(response * (1 - told.spread)), round(response * (1 + told.spread))
    texts = []
    for _ in range(told.prompts):
        shared = rng.choice(words, prompt).tolist()
        sizes = rng.integers(max(1, low), high + 1, told.responses)
        texts += [shared + rng.choice(words, size).tolist() for size in sizes]
    return texts


def attended_otherwise(model: RewardModel, texts: list[list[int]]) -> np.ndarray:
    """Our rewards by the attention that is not chosen here: torch's fused one, or the plain one."""
    packs = model.packs
    model.packs = Trees(plain=not (isinstance(packs, Trees) and packs.plain))
    rewards = model.score_ids(texts)
    model.packs = packs
    return rewards


class Theirs:
    """Rewards, float64 (N,), by a model as transformers loads it."""

    def __init__(self, model: Any, tokenizer: Any, responses: int) -> None:
        self._model = model.to(DEVICE).eval()
        self._tokenizer = tokenizer
        self._scorer = pipeline("text-classification", model=model, tokenizer=tokenizer, device=DEVICE)
        self._written: list[str] = []
        self._responses = responses

    def write(self, texts: list[list[int]]) -> None:
        """Nothing; these are the texts that are scored from now on."""
        self._written = self._tokenizer.batch_decode(texts)

    @torch.no_grad()
    def padded(self, texts: list[list[int]]) -> np.ndarray:
        """By the plain loop, whose weights are cast once."""
        dtype, rewards = autocast_dtype(DEVICE), []
        with torch.autocast(DEVICE.type, dtype) if dtype else nullcontext():
            for start in range(0, len(texts), PADDED):
                inputs = pad(texts[start : start + PADDED], self._tokenizer.pad_token_id, DEVICE)
                rewards.append(self._model(**inputs).logits[:, 0].double())
        return torch.cat(rewards).cpu().numpy()

    @torch.inference_mode()
    def piped(self, _: list[list[int]]) -> np.ndarray:
        """By the pipeline."""
        dtype = autocast_dtype(DEVICE)
        with torch.autocast(DEVICE.type, dtype) if dtype else nullcontext():
            found = self._scorer(self._written, batch_size=PADDED, function_to_apply="none")
        return np.array([each["score"] for each in found])

    @torch.inference_mode()
    def as_trl(self, _: list[list[int]]) -> np.ndarray:
        """As TRL 1.16's GRPOTrainer has them, but under the autocast that all get."""
        dtype, rewards = autocast_dtype(DEVICE), []
        for start in range(0, len(self._written), self._responses):
            some = self._written[start : start + self._responses]
            inputs = self._tokenizer(
                text=some, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False
            ).to(DEVICE)
            with torch.autocast(DEVICE.type, dtype) if dtype else nullcontext():
                rewards.append(self._model(**inputs).logits[:, 0].double())
        return torch.cat(rewards).cpu().numpy()


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
    parser.add_argument("--tokenizer", default="smollm2")
    parser.add_argument("--repeats", type=int, default=5)
    told = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        random_llama(told, folder)
        tokenizer = load_tokenizer(folder)
        plain = load_classifier(folder, tokenizer)
    model = RewardModel(copy.deepcopy(plain), tokenizer)  # ours changes how its model computes
    theirs = Theirs(plain, tokenizer, told.responses)
    ways: dict[str, Callable[[list[list[int]]], np.ndarray]] = {
        "outweigh": model.score_ids,
        "the other attention": partial(attended_otherwise, model),
        "padded": theirs.padded,
        "pipeline": theirs.piped,
        "TRL": theirs.as_trl,
    }
    words = whole_words(tokenizer)
    for shape in told.shapes:
        texts = some_texts(shape, told, words)
        theirs.write(texts)
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        rewards = {}
        for repeat in range(told.repeats + 1):
            for way, score in ways.items():
                started = time.perf_counter()
                rewards[way] = score(texts)
                if repeat:
                    seconds[way].append(time.perf_counter() - started)
        medians = {way: statistics.median(each) for way, each in seconds.items()}
        first, last = rewards["outweigh"], np.abs(rewards["outweigh"]).max()
        line = {
            "shape": shape,
            "responses": told.responses,
            "tokens": sum(map(len, texts)),
            "texts": len(texts),
            "texts_a_second": {way: round(len(texts) / each, 2) for way, each in medians.items()},
            "times_ours_is_faster": {
                way: round(each / medians["outweigh"], 2) for way, each in medians.items()
            },
            "from_to": {
                way: [
                    round(min(seconds[way]) / max(seconds["outweigh"]), 2),
                    round(max(seconds[way]) / min(seconds["outweigh"]), 2),
                ]
                for way in ways
            },
            "rewards_apart": {
                way: float(f"{np.abs(first - each).max() / last:.1e}") for way, each in rewards.items()
            },
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
