"""Results of a whole run as the page is given them; `python tests/report/sample.py DIR` writes that page.

No figure in it was measured: they are invented, of the size that a run on crowd-voted arguments with 20 %
planted flips would give; gaps are drawn at random, then evaluated for real. The texts are of this file.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from outweigh.evaluation.compare import compare
from outweigh.evaluation.evaluate import evaluate_gaps
from outweigh.evaluation.facts import PairFacts
from outweigh.report import DoubtfulPair, write_report

PAIRS, HELD_OUT = 8374, 2919
TEXTS = [
    (
        "Should school uniforms be required?",
        "i dont like them they are ugly",
        "Uniforms take one argument off the breakfast table: nobody compares brands, and families who "
        "can't follow fashion are not seen to fall behind. They cost less over a year than other clothes.",
    ),
    (
        "Should cities close their centres to cars?",
        "Cars are freedom. Full stop. Nobody will ever shop in a town that they can't drive to.",
        "Ghent closed its centre in 2017. Cycling rose by a quarter within a year, and fewer shops "
        "stood empty, because people who walk past a window stop in front of it.",
    ),
    (
        "Is it better to rent or to own a home?",
        "Owning, because rent is money thrown away.",
        "It depends on how long you stay. Under five years the fees of buying and selling usually exceed "
        "what rent would have cost; past ten, owning tends to win, if prices only keep up with wages.",
    ),
    (
        "Write two sentences about autumn without the letter 'e'.",
        "The leaves are falling everywhere. Everyone enjoys the golden season.",
        "A cold wind blows gold and brown across my lawn. Birds fly south in long, thin lines.",
    ),
    (
        "Name three fruits in alphabetical order, separated by commas.",
        "Pear, apple, cherry. These are three fruits that many people enjoy all year round.",
        "apple, cherry, pear",
    ),
    (
        "",
        "Yes.",
        "Yes: with a full charge the watch runs for about eighteen hours, less if the screen stays on.",
    ),
]


def results(*, resamples: int = 300) -> dict[str, Any]:
    """Every section that the page knows."""
    rng = np.random.default_rng(0)
    ease, length = rng.normal(0.9, 1.0, HELD_OUT), rng.normal(40, 170, HELD_OUT)
    facts = PairFacts(
        prompt_ids=rng.integers(0, 6, HELD_OUT),
        chosen_characters=np.maximum(5, 240 + length / 2).round(),
        rejected_characters=np.maximum(5, 240 - length / 2).round(),
        source=np.array(["for", "against"], dtype=object)[rng.integers(0, 2, HELD_OUT)],
        grades={"votes": np.clip((ease + rng.normal(0, 1, HELD_OUT)).round(), -2, 5)},
    )
    plain = 1.6 * (ease + rng.normal(0.02, 0.95, HELD_OUT)) + length / 400
    repaired = 2.2 * (ease + rng.normal(0.13, 0.78, HELD_OUT)) + length / 500
    rewards = rng.normal(0, 1, HELD_OUT)
    models = {
        name: evaluate_gaps(
            gap, facts, resamples=resamples, reward_chosen=rewards + gap, reward_rejected=rewards
        )
        for name, gap in {"plain": plain, "repaired": repaired}.items()
    }
    return {
        "outweigh": "0.1.0",
        "created": "2026-11-20T14:12:09+00:00",
        "command": "outweigh run arguments.train.jsonl --eval arguments.test.jsonl --out runs/a --seed 7",
        "seed": 7,
        "versions": {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0", "numpy": "2.4.6"},
        "machine": {"cpu": "AMD EPYC 7B13", "cores": 2, "memory_bytes": 25_000_000_000},
        **_data(),
        **_audit(rng),
        "train": {
            "plain": _run(rng, 0.602, 0.761, 12.3),
            "repaired": _run(rng, 0.481, 0.796, 11.8) | {
                "alarms": {
                    "overfitted": {
                        "cause": "accuracy 0.953 on the training pairs, 0.792 on the validation part",
                        "remedy": "Train fewer epochs, use more pairs, or fewer trainable layers.",
                        "step": 392,
                    }
                }
            },
        },
        "evaluation": {name: model.to_dict() for name, model in models.items()},
        "comparison": compare(repaired, plain, facts, resamples=resamples).to_dict(),
        "planted": {
            "planted": 1675, "found": 1291, "precision": 0.741, "recall": 0.771,
            "auroc": {"value": 0.904, "low": 0.895, "high": 0.912},
        },
        "seconds": {"read": 1.8, "audit": 41.6, "denoise": 0.4, "train": 1421.0, "evaluate": 33.9},
        "peak_memory_bytes": 1_710_000_000,
    }  # fmt: skip


def _data() -> dict[str, Any]:
    read = {
        "rows": 8402, "pairs": PAIRS, "bad_rows": 0, "tied": 0, "empty": 3, "identical": 25, "duplicate": 41,
        "contradictory": 12, "longer_chosen": 0.7012, "mean_chosen_characters": 271.44,
        "mean_rejected_characters": 189.02, "prompts": 26, "texts": 841, "shared_prompts": 0,
        "eval_pairs_shared": 0, "shared_examples": [], "unread_columns": {"votes_choosen": "votes_chosen"},
        "dropped": 28, "files": [{"path": "arguments.train.jsonl", "sha256": "9f2c" * 16}],
    }  # fmt: skip
    held_out = {
        "rows": 2919, "pairs": HELD_OUT, "bad_rows": 0, "tied": 0, "empty": 0, "identical": 0, "duplicate": 7,
        "contradictory": 2, "longer_chosen": 0.7234, "mean_chosen_characters": 259.9,
        "mean_rejected_characters": 187.31, "prompts": 6, "texts": 211, "shared_prompts": 0,
        "files": [{"path": "arguments.test.jsonl", "sha256": "04ab" * 16}],
    }  # fmt: skip
    tokens = {
        "items": PAIRS, "tokens": 1_214_902, "truncated_prompts": 0, "truncated_responses": 31,
        "dropped_long": 0, "dropped_identical": 1,
    }  # fmt: skip
    return {"data": read, "eval_data": held_out, "tokens": tokens}


def _audit(rng: np.random.Generator) -> dict[str, Any]:
    wrong = rng.random(PAIRS) < 0.2
    strength = np.where(wrong, -1, 1) * rng.normal(1.1, 0.95, PAIRS)
    chance = expit(-1.9 * strength - 0.7)
    counts, edges = np.histogram(strength, bins=40)
    bin_of = np.clip(np.searchsorted(edges, strength, side="right") - 1, 0, 39)
    tenth = np.minimum((chance * 10).astype(int), 9)
    return {
        "audit": {
            "method": "probes", "models": 10, "folds": 5, "unit": "text",
            "noise_rate": {"value": 0.2047, "low": 0.1934, "high": 0.2171},
            "by_source": [
                {"source": "for", "pairs": 4301, "noise_rate": {"value": 0.192, "low": 0.177, "high": 0.208}},
                {"source": "against", "pairs": 4073, "noise_rate": {"value": 0.22, "low": 0.2, "high": 0.24}},
            ],
            "trust": {
                "auroc": {"value": 0.897, "low": 0.884, "high": 0.909}, "threshold": 0.75,
                "recommendation": "repair",
                "reason": "On flips planted in these pairs the audit reaches an AUROC of 0.897, above 0.75, "
                "from which repair has helped.",
            },
            "strength": {
                "counts": counts.tolist(), "edges": edges.tolist(),
                "wrong_probability": [
                    float(chance[bin_of == i].mean()) if (bin_of == i).any() else None for i in range(40)
                ],
            },
            "reliability": [
                {"predicted": float(chance[tenth == i].mean()), "observed": float(wrong[tenth == i].mean()),
                 "count": int((tenth == i).sum())}
                for i in range(10)
            ],
            "negative_share": float((strength < 0).mean()),
        },
        "denoise": {
            "policy": "flip+margin",
            "actions": {"keep": 6632, "flip": 1419, "smooth": 323},
            "reason": "The pairs most probably wrong are flipped up to the estimated noise rate; those "
            "in doubt around zero are smoothed.",
        },
    }  # fmt: skip


def _run(rng: np.random.Generator, floor: float, accuracy: float, rate: float) -> dict[str, Any]:
    log: list[dict[str, Any]] = []
    for step in range(10, 500, 10):
        fall = np.exp(-step / 90)
        log_loss = floor - 0.09 * step / 490 + (0.69 - floor) * fall + rng.normal(0, 0.012)
        right = accuracy + 0.06 * step / 490 - (accuracy - 0.5) * fall + rng.normal(0, 0.008)
        log.append({"step": step, "loss": log_loss + 0.05, "log_loss": log_loss, "accuracy": right,
                    "gap": 1.1, "gap_std": 1.4, "learning_rate": 5e-5})  # fmt: skip
        if step % 120 == 0:
            watched = {
                "eval_accuracy": accuracy - 0.2 * np.exp(-step / 70),
                "eval_log_loss": floor + 0.12 * fall + 0.02,
            }
            log.append({"step": step, **watched})
    return {
        "pairs": 7955, "validation": {"pairs": 419, "unit": "prompt"}, "steps": 498, "best_step": 480,
        "learning_rate": 5e-5, "log": log, "alarms": {}, "seconds": {"tokens": 4.1, "training": 58 * rate},
        "config": {"backbone": "minilm", "method": "full", "margin": "auto", "cap": None, "epochs": 1.0,
                   "batch_pairs": 16, "learning_rate": 5e-5, "tokens": {"max_tokens": 256},
                   "auxiliary": {}, "seed": 7},
    }  # fmt: skip


def doubtful(pairs: int = 36) -> list[DoubtfulPair]:
    """The most doubtful pairs; the few texts recur."""
    actions = ["flip+margin", "flip+margin", "flip", "smooth", "keep", "drop"]
    return [
        DoubtfulPair(
            origin=f"arguments.train.jsonl:{211 + 97 * i}",
            prompt=prompt,
            chosen=chosen,
            rejected=rejected,
            strength=-3.4 + 0.07 * i,
            spread=0.31 + 0.01 * (i % 7),
            wrong_probability=float(expit(3.4 - 0.1 * i)),
            action=actions[i % len(actions)],
            source=("for", "against", None)[i % 3],
        )
        for i, (prompt, chosen, rejected) in ((i, TEXTS[i % len(TEXTS)]) for i in range(pairs))
    ]


if __name__ == "__main__":
    page = write_report(json.loads(json.dumps(results())), doubtful(), Path(sys.argv[1]))
    print(f"{page}: {page.stat().st_size:,} bytes")
