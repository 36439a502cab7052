"""Are models trained in packs as good as those trained in padded batches? The same seeds and pairs, each way.

    python bench/equal.py --backbone smollm2 --layers 15 --pairs 640 --seeds 0 1 2

Trained in packs as they are by default, in padded batches of the same precision, and in padded batches of
full precision: how far the last two are apart is what rounding does. Judged on pairs of other prompts of the
training file. Prints JSON, a line a seed and way, then one with the means and the paired difference of packs
from padded batches, its interval over seeds and pairs as a study has it.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet, read_pairs
from outweigh.data.split import hold_out
from outweigh.evaluation.facts import PairFacts
from outweigh.metrics.accuracy import correct
from outweigh.metrics.paired import gain_over_seeds
from outweigh.models.batches import Packing
from outweigh.models.packing import choose_attention
from outweigh.training import trainer
from outweigh.training.config import TrainConfig
from outweigh.training.fit import fit

WAYS = {"packs": ("auto", True), "padded": ("auto", False), "padded, fp32": ("fp32", False)}


@contextmanager
def batches(packed: bool) -> Iterator[None]:
    """A block in which training has packs, or none."""

    def told(*given: Any, **how: Any) -> Packing | None:
        return choose_attention(*given, **how | {"packed": packed})

    trainer.choose_attention = told  # type: ignore[attr-defined]
    try:
        yield
    finally:
        trainer.choose_attention = choose_attention  # type: ignore[attr-defined]


def gaps(train: PairSet, judged: PairSet, told: argparse.Namespace, seed: int, way: str) -> np.ndarray:
    """Of a model trained in this way, on the judged pairs, (B,)."""
    precision, packed = WAYS[way]
    config = TrainConfig(
        backbone=told.backbone, layers=told.layers, precision=precision, seed=seed, validation=0.0,  # type: ignore[arg-type]
        evaluations=1, learning_rate=told.learning_rate, tokens=TokenConfig(max_tokens=told.max_tokens),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place, batches(packed):
        model = fit(train, config, Path(place), guarded=False).model
        chosen, rejected = model.score_pairs(judged)
    return np.asarray(chosen - rejected)


def main() -> None:
    """Prints a line a seed and way, then the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/sense.train.jsonl.gz"))
    parser.add_argument("--backbone", default="smollm2")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--pairs", type=int, default=640)
    parser.add_argument("--judged", type=int, default=800)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    told = parser.parse_args()
    whole = read_pairs(told.data)
    parts = hold_out(whole, 0.25, 0, "prompt")
    train = whole.select(np.random.default_rng(0).permutation(parts.train)[: told.pairs])
    judged = whole.select(np.sort(np.random.default_rng(0).permutation(parts.eval)[: told.judged]))
    right: dict[str, list[np.ndarray]] = {way: [] for way in WAYS}
    for seed in told.seeds:
        for way in WAYS:
            gap_B = gaps(train, judged, told, seed, way)
            right[way].append(correct(gap_B))
            line = {"seed": seed, "way": way, "accuracy": round(float(correct(gap_B).mean()), 4)}
            line["log_loss"] = round(float(np.logaddexp(0, -gap_B).mean()), 4)
            print(json.dumps(line), flush=True)
    unit = PairFacts.of(judged).unit()
    found: dict[str, object] = {"data": told.data.name, "backbone": told.backbone, "layers": told.layers}
    found |= {"pairs": len(train), "judged": len(judged)}
    found |= {way: round(float(np.mean(each)), 4) for way, each in right.items()}
    for name, other in (("packs - padded", "packs"), ("padded, fp32 - padded", "padded, fp32")):
        gain = gain_over_seeds(np.stack(right[other]) - np.stack(right["padded"]), unit)
        found[name] = [round(each, 4) for each in (gain.value, gain.low, gain.high)]
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
