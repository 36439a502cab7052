"""AUROC of planted flips by heads that look once, by those that were taught what the first ones say, by both.

    python bench/second_look.py --names sense arguments --pairs 500 1500 0 --seeds 3
    python bench/second_look.py --names sense --backbone smollm2 --depth 0.4 0.5 0.67

Heads on frozen features as `outweigh audit` has them, a fifth of the labels of train files planted wrong;
`pairs` 0 takes all, else as many are drawn anew for each seed. Prints JSON, a line a data set, depth and
number of pairs, with the mean over seeds, the smallest gain of both looks over the first, and the seconds
that the features of all pairs took, of which some may have been in the cache.
"""

import argparse
import json
import time
from itertools import product
from pathlib import Path

import numpy as np

from outweigh.auditing.strength import preference_strength
from outweigh.auditing.trust import planted_flips
from outweigh.data.pairs import read_pairs
from outweigh.metrics.detection import auroc
from outweigh.models.config import DEPTH
from outweigh.models.features import Encoder, Features, pair_features
from outweigh.steps.votes import head_votes
from outweigh.voting.config import ProbeConfig, VoteConfig

FLIPS = 0.2
FIRST_SEED = 10  # the first ones served to choose defaults


def looked_for(features: Features, seed: int) -> dict[str, float]:
    """AUROC of the first look, of the second, and of both, on flips that the seed plants."""
    flipped = planted_flips(len(features.chosen_B), 1000 + seed, FLIPS)
    gap_MB = head_votes(features.swapped(flipped), ProbeConfig(), seed=seed).gap_MB
    first = ProbeConfig().models
    looks = {"first": gap_MB[:first], "second": gap_MB[first:], "both": gap_MB}
    found = {name: auroc(-preference_strength(each).mean, flipped) for name, each in looks.items()}
    return {name: value for name, value in found.items() if value is not None}


def main() -> None:
    """Prints a line for each data set and number of pairs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--names", nargs="+", default=["sense", "arguments", "rmb", "hh_helpful", "hh_harmless"]
    )
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--depth", type=float, nargs="+", default=[DEPTH], help="share of layers below them")
    parser.add_argument("--pairs", type=int, nargs="+", default=[0])
    parser.add_argument("--seeds", type=int, default=3)
    told = parser.parse_args()
    for name, depth in product(told.names, told.depth):
        encoder = Encoder(backbone=told.backbone, tokens=VoteConfig().tokens, depth=depth)
        started = time.perf_counter()
        every = pair_features(read_pairs(told.data / f"{name}.train.jsonl.gz"), encoder)
        seconds = round(time.perf_counter() - started, 1)
        for pairs in told.pairs:
            results = []
            for seed in range(FIRST_SEED, FIRST_SEED + told.seeds):
                order = np.random.default_rng(seed).permutation(len(every.chosen_B))
                drawn = np.sort(order[: pairs or None])
                some = Features(every.matrix_NH, every.chosen_B[drawn], every.rejected_B[drawn])
                results.append(looked_for(some, seed))
            line = {"data": name, "backbone": told.backbone, "depth": depth, "pairs": len(drawn)}
            line |= {"seeds": told.seeds, "features_seconds": seconds}
            mean = {look: round(float(np.mean([each[look] for each in results])), 4) for look in results[0]}
            least = min(each["both"] - each["first"] for each in results)
            print(json.dumps(line | mean | {"least_gain_of_both": round(least, 4)}), flush=True)


if __name__ == "__main__":
    main()
