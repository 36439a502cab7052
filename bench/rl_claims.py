"""Rounds of RL against reward models that differ in one thing, judged by a gold model of other pairs.

    python bench/rl_claims.py --seeds 0 1 2 --work DIR --out FILE
    python bench/rl_claims.py --arms plain pcrm --rounds 1 --seeds 0 1 2 --work DIR --out FILE

The prompts of `hh_helpful.train` are cut in halves. On the pairs of the one, and some helpful ones of
`rmb.train`, the gold model is trained; on those of the other, a fifth of their labels planted wrong, the
reward model that the policy learns from: as they are (plain), flipped back where an audit by heads says so
(denoised), or as they are with PCRM's cap by length (pcrm). In these it stays as it is over the rounds; in
the fourth (meta) MetaRM trains the plain one further between them, on its pairs. SmolLM2 learns with LoRA as
in bench/rl.py. What DIR has is not done again, also within a round; FILE gets a JSON line an arm and seed:
accuracy of both models on the half that they did not learn from (its labels as published), how far apart the
reward model's rewards of a pair are there (std, in nats), and of each round reward, gold and divergence,
gains over the first policy, alarms. Prints them, then the arms side by side over the seeds.
"""

import argparse
import json
import random
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from best_of_n import read
from rl import prompts_of
from scipy.stats import t as student

import outweigh
from outweigh.align.config import RLConfig
from outweigh.align.shaping import ShapingConfig
from outweigh.data.config import TokenConfig
from outweigh.data.files import raw_rows
from outweigh.data.pairs import read_pairs
from outweigh.data.rows import row_prompt
from outweigh.data.writing import write_rows
from outweigh.training.config import TrainConfig

PLANTED = 0.2
ARMS = ("plain", "denoised", "pcrm", "meta")
FIGURES = ("reward_gain", "gold_gain", "divergence", "tokens", "diversity")
Row = dict[str, Any]
Rows = list[Row]


def halves(data: Path, seed: int) -> tuple[Rows, Rows]:
    """The gold model's pairs and the proxy's; no prompt is in both."""
    toss = random.Random(seed)
    side: dict[Any, int] = {}
    found: tuple[Rows, Rows] = [], []
    for raw in raw_rows(data):
        assert raw.values is not None
        prompt, _ = row_prompt(raw.values, raw.row, raw.origin)
        found[side.setdefault(prompt, toss.randrange(2))].append(raw.values)
    return found


