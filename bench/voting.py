"""What finding planted wrong labels costs, by who votes: AUROC, and seconds in units of one plain training.

    python bench/voting.py --data ../shared/data/sense.train.jsonl.gz --pairs 2000 --voters 10 --seeds 0 1 2

A fifth of the labels is planted wrong. Ten reward models are trained and vote, as published; of their votes
the means of the first 1, 2, 3, 5 and 10 are looked at; then heads on frozen features, which look twice; then
both, brought to one scale; then a cascade, in which the heads screen and the models judge only the doubtful
part, the `--doubtful` share that the heads side with least. `cost` counts all that a way needs; `on top`
leaves out the first training, which a run does anyway. Prints JSON, a line a way, means over the seeds.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from outweigh.auditing.trust import planted_flips
from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet, read_pairs
from outweigh.metrics.detection import auroc
from outweigh.models.config import DEPTH
from outweigh.models.features import Encoder, pair_features
from outweigh.steps.votes import head_votes
from outweigh.training.config import TrainConfig
from outweigh.training.fit import fit
from outweigh.training.items import items_of, swapped_items
from outweigh.voting.config import ProbeConfig

FloatArray = NDArray[np.float64]
PANELS = (1, 2, 3, 5, 10)
TOKENS = TokenConfig(max_tokens=256)


class Seen(NamedTuple):
    """Of one seed: which labels are wrong, the votes, and the seconds that they took."""

    wrong_B: NDArray[np.bool_]
    full_MB: FloatArray
    heads: dict[str, FloatArray]  # by backbone, (B,)
    training: float  # of one model, in seconds
    scoring: float
    features: dict[str, float]


def voted(pairs: PairSet, voters: int, backbones: list[str], depth: float, seed: int, share: float) -> Seen:
    """The votes on labels of which a share is wrong."""
    wrong_B = planted_flips(len(pairs), seed, share)
    items, gaps, training, scoring = swapped_items(items_of(pairs), wrong_B), [], [], []
    for voter in range(voters):
        config = TrainConfig(tokens=TOKENS, validation=0.0, evaluations=1, seed=100 * seed + voter)
        with tempfile.TemporaryDirectory() as place:
            started = time.perf_counter()
            model = fit(items, config, Path(place), guarded=False).model
            training.append(time.perf_counter() - started)
            started = time.perf_counter()
            chosen, rejected = model.score_pairs(pairs)
            scoring.append(time.perf_counter() - started)
        gaps.append(np.where(wrong_B, rejected - chosen, chosen - rejected))
    heads, features = {}, {}
    for backbone in backbones:
        with tempfile.TemporaryDirectory() as cache:
            started = time.perf_counter()
            encoder = Encoder(backbone=backbone, tokens=TOKENS, depth=depth)
            found = pair_features(pairs, encoder, cache_dir=Path(cache))
            votes = head_votes(found.swapped(wrong_B), ProbeConfig(), seed=seed)
            features[backbone] = time.perf_counter() - started
        heads[backbone] = votes.gap_MB.mean(0, dtype=np.float64)
    return Seen(
        wrong_B, np.stack(gaps), heads, statistics.median(training), statistics.median(scoring), features
    )


def found_by(strength_B: FloatArray, seen: Seen) -> float:
    """AUROC of low strength for wrong labels."""
    area = auroc(-strength_B, seen.wrong_B)
    assert area is not None, "some labels are wrong, some right"
    return area


def ways(seen: Seen, doubtful: float) -> Iterator[tuple[str, float, float]]:
    """Each way, its AUROC, and its cost in trainings."""
    score = seen.scoring / seen.training
    panels = [count for count in PANELS if count <= len(seen.full_MB)]
    for count in panels:
        full_B = seen.full_MB[:count].mean(0)
        yield f"{count} trained", found_by(full_B, seen), count * (1 + score)
    for backbone, head_B in seen.heads.items():
        heads = seen.features[backbone] / seen.training
        yield f"heads on {backbone}", found_by(head_B, seen), heads
        for count in panels:
            full_B = seen.full_MB[:count].mean(0)
            both_B = full_B / full_B.std() + head_B / head_B.std()
            cost = heads + count * (1 + score)
            yield f"{count} trained and heads on {backbone}", found_by(both_B, seen), cost
            last = np.argsort(head_B)[: round(doubtful * len(head_B))]
            screened_B = head_B - head_B.min() + np.ptp(full_B) + 1  # above all that the models judge
            screened_B[last] = full_B[last] - full_B.min()
            name = f"{count} trained on what heads on {backbone} doubt"
            yield name, found_by(screened_B, seen), heads + count * (1 + doubtful * score)


def main() -> None:
    """Prints a line for each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/sense.train.jsonl.gz"))
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--voters", type=int, default=10)
    parser.add_argument("--backbones", nargs="+", default=["minilm"], help="of the heads")
    parser.add_argument("--depth", type=float, default=DEPTH, help="share of their layers below the heads")
    parser.add_argument("--planted", type=float, default=0.2)
    parser.add_argument("--doubtful", type=float, default=0.3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    told = parser.parse_args()
    whole = read_pairs(told.data)
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in told.seeds:
        some = np.sort(np.random.default_rng(seed).permutation(len(whole))[: told.pairs])
        seen = voted(whole.select(some), told.voters, told.backbones, told.depth, seed, told.planted)
        for name, area, cost in ways(seen, told.doubtful):
            found.setdefault(name, []).append((area, cost))
    for name, each in found.items():
        areas, costs = zip(*each, strict=True)
        cost = statistics.mean(costs)
        line: dict[str, Any] = {"data": told.data.name, "pairs": told.pairs, "depth": told.depth, "way": name}
        line |= {"auroc": round(statistics.mean(areas), 4), "seeds": [round(area, 4) for area in areas]}
        line |= {"cost": round(cost, 2), "on top": round(cost - ("trained" in name), 2)}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
