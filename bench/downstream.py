"""What the papers' methods are worth downstream: gold of the best of n by the reward models that they train.

    python bench/downstream.py --claims margin pcrm strength --layers 2 --seeds 0 1 2 --out FILE
    python bench/downstream.py --claims margin --layers 4 6 --seeds 0 1 2 --split test --out FILE
    python bench/downstream.py --claims margin --layers 2 4 6 --seeds 0 1 2 --out FILE --read

Each model learns from pairs of every training prompt of `arena_bon.train` and `alpaca_bon.train`, of
responses whose gold differs, and some of `rmb.train`. A seed draws them, the head and the order, and holds
out another quarter of the prompts, on which the model then ranks all responses. With test it learns from all
prompts and ranks those of the test files. FILE gets a line a model with the rewards that it gave; what stands
there is not trained again. Prints a JSON line a comparison and file, over the seeds at once: the chance that
the method's best of n has more gold than the plain model's of as many layers, for every n, and its gain at
the largest, with intervals over prompts (one has the rewards of every seed that judged it).
"""

import argparse
import json
import random
import tempfile
import time
from dataclasses import asdict
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from best_of_n import FILES, Rows, read

import outweigh
from outweigh.data.config import TokenConfig
from outweigh.errors import ConfigError
from outweigh.selection.curves import Candidate, best_of_n
from outweigh.training.config import TrainConfig

QUARTERS = 4
PLAIN = "plain"
METHODS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "batch margin": {"margin": "batch"},
    "length cap": {"cap": "length"},
    "cosine cap": {"cap": "cosine"},
    **{f"cap {cap:g}": {"cap": cap} for cap in (1.5, 3.0, 4.5, 10.0)},
    **{  # beta1 + beta3 = 5, as in the paper, whose preset, 10, is the length cap
        f"length cap, beta1 {beta:g}": {"cap": {"source": "length", "beta1": beta, "beta3": 5.0 - beta}}
        for beta in (5.0, 20.0)
    },
}
CLAIMS = {
    "margin": ("batch margin",),
    "pcrm": ("length cap", "cosine cap"),
    "strength": tuple(name for name in METHODS if name.startswith(("cap ", "length cap"))),
}
RECIPE = ("split", "pairs", "rmb", "epochs", "learning_rate", "max_tokens")  # what compared models share
Key = tuple[str, int, int]  # method, layers, seed


def judged_rows(data: Path, split: str, seed: int) -> dict[str, Rows]:
    """The prompts that a seed's model ranks the responses to, by the name of their file."""
    if split == "test":
        return {name: read(data / f"{name}.test.jsonl.gz") for name in FILES}
    return {name: _shuffled(data, name)[seed % QUARTERS :: QUARTERS] for name in FILES}


def _shuffled(data: Path, name: str) -> Rows:
    rows = read(data / f"{name}.train.jsonl.gz")
    random.Random(0).shuffle(rows)
    return rows


def training_pairs(told: argparse.Namespace, seed: int) -> Rows:
    """Pairs of the prompts that the seed's model does not judge, and of rmb."""
    toss = random.Random(seed)
    found: Rows = []
    for name in FILES:
        for place, row in enumerate(_shuffled(told.data, name)):
            if told.split == "test" or place % QUARTERS != seed % QUARTERS:
                gold = row["gold"]
                apart = [each for each in combinations(range(len(gold)), 2) if gold[each[0]] != gold[each[1]]]
                for pair in toss.sample(apart, min(told.pairs, len(apart))):
                    worse, better = sorted(pair, key=gold.__getitem__)
                    texts = {"chosen": row["responses"][better], "rejected": row["responses"][worse]}
                    found.append({"prompt": row["prompt"], **texts})
    return found + toss.sample(read(told.data / "rmb.train.jsonl.gz"), told.rmb)


