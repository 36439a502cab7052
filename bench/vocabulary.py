"""Seconds of a step that trains the whole table of embeddings, and of one that trains the rows in use.

    python bench/vocabulary.py --backbone minilm --repeats 20

16 pairs of the demo a step, forward, backward, clipping and AdamW, bf16 autocast where the machine has it;
the two ways take each step in turn. Prints medians, quartiles and the ratio as JSON.
"""

import argparse
import json
import time
from typing import Any

import datasets
import numpy as np
import torch
from torch import nn

from outweigh.data.pairs import read_pairs
from outweigh.data.rendering import Renderer
from outweigh.data.tokens import encode
from outweigh.models.batches import CPU_TOKENS, read_texts
from outweigh.models.loading import load_classifier, load_tokenizer, reward_layer
from outweigh.models.packing import choose_attention
from outweigh.models.precision import autocast_dtype
from outweigh.models.vocabulary import tokens_used, training_rows
from outweigh.objectives.pairwise import pairwise_loss
from outweigh.steps.demo import PAIRS, SHORT

CPU = torch.device("cpu")
PAIRS_A_STEP = 16


class Way:
    """A model and its optimiser."""

    def __init__(self, backbone: str, tokenizer: Any) -> None:
        self.pad_token = tokenizer.pad_token_id
        self.dtype = autocast_dtype(CPU)
        self.model = load_classifier(backbone, tokenizer).train()
        layer = reward_layer(self.model)
        self.packs = choose_attention(self.model, layer, CPU, self.dtype, SHORT.max_tokens)
        self.optimiser: torch.optim.AdamW | None = None

    def step(self, ids: list[list[int]]) -> float:
        """Seconds of a training step on these texts, chosen and rejected in turn."""
        self.optimiser = self.optimiser or torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)
        started = time.perf_counter()
        with torch.autocast("cpu", dtype=self.dtype, enabled=self.dtype is not None):
            how = {"pad_token": self.pad_token, "device": CPU, "max_tokens": CPU_TOKENS, "packs": self.packs}
            reward = read_texts(self.model, reward_layer(self.model), ids, **how).rewards
        pairwise_loss(reward[::2] - reward[1::2]).mean().backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return time.perf_counter() - started


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--repeats", type=int, default=20)
    told = parser.parse_args()
    tokenizer = load_tokenizer(told.backbone)
    pairs = read_pairs(PAIRS / "train.jsonl.gz")
    texts = [(pair.prompt, side) for pair in pairs for side in (pair.chosen, pair.rejected)]
    encoded = [text.ids for text in encode(texts, Renderer(tokenizer, SHORT.template))]
    examples = datasets.Dataset.from_dict({"response_ids": [encoded]})
    ways = {"whole table": Way(told.backbone, tokenizer), "rows in use": Way(told.backbone, tokenizer)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    order = np.random.default_rng(0).permutation(len(pairs))
    with training_rows(ways["rows in use"].model, [examples]):
        for repeat in range(told.repeats + 1):
            some = order[repeat * PAIRS_A_STEP : (repeat + 1) * PAIRS_A_STEP]
            ids = [encoded[2 * pair + side] for pair in some for side in (0, 1)]
            for name, way in ways.items():
                taken = way.step(ids)
                if repeat:  # the first one also makes the optimiser's state
                    seconds[name].append(taken)
    quartiles = {
        name: np.quantile(each, [0.25, 0.5, 0.75]).round(4).tolist() for name, each in seconds.items()
    }
    ratio = quartiles["whole table"][1] / quartiles["rows in use"][1]
    rows = {"table": tokenizer.vocab_size, "in use": len(tokens_used(examples))}
    print(json.dumps({"rows": rows, "seconds, quartiles": quartiles, "times faster": round(ratio, 2)}))


if __name__ == "__main__":
    main()
