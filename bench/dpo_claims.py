"""Policies by DPO and by PCDPO, whose pairs' rewards are capped, judged by a gold model of other pairs.

    python bench/dpo_claims.py --seeds 0 1 2 --work DIR --out FILE
    python bench/dpo_claims.py --seeds 0 1 2 --out FILE --read

The prompts of `hh_helpful.train` are cut in halves as in bench/rl_claims.py: the gold model learns from the
one and some helpful pairs of `rmb.train`, SmolLM2 with LoRA from pairs of the other, labels as published:
plainly, with PCDPO's cap by length, or by cosine in its raw form. Each policy and the one that they start
from then answers short prompts of the gold model's half, which no policy trained on, a few times. FILE gets
a JSON line a policy with the gold of its answers; what stands there is not trained again. Prints those, then
a line an arm over the seeds: how often its answer to a prompt has more gold than another policy's, ties a
half, gold, and tokens an answer, with intervals over prompts.
"""

import argparse
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from best_of_n import read
from rl import prompts_of
from rl_claims import gold_model, halves

import outweigh
from outweigh.align.config import DPOConfig
from outweigh.data.config import TokenConfig
from outweigh.generation.config import SamplingConfig
from outweigh.metrics.intervals import bootstrap_mean, choose_unit
from outweigh.training.config import TrainConfig

START, PLAIN = "start", "DPO"
ARMS: dict[str, dict[str, Any]] = {
    START: {},
    PLAIN: {},
    "PCDPO, length": {"cap": {"source": "length", "preset": "dialogue-dpo"}},
    "PCDPO, cosine": {"cap": {"source": "cosine", "preset": "dialogue-dpo"}},
}
RECIPE = ("policy", "pairs", "epochs", "learning_rate", "beta", "max_new_tokens", "n")
Line = dict[str, Any]


def cell(arm: str, seed: int, told: argparse.Namespace) -> Line:
    """Gold and tokens of a policy's answers, (prompts, n)."""
    data, work = told.data / "hh_helpful.train.jsonl.gz", told.work / f"seed_{seed}"
    gold_rows, rows = halves(data, seed)
    tokens = TokenConfig(max_tokens=256)
    training = TrainConfig(seed=seed, epochs=2.0, learning_rate=2e-4, tokens=tokens, validation=0.0)
    gold = gold_model(gold_rows, told.data, told.gold_rmb, work / "gold", training)
    policy: str | Path = told.policy
    said: Line = {"arm": arm, "seed": seed, **recipe(told)}
    if arm != START:
        place = work / arm.replace(", ", "_")
        config = DPOConfig(
            backbone=told.policy, method="lora", learning_rate=told.learning_rate, beta=told.beta,
            epochs=told.epochs, batch_pairs=8, tokens=tokens, validation=0.0, evaluations=1, seed=seed,
            **ARMS[arm],
        )  # fmt: skip
        some, held_out = (
            random.Random(seed).sample(each, count) for each, count in ((rows, told.pairs), (gold_rows, 64))
        )
        found = outweigh.align_dpo(some, out=place, config=config, eval=held_out, resume=True)
        policy = place / "policy"
        seen = found["evaluation"]["policy"]  # of its implicit reward, on pairs that no policy learnt from
        said |= {"accuracy": seen.accuracy.value, "gap": [seen.gap.mean, seen.gap.std]}
        said["seconds"] = found["seconds"]["training"]
    answers = work / f"{arm.replace(', ', '_')}.jsonl"
    prompts = prompts_of(gold_rows, told.prompts)
    sampling = SamplingConfig(n=told.n, max_new_tokens=told.max_new_tokens, seed=seed)
    outweigh.generate(prompts, policy=policy, out=answers, config=sampling, resume=True)
    judge = outweigh.RewardModel.load(gold)
    written = read(answers)
    said["gold"] = [
        np.round(judge.score([row["prompt"]] * told.n, row["responses"]), 4).tolist() for row in written
    ]
    said["tokens"] = [row["response_tokens"] for row in written]
    if arm != START:
        shutil.rmtree(place)  # half a gigabyte
    return said


def recipe(told: argparse.Namespace) -> Line:
    """What the policies of a comparison have in common."""
    return {name: getattr(told, name) for name in RECIPE}


def wins(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How often an answer of the one has more gold than one of the other, ties a half: (P, n) each, (P,)."""
    more: np.ndarray = one[:, :, None] - other[:, None, :]
    found: np.ndarray = ((more > 0) + (more == 0) / 2).mean((1, 2))
    return found


def compared(cells: dict[tuple[str, int], Line], told: argparse.Namespace) -> None:
    """Nothing; prints a JSON line an arm."""
    for arm in ARMS:
        seeds = [seed for seed in told.seeds if all((each, seed) in cells for each in (arm, START, PLAIN))]
        if not seeds:
            continue
        gold = {
            each: np.concatenate([np.array(cells[each, seed]["gold"]) for seed in seeds])
            for each in (arm, START, PLAIN)
        }
        tokens = np.concatenate([np.array(cells[arm, seed]["tokens"]) for seed in seeds])
        said: Line = {"arm": arm, "seeds": seeds, "prompts": len(tokens), "gold": _mean(gold[arm].mean(1))}
        said |= {"tokens": _mean(tokens.mean(1))}
        said |= {f"wins over {each}": _mean(wins(gold[arm], gold[each])) for each in (START, PLAIN)}
        print(json.dumps(said))


def _mean(values: np.ndarray) -> list[float]:
    """The mean and its interval."""
    found = bootstrap_mean(values, choose_unit(np.arange(len(values))))
    return [round(float(each), 4) for each in (found.value, found.low, found.high) if each is not None]


def main() -> None:
    """Trains and asks what FILE lacks, and compares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--policy", default="smollm2")
    parser.add_argument("--pairs", type=int, default=160)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--gold-rmb", type=int, default=1500, help="pairs of rmb.train, for the gold model")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--n", type=int, default=4, help="answers to each prompt")
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--work", type=Path, default=Path("bench/output/dpo_claims"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--read", action="store_true", help="train nothing")
    told = parser.parse_args()
    lines = [json.loads(line) for line in told.out.read_text().splitlines()] if told.out.exists() else []
    cells = {
        (each["arm"], each["seed"]): each
        for each in lines
        if all(each[name] == value for name, value in recipe(told).items())
    }
    for seed in told.seeds if not told.read else ():
        for arm in told.arms:
            if (arm, seed) not in cells:
                cells[arm, seed] = cell(arm, seed, told)
                with told.out.open("a") as out:
                    out.write(json.dumps(cells[arm, seed]) + "\n")
    compared(cells, told)


if __name__ == "__main__":
    main()