def planted(rows: Rows, seed: int) -> Rows:
    """The pairs, a fifth of them by chance with the wrong label."""
    toss = random.Random(seed)
    wrong = [{"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    return [row | other if toss.random() < PLANTED else row for row, other in zip(rows, wrong, strict=True)]


def gaps(model: Path, rows: Rows) -> np.ndarray:
    """How much more reward the model gives the chosen response of each pair: (P,), in nats."""
    chosen, rejected = outweigh.RewardModel.load(model).score_pairs(read_pairs(rows))
    return np.asarray(chosen - rejected)


def reward_model(rows: Rows, place: Path, config: TrainConfig) -> Path:
    """Where a reward model of these pairs lies; trained unless it is there."""
    if not (place / "model").exists():
        outweigh.train(rows, out=place, config=config, resume=True)
    return place / "model"


def gold_model(rows: Rows, data: Path, others: int, place: Path, config: TrainConfig) -> Path:
    """Where a reward model of these pairs and so many helpful ones of rmb lies."""
    helpful = [row for row in read(data / "rmb.train.jsonl.gz") if row["kind"] == "helpful"]
    return reward_model(rows + random.Random(config.seed).sample(helpful, others), place, config)


def denoised(data: Path, work: Path, seed: int) -> Rows:
    """The pairs, flipped where heads on frozen features say that the label is wrong."""
    audit = work / "audit"
    if not (audit / "audit.json").exists():
        outweigh.audit(data, out=audit, config=outweigh.AuditConfig(seed=seed))
    clean = work / "clean.jsonl"
    outweigh.denoise(data, audit=audit, out=clean, policy="flip")
    return [raw.values for raw in raw_rows(clean) if raw.values is not None]


def arm(name: str, seed: int, told: argparse.Namespace) -> dict[str, Any]:
    """The rounds of one arm, in figures."""
    work = told.work / f"seed_{seed}"
    gold_rows, right = halves(told.data / "hh_helpful.train.jsonl.gz", seed)
    rows = planted(right, seed)
    pairs = work / "pairs.jsonl"
    write_rows(pairs, rows)
    training = TrainConfig(
        seed=seed,
        epochs=told.epochs,
        learning_rate=2e-4,
        tokens=TokenConfig(max_tokens=told.max_tokens),
        validation=0.0,
    )
    gold = gold_model(gold_rows, told.data, told.gold_rmb, work / "gold", training)
    used = denoised(pairs, work, seed) if name == "denoised" else rows
    proxy = reward_model(
        used,
        work / ("plain" if name == "meta" else name),
        replace(training, cap="length") if name == "pcrm" else training,
    )
    config = RLConfig(
        policy=told.policy,
        rounds=told.rounds,
        learning_rate=1e-3,
        kl=0.05,
        max_new_tokens=told.max_new_tokens,
        device_responses=16,
        shaping=ShapingConfig(whiten=True),  # the scales of the arms' rewards differ
        eval_prompts=told.prompts // 3,
        stop=False,  # the rounds are to be compared, over-optimised or not
        seed=seed,
    )
    found = outweigh.align_rl(
        prompts_of(told.data / "hh_helpful.train.jsonl.gz", told.prompts),
        reward_model=proxy,
        gold_model=gold,
        pairs=pairs if name == "meta" else None,
        out=work / f"{name}_{told.rounds}",
        config=config,
        resume=True,
    )
    said = {"arm": name, "seed": seed, "policy": told.policy, "prompts": told.prompts}
    gold_gaps, proxy_gaps = gaps(gold, right), gaps(proxy, gold_rows)
    said |= {
        f"{model}_accuracy": round(float((each > 0).mean()), 4)
        for model, each in (("gold", gold_gaps), ("proxy", proxy_gaps))
    }
    said["proxy_std"] = round(float(proxy_gaps.std()), 4)
    rounds = [
        {key: getattr(facts, key).value for key in FIGURES}
        | {"gold_interval": [facts.gold_gain.low, facts.gold_gain.high]}
        | {"wins": facts.wins, "alarms": list(facts.alarms)}
        for facts in found["rounds"][1:]
    ]
    return said | {"rounds": rounds, "seconds": sum(sum(each.values()) for each in found["seconds"].values())}


def compared(lines: Rows, rounds: int) -> None:
    """Nothing; prints a JSON line an arm and round: figures, and how much more they are than plain ones, over
    the seeds: [mean, half of the 95 % interval, None of one seed]."""
    found = {(each["arm"], each["seed"]): each["rounds"] for each in lines if len(each["rounds"]) == rounds}
    for name, turn in product(ARMS, range(rounds)):
        seeds = sorted(seed for own, seed in found if own == name and (ARMS[0], seed) in found)
        said: Row = {"arm": name, "round": turn + 1, "seeds": seeds}
        for figure in FIGURES if seeds else ():
            own, plain = (
                np.array([found[each, seed][turn][figure] for seed in seeds]) for each in (name, ARMS[0])
            )
            said[figure] = _interval(own)
            said |= {f"{figure}_more": _interval(own - plain)} if name != ARMS[0] else {}
        print(json.dumps(said))


def _interval(values: np.ndarray) -> list[float | None]:
    count = len(values)
    half = student.ppf(0.975, count - 1) * values.std(ddof=1) / count**0.5 if count > 1 else None
    return [round(float(values.mean()), 3), None if half is None else round(float(half), 3)]


def main() -> None:
    """Runs what FILE lacks, and compares the arms."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--policy", default="smollm2")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--gold-rmb", type=int, default=1500, help="pairs of rmb.train, for the gold model")
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--epochs", type=float, default=2.0, help="of the reward models")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    told = parser.parse_args()
    lines = [json.loads(line) for line in told.out.read_text().splitlines()] if told.out.exists() else []
    done = {(each["arm"], each["seed"], len(each["rounds"])) for each in lines}
    for seed in told.seeds:
        for name in told.arms:
            if (name, seed, told.rounds) not in done:
                line = json.dumps(arm(name, seed, told))
                print(line, flush=True)
                lines.append(json.loads(line))
                with told.out.open("a") as out:
                    out.write(line + "\n")
    compared(lines, told.rounds)


if __name__ == "__main__":
    main()
