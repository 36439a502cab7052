"""One or more rounds of `outweigh align rl` with SmolLM2 on prompts of `hh_helpful.train`: gain, divergence,
time.

    outweigh demo --out demo && python bench/rl.py --reward-model demo/model

With `--rounds 2 --pairs FILE` MetaRM trains the reward model between them. The prompts are the first ones of
a single turn of 20 to 160 characters; 64 are trained on, 32 followed. Prints the results as JSON.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import outweigh
from outweigh.align.config import RLConfig
from outweigh.data.files import raw_rows
from outweigh.data.rows import row_prompt
from outweigh.steps.record import as_json

SHORTEST, LONGEST = 20, 160


def prompts_of(data: Path | list[dict[str, Any]], count: int) -> list[dict[str, str]]:
    """The first distinct short prompts of the pairs."""
    found: dict[str, None] = {}
    for raw in raw_rows(data):
        assert raw.values is not None
        prompt, _ = row_prompt(raw.values, raw.row, raw.origin)
        if len(prompt) == 1 and SHORTEST < len(prompt[0].content) < LONGEST:
            found[prompt[0].content] = None
        if len(found) == count:
            break
    return [{"prompt": prompt} for prompt in found]


def main() -> None:
    """Trains and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/hh_helpful.train.jsonl.gz"))
    parser.add_argument("--reward-model", required=True)
    parser.add_argument("--gold-model")
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--kl", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    told = parser.parse_args()
    config = RLConfig(
        rounds=told.rounds,
        learning_rate=told.learning_rate,
        kl=told.kl,
        max_new_tokens=64,
        device_responses=16,
        seed=told.seed,
    )
    found = outweigh.align_rl(
        prompts_of(told.data, told.prompts),
        reward_model=told.reward_model,
        gold_model=told.gold_model,
        pairs=told.pairs,
        out=told.out,
        config=config,
        resume=told.resume,
    )
    print(json.dumps(json.loads(as_json(found)), indent=1))


if __name__ == "__main__":
    main()
