"""What keeping the best of n by a reward model trained here is worth, beside the longest response and chance.

    python bench/best_of_n.py --split validation --seeds 0
    python bench/best_of_n.py --split test --seeds 0 1 2
    python bench/best_of_n.py --recipe counts --split validation --seeds 0 1 2
    python bench/best_of_n.py --recipe counts --split validation --seeds 0 1 2 --unseen
    python bench/best_of_n.py --curve

With the recipe listwise one training over rankings of up to eight responses of `arena_bon.train` and
`alpaca_bon.train`, drawn `--repeats` times, and the first `--rmb` pairs of `rmb.train`. With validation a
quarter of their prompts is judged on instead, and not trained on. With counts a linear head on counts of the
text (bench/counts.py), one of each file; with validation each quarter of the prompts is judged by a head of
the others. `--unseen` leaves half of arena's models out of training and judges among that half's answers.
Prints a JSON line a seed and file: gold of the best, and its gains.
"""

import argparse
import json
import random
import tempfile
import time
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
from counts import Counts

import outweigh
from outweigh.data.config import TokenConfig
from outweigh.data.files import raw_rows
from outweigh.data.writing import write_rows
from outweigh.selection.curves import ORACLE, BestOfN, Candidate, best_of_n
from outweigh.steps.select import LONGEST
from outweigh.training.config import TrainConfig

Rows = list[dict[str, Any]]
FILES = ("arena_bon", "alpaca_bon")
LARGEST = 8  # responses a ranking


def read(path: Path, count: int | None = None) -> Rows:
    """The rows of a file, the first of them where a number is given."""
    return [raw.values for raw in islice(raw_rows(path), count) if raw.values is not None]


def groups(row: dict[str, Any], toss: random.Random) -> Rows:
    """The responses in groups of up to eight, by chance: the ties of a longer ranking can't be counted
    out."""
    places = toss.sample(range(len(row["gold"])), len(row["gold"]))
    found = [places[at : at + LARGEST] for at in range(0, len(places), LARGEST)]
    return [
        {
            "prompt": row["prompt"],
            **{key: [row[key][place] for place in each] for key in ("responses", "gold")},
        }
        for each in found
        if len({row["gold"][place] for place in each}) > 1
    ]


def parted(data: Path, split: str, repeats: int, seed: int) -> tuple[Rows, dict[str, Rows]]:
    """Rows to train on, and those to judge on by the name of their file."""
    trained: Rows = []
    toss = random.Random(seed)
    judged: dict[str, Rows] = {}
    for name in FILES:
        rows = read(data / f"{name}.train.jsonl.gz")
        if split == "test":
            judged[name] = read(data / f"{name}.test.jsonl.gz")
        else:
            toss.shuffle(rows)
            kept = len(rows) * 3 // 4
            rows, judged[name] = rows[:kept], rows[kept:]
        trained += [group for row in rows for _ in range(repeats) for group in groups(row, toss)]
    return trained, judged


def judged_by_counts(data: Path, name: str, split: str, unseen: bool, seed: int) -> list[Candidate]:
    """The prompts of a file with the rewards of heads that were trained on others."""
    rows = read(data / f"{name}.train.jsonl.gz")
    toss = random.Random(seed)
    toss.shuffle(rows)
    models = sorted({model for row in rows for model in row.get("models", ())})
    left_out = set(toss.sample(models, len(models) // 2)) if unseen else set()
    if split == "test":
        parts = [(rows, read(data / f"{name}.test.jsonl.gz"))]
    else:
        parts = [([row for at, row in enumerate(rows) if at % 4 != fold], rows[fold::4]) for fold in range(4)]
    found = []
    for trained, judged in parts:
        head = Counts([_of_models(row, left_out, False) for row in trained] if unseen else trained, seed=seed)
        for row in [_of_models(row, left_out, True) for row in judged] if unseen else judged:
            gold, said = np.array(row["gold"]), row["responses"]
            lengths = np.array([float(len(response)) for response in said])
            rewards = {"counts": head.score([row["prompt"]] * len(said), said), LONGEST: lengths}
            found.append(Candidate(json.dumps(row["prompt"]), {**rewards, ORACLE: gold}, gold))
    return found


def _of_models(row: dict[str, Any], models: set[str], wanted: bool) -> dict[str, Any]:
    """The row with the answers of these models, or of the others, alone."""
    places = [at for at, model in enumerate(row["models"]) if (model in models) == wanted]
    return {
        "prompt": row["prompt"],
        **{key: [row[key][at] for at in places] for key in ("responses", "gold")},
    }


def told_of(curve: BestOfN, name: str, split: str, seed: int) -> dict[str, Any]:
    """What is printed of a file's curve."""
    first = next(iter(curve.curves.values()))
    return {
        "file": name,
        "split": split,
        "seed": seed,
        "prompts": curve.prompts,
        "n": curve.candidates,
        "random": curve.random.value,
        "kept": {judge: each.gold.value[-1] for judge, each in curve.curves.items()},
        "gains": {judge: [each.value, each.low, each.high] for judge, each in curve.gains.items()},
        "best_n": first.best_n,
        "over_optimised_from": first.over_optimised_from,
        "curve": first.gold.value,
    }


def curve_seconds(prompts: int = 1000, responses: int = 64) -> float:
    """Seconds that the curves of four judges of made-up rewards take, with their intervals and three
    duels."""
    rng = np.random.default_rng(0)
    given = []
    for number in range(prompts):
        gold = rng.normal(size=responses)
        rewards = {name: gold + noise * rng.normal(size=responses) for noise, name in enumerate("abcd")}
        given.append(Candidate(str(number), rewards, gold))
    started = time.perf_counter()
    best_of_n(given)
    return time.perf_counter() - started


def main() -> None:
    """Trains and judges once a seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--recipe", choices=("listwise", "counts"), default="listwise")
    parser.add_argument("--unseen", action="store_true", help="arena alone, by models: with counts")
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rmb", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--max-tokens", type=int, default=320)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--curve", action="store_true", help="only time a curve of 1,000 prompts x 64")
    told = parser.parse_args()
    if told.curve:
        print(json.dumps({"curve_seconds": round(curve_seconds(), 2)}))
        return
    if told.recipe == "counts":
        for seed, name in product(told.seeds, FILES[:1] if told.unseen else FILES):
            curve = best_of_n(judged_by_counts(told.data, name, told.split, told.unseen, seed), seed=seed)
            recipe = {"recipe": "counts", "unseen_models": told.unseen}
            print(json.dumps(recipe | told_of(curve, name, told.split, seed)), flush=True)
        return
    for seed in told.seeds:
        rows, judged = parted(told.data, told.split, told.repeats, seed)
        rows += read(told.data / "rmb.train.jsonl.gz", told.rmb)
        config = TrainConfig(
            objective="listwise",
            learning_rate=told.learning_rate,
            batch_pairs=8,
            seed=seed,
            validation=0.0,
            tokens=TokenConfig(max_tokens=told.max_tokens),
        )
        with tempfile.TemporaryDirectory() as place:
            data = Path(place) / "rankings.jsonl"
            write_rows(data, rows)
            outweigh.train(data, out=Path(place) / "run", config=config)
            for name, candidates in judged.items():
                picks = Path(place) / f"{name}.jsonl"
                found = outweigh.select(Path(place) / "run" / "model", candidates, out=picks, seed=seed)
                print(json.dumps(told_of(found["best_of_n"], name, told.split, seed)), flush=True)


if __name__ == "__main__":
    main()
