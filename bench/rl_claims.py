"""Rounds of RL against reward models that differ in one thing, judged by a gold model of other pairs.

    python bench/rl_claims.py --claim denoised --seeds 0 1 2 --work DIR --out FILE
    python bench/rl_claims.py --claim meta --rounds 2 --seeds 0 1 2 --work DIR --out FILE

The prompts of `hh_helpful.train` are cut in halves. On the pairs of the one the gold model is trained; on
those of the other, a fifth of their labels planted wrong, the reward model that the policy learns from: as
they are (plain), or flipped back where an audit by heads says so (denoised). With meta the plain model is
kept over the rounds (fixed), or trained further between them by MetaRM on its pairs (meta). SmolLM2 learns
with LoRA as in bench/rl.py. What DIR has is not done again, also within a round; FILE gets a JSON line an arm
and seed: reward, gold and divergence of each round, gains over the first policy, alarms.
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

from rl import prompts_of

import outweigh
from outweigh.align.config import RLConfig
from outweigh.data.config import TokenConfig
from outweigh.data.files import raw_rows
from outweigh.data.rows import row_prompt
from outweigh.data.writing import write_rows
from outweigh.training.config import TrainConfig

PLANTED = 0.2
CLAIMS = {"denoised": ("plain", "denoised"), "meta": ("fixed", "meta")}
Rows = list[dict[str, Any]]


def halves(data: Path, seed: int) -> tuple[Rows, Rows]:
    """The gold model's pairs, and the proxy's with planted flips; no prompt is in both."""
    toss = random.Random(seed)
    side: dict[Any, int] = {}
    found: tuple[Rows, Rows] = [], []
    for raw in raw_rows(data):
        assert raw.values is not None
        prompt, _ = row_prompt(raw.values, raw.row, raw.origin)
        row = raw.values
        part = side.setdefault(prompt, toss.randrange(2))
        if part and toss.random() < PLANTED:
            row = row | {"chosen": row["rejected"], "rejected": row["chosen"]}
        found[part].append(row)
    return found


def reward_model(rows: Rows, place: Path, config: TrainConfig) -> Path:
    """Where a reward model of these pairs lies; trained unless it is there."""
    if not (place / "model").exists():
        outweigh.train(rows, out=place, config=config, resume=True)
    return place / "model"


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
    gold_rows, rows = halves(told.data, seed)
    pairs = work / "pairs.jsonl"
    write_rows(pairs, rows)
    training = TrainConfig(seed=seed, tokens=TokenConfig(max_tokens=told.max_tokens), validation=0.0)
    gold = reward_model(gold_rows, work / "gold", training)
    used = denoised(pairs, work, seed) if name == "denoised" else rows
    proxy = reward_model(used, work / ("denoised" if name == "denoised" else "plain"), training)
    config = RLConfig(
        policy=told.policy,
        rounds=told.rounds,
        learning_rate=1e-3,
        kl=0.02,
        max_new_tokens=told.max_new_tokens,
        device_responses=16,
        eval_prompts=told.prompts // 3,
        stop=False,  # the rounds are to be compared, over-optimised or not
        seed=seed,
    )
    found = outweigh.align_rl(
        prompts_of(told.data, told.prompts),
        reward_model=proxy,
        gold_model=gold,
        pairs=pairs if name == "meta" else None,
        out=work / f"{name}_{told.rounds}",
        config=config,
        resume=True,
    )
    said = {"claim": told.claim, "arm": name, "seed": seed, "policy": told.policy, "prompts": told.prompts}
    kept = ("reward_gain", "gold_gain", "divergence", "tokens", "diversity")
    rounds = [
        {key: getattr(facts, key).value for key in kept}
        | {"gold_interval": [facts.gold_gain.low, facts.gold_gain.high]}
        | {"wins": facts.wins, "alarms": list(facts.alarms)}
        for facts in found["rounds"][1:]
    ]
    return said | {"rounds": rounds, "seconds": sum(sum(each.values()) for each in found["seconds"].values())}


def main() -> None:
    """Runs what FILE lacks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/hh_helpful.train.jsonl.gz"))
    parser.add_argument("--claim", choices=CLAIMS, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--policy", default="smollm2")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    told = parser.parse_args()
    lines = [json.loads(line) for line in told.out.read_text().splitlines()] if told.out.exists() else []
    done = {(each["arm"], each["seed"], len(each["rounds"])) for each in lines}
    for seed in told.seeds:
        for name in CLAIMS[told.claim]:
            if (name, seed, told.rounds) not in done:
                line = json.dumps(arm(name, seed, told))
                print(line, flush=True)
                with told.out.open("a") as out:
                    out.write(line + "\n")


if __name__ == "__main__":
    main()
