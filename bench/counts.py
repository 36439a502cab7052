"""A reward model that sees of a text its counts alone: length, lines, lists, emphasis, words of the prompt.

It knows nothing of what is said, so what it reaches is what a style is worth to the gold, and what a model
that reads has to beat.
"""

import re
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch

from outweigh.data.records import Text, plain
from outweigh.data.rows import row_candidates
from outweigh.models.reward import Scorer
from outweigh.voting.config import ProbeConfig
from outweigh.voting.probes import fit_heads

ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])", flags=re.MULTILINE)
HEADER = re.compile(r"^#", flags=re.MULTILINE)
CLOSED = (".", "!", "?", ")", "`", '"', "*")
OPENERS = ("sure", "certainly", "i'm sorry", "as an ai")

COUNTS: dict[str, Callable[[str, str], float]] = {
    "length": lambda asked, said: float(np.log1p(len(said))),
    "length squared": lambda asked, said: float(np.log1p(len(said)) ** 2),  # too long may be worse again
    "characters": lambda asked, said: float(len(said)),
    "lines": lambda asked, said: float(said.count("\n")),
    "items": lambda asked, said: float(len(ITEM.findall(said))),
    "bold": lambda asked, said: float(said.count("**")),
    "code": lambda asked, said: float(said.count("```")),
    "headers": lambda asked, said: float(len(HEADER.findall(said))),
    "closed": lambda asked, said: float(said.rstrip().endswith(CLOSED)),  # a text cut short is not
    "distinct words": lambda asked, said: len(set(said.split())) / max(1, len(said.split())),
    "word length": lambda asked, said: len("".join(said.split())) / max(1, len(said.split())),
    "questions": lambda asked, said: float(said.count("?")),
    "opener": lambda asked, said: float(said.lower().startswith(OPENERS)),
    "I": lambda asked, said: float(said.count("I ")),
    "of the prompt": lambda asked, said: (
        len(set(asked.split()) & set(said.split())) / max(1, len(set(asked.split())))
    ),
}
HEAD = ProbeConfig(kind="linear", learning_rate=0.01, weight_decay=0.1, epochs=8)


class Counts(Scorer):
    """A linear head on the counts, trained on all pairs of a prompt's responses, each weighed by how far
    their gold is apart."""

    def __init__(self, rows: Sequence[dict[str, Any]], *, seed: int = 0) -> None:
        texts: list[tuple[Text, Text]] = []
        better, worse, weight = [], [], []
        for number, row in enumerate(rows):
            found = row_candidates(row, number, f"row {number + 1}")
            assert found.gold is not None
            for one, other in combinations(range(len(found.gold)), 2):
                apart = found.gold[one] - found.gold[other]
                if apart:
                    better.append(len(texts) + (one if apart > 0 else other))
                    worse.append(len(texts) + (other if apart > 0 else one))
                    weight.append(abs(apart))
            texts += [(found.prompt, response) for response in found.responses]
        weights = torch.tensor(weight, dtype=torch.float32)[:, None]
        self.heads = fit_heads(
            counts_of(texts),
            np.array(better),
            np.array(worse),
            config=HEAD,
            seed=seed,
            weight_BA=weights / weights.mean(),
        )

    def score_texts(self, texts: Sequence[tuple[Text, Text]]) -> np.ndarray:
        """Reward of each (prompt, response), float64 (N,)."""
        return self.heads.rewards(counts_of(texts))[:, 0].astype(np.float64)


def counts_of(texts: Sequence[tuple[Text, Text]]) -> np.ndarray:
    """The counts of each response, float32 (N, H)."""
    written = [(plain(prompt), plain(response)) for prompt, response in texts]
    return np.array([[count(*each) for count in COUNTS.values()] for each in written], dtype=np.float32)
