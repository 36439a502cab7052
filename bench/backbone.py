"""Test accuracy and hours of plain training on part of a training file, for any backbone and method.

    python bench/backbone.py --name rmb --backbone smollm2 --method lora --pairs 1500 --seeds 0

The pairs are drawn without replacement by the seed. Prints one JSON line a seed: accuracy with its interval,
the length rule's, minutes of training and of scoring the test file, and the peak memory so far.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import outweigh
from outweigh.data.config import TokenConfig
from outweigh.data.files import raw_rows
from outweigh.training.config import TrainConfig


def measured(rows: list[dict[str, Any]], held: Path, config: TrainConfig) -> dict[str, Any]:
    """What a model trained on the rows reaches on the held-out file, and what that costs."""
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        outweigh.train(rows, out=Path(place), config=config)
        trained = time.perf_counter()
        judgement = Path(place) / "evaluation.json"
        outweigh.evaluate(held, models={"model": Path(place) / "model"}, out=judgement, seed=config.seed)
        scored = time.perf_counter()
        found = json.loads(judgement.read_text())
    (judged,) = found["sets"].values()
    result = judged["evaluation"]["model"]
    return {
        "accuracy": result["accuracy"],
        "longer_wins": result["longer_wins"]["value"],
        "training_minutes": round((trained - started) / 60, 1),
        "scoring_minutes": round((scored - trained) / 60, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2, 2),
    }


def main() -> None:
    """Runs the seeds one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--name", default="rmb")
    parser.add_argument("--backbone", default="smollm2")
    parser.add_argument("--method", choices=["full", "lora", "frozen"], default="lora")
    parser.add_argument("--pairs", type=int, default=1500)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    told = parser.parse_args()
    train, held = (told.data / f"{told.name}.{part}.jsonl.gz" for part in ("train", "test"))
    rows = [raw.values for raw in raw_rows(train) if raw.values is not None]
    for seed in told.seeds:
        drawn = np.random.default_rng(seed).choice(len(rows), size=min(told.pairs, len(rows)), replace=False)
        config = TrainConfig(
            backbone=told.backbone,
            method=told.method,
            tokens=TokenConfig(max_tokens=told.max_tokens),
            seed=seed,
        )
        found = measured([rows[row] for row in drawn.tolist()], held, config)
        about = {name: getattr(told, name) for name in ("name", "backbone", "method", "pairs", "max_tokens")}
        print(json.dumps(about | {"seed": seed} | found), flush=True)


if __name__ == "__main__":
    main()
