"""What benchmarks have in common whose gold is a domain's own: execution.py and translation.py."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import outweigh
from outweigh.data.files import raw_rows


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """The options that each takes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policy", default="smollm2")
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reward-model")
    parser.add_argument("--work", type=Path, required=True)
    return parser


def judged(
    told: argparse.Namespace, prompts: Sequence[str], gold: Callable[[int, str], float]
) -> list[dict[str, Any]]:
    """The policy's answers to each prompt with their gold, of the prompt's place and the answer."""
    told.work.mkdir(parents=True, exist_ok=True)
    drawn = told.work / "answers.jsonl"
    if not drawn.exists():
        config = outweigh.SamplingConfig(n=told.n, max_new_tokens=told.max_new_tokens, seed=told.seed)
        asked = [{"prompt": prompt} for prompt in prompts]
        outweigh.generate(asked, policy=told.policy, out=drawn, config=config)
    rows = [raw.values for raw in raw_rows(drawn) if raw.values is not None]
    if [row["prompt"] for row in rows] != list(prompts):
        raise SystemExit(f"{drawn}: answers to other prompts. Give another --work.")
    for place, row in enumerate(rows):
        row["gold"] = [gold(place, answer) for answer in row["responses"]]
    return rows


def told_of(told: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is printed: the mean gold, and with a reward model the best-of-n curves."""
    golds = [gold for row in rows for gold in row["gold"]]
    said: dict[str, Any] = {"policy": told.policy, "tasks": len(rows), "n": told.n, "seed": told.seed}
    said["gold"] = sum(golds) / len(golds)
    if told.reward_model:
        found = outweigh.select(told.reward_model, rows, out=told.work / "picks.jsonl", seed=told.seed)
        curve = found["best_of_n"]
        said["curves"] = {name: each.gold.value for name, each in curve.curves.items()}
        said["gains"] = {name: [each.value, each.low, each.high] for name, each in curve.gains.items()}
    return said


def tell(said: dict[str, Any]) -> None:
    """One line of JSON."""
    print(json.dumps(said), flush=True)
