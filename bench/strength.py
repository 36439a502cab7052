"""Does strength go with what several people said of a pair?

    python bench/strength.py                       # arguments.train: heads trained on its own labels
    python bench/strength.py --model rmb0/model    # a model trained elsewhere: webgpt grades, pandalm votes

The audit's labels are the majority's, so that strength which knew nothing but the label would not tell a
unanimous pair from a split one. Intervals are of resampled prompts (pairs, under 30 prompts). pandalm is test
data: with --model its figures are final, so call it once a model. Writes bench/results/strength.json.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import outweigh
from outweigh.data.pairs import PairSet, read_pairs
from outweigh.evaluation.facts import PairFacts
from outweigh.metrics.accuracy import accuracy
from outweigh.metrics.correlation import kendall, spearman
from outweigh.metrics.intervals import bootstrap, choose_unit


def agreement(pairs: PairSet, strength: np.ndarray, grade: str, seed: int = 0) -> dict[str, Any]:
    """Correlation of the strength with the grade, and mean strength at each value of the grade."""
    graded = PairFacts.of(pairs, None if grade == "votes" else grade).grades[grade]
    unit = choose_unit(pairs.text_ids()[0])
    found = {
        "spearman": asdict(bootstrap(lambda at: spearman(strength[at], graded[at]), unit, seed=seed)),
        "kendall": asdict(bootstrap(lambda at: kendall(strength[at], graded[at]), unit, seed=seed)),
    }
    found["mean strength by grade"] = {
        f"{value:g}": {
            "pairs": int((graded == value).sum()),
            "strength": float(strength[graded == value].mean()),
            "agree": float(accuracy(strength[graded == value])),
        }
        for value in np.unique(graded)
    }
    return found


def main() -> None:
    """Prints and writes the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("bench/results/strength.json"))
    told = parser.parse_args()
    results = json.loads(told.out.read_text()) if told.out.exists() else {}
    if told.model is None:
        pairs = read_pairs(told.data / "arguments.train.jsonl.gz")
        for seed in range(told.seeds):
            config = outweigh.AuditConfig(policy="keep", trust=False, seed=seed)
            strength = outweigh.audit(pairs, config=config).audit.strength
            results[f"arguments.train, own heads, seed {seed}"] = agreement(pairs, strength, "votes")
    else:
        model = outweigh.RewardModel.load(told.model)
        for name, grade in (("pandalm.test", "votes"), ("webgpt.test", "grade")):
            keep = [] if grade == "votes" else [grade]
            pairs = read_pairs(told.data / f"{name}.jsonl.gz", on_bad_rows="skip", keep=keep)
            results[f"{name}, model {told.model}"] = agreement(
                pairs, np.subtract(*model.score_pairs(pairs)), grade
            )
    told.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