def cell(key: Key, told: argparse.Namespace) -> dict[str, Any]:
    """One model: what it is, what it cost, and the rewards of all responses that it judges."""
    began = time.perf_counter()
    method, layers, seed = key
    config = TrainConfig(
        layers=layers,
        seed=seed,
        epochs=told.epochs,
        learning_rate=told.learning_rate,
        validation=0.0,
        tokens=TokenConfig(max_tokens=told.max_tokens),
        **METHODS[method],
    )
    with tempfile.TemporaryDirectory() as place:
        rows = training_pairs(told, seed)
        try:
            outweigh.train(rows, out=Path(place) / "run", config=config)
        except ConfigError:  # of what is left of the pairs once cut, the last step has one, and no mean gap
            rows = rows[:-1]
            outweigh.train(rows, out=Path(place) / "run", config=config)
        model = outweigh.RewardModel.load(Path(place) / "run" / "model")
        rewards = {
            name: [_rewards(model, row) for row in each]
            for name, each in judged_rows(told.data, told.split, seed).items()
        }
    found = {"method": method, "layers": layers, "seed": seed, **recipe(told), "trained_on": len(rows)}
    return found | {"seconds": round(time.perf_counter() - began), "rewards": rewards}


def _rewards(model: outweigh.RewardModel, row: dict[str, Any]) -> list[float]:
    scored = model.score([row["prompt"]] * len(row["responses"]), row["responses"])
    return [round(float(reward), 4) for reward in scored]


def recipe(told: argparse.Namespace) -> dict[str, Any]:
    """What the models of a comparison have in common."""
    return {name: getattr(told, name) for name in RECIPE}


def compared(cells: dict[Key, dict[str, Any]], method: str, layers: int, told: argparse.Namespace) -> None:
    """Nothing; prints the method beside the plain model, a line a file, over the seeds that have both."""
    both = {
        seed: [cells[each, layers, seed]["rewards"] for each in (method, PLAIN)]
        for seed in told.seeds
        if {(method, layers, seed), (PLAIN, layers, seed)} <= set(cells)
    }
    for name in FILES if both else ():
        given = []
        for seed, (ours, plain) in both.items():
            rows = judged_rows(told.data, told.split, seed)[name]
            for row, one, other in zip(rows, ours[name], plain[name], strict=True):
                lengths = [float(len(response)) for response in row["responses"]]
                rewards = {method: np.array(one), PLAIN: np.array(other), "longest": np.array(lengths)}
                given.append(Candidate(json.dumps(row["prompt"]), rewards, np.array(row["gold"])))
        found = best_of_n(given)
        said = {"method": method, "layers": layers, "file": name, "seeds": list(both), **recipe(told)}
        said |= {"judgements": found.prompts, "n": found.candidates, "random": rounded(found.random.value)}
        said |= {"wins": rounded(asdict(found.duels[PLAIN]))}
        said |= {"gains": {judge: rounded(asdict(each)) for judge, each in found.gains.items()}}
        said |= {"gold": {judge: rounded(curve.gold.value) for judge, curve in found.curves.items()}}
        said |= {"best_n": {judge: curve.best_n for judge, curve in found.curves.items()}}
        spread = {
            judge: float(np.mean([each.rewards[judge].std() for each in given])) for judge in (method, PLAIN)
        }
        print(json.dumps(said | {"std_of_rewards": rounded(spread)}), flush=True)


def rounded(value: Any) -> Any:
    """The same with four decimals, whatever it holds."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def main() -> None:
    """Trains what is missing, seed by seed, and prints the comparisons."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--claims", nargs="+", choices=CLAIMS, default=list(CLAIMS))
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--layers", type=int, nargs="+", default=[6])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--pairs", type=int, default=4, help="of a prompt")
    parser.add_argument("--rmb", type=int, default=500, help="pairs of rmb.train")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--read", action="store_true", help="train nothing")
    told = parser.parse_args()
    cells: dict[Key, dict[str, Any]] = {}
    for line in told.out.read_text().splitlines() if told.out.exists() else ():
        each = json.loads(line)
        if all(each[name] == value for name, value in recipe(told).items()):
            cells[each["method"], each["layers"], each["seed"]] = each
    methods = list(dict.fromkeys(method for claim in told.claims for method in CLAIMS[claim]))
    for key in product((PLAIN, *methods), told.layers, told.seeds) if not told.read else ():
        if key not in cells:
            cells[key] = cell(key, told)
            with told.out.open("a") as out:
                out.write(json.dumps(cells[key]) + "\n")
    for method, layers in product(methods, told.layers):
        compared(cells, method, layers, told)


if __name__ == "__main__":
    main()
