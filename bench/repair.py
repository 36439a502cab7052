"""What `run` makes of real pairs with planted wrong labels: accuracy before and after, over seeds.

    python bench/repair.py --names arguments --planted 0 0.2 --seeds 3 --split test

Every cell (data, planted share, seed) is one `outweigh.run` with its defaults, but for two things: the policy
is forced, so that what it does is seen where the gate would have kept the labels, too; and wrong labels are
planted in the training pairs. Further policies repair the same file from the same audit.

With --split validation (for all decisions) a quarter of the training file's prompts is held out; with --split
test (for the final figure) the test file is read.

Cells are written to bench/results/repair.json as they end, and taken from there the next time, so that hours
of work may be cut into pieces. Prints one line a cell, then means and standard deviations over seeds.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import outweigh
from outweigh.auditing.trust import planted_flips
from outweigh.data.config import TokenConfig
from outweigh.data.files import raw_rows
from outweigh.data.pairs import read_pairs
from outweigh.data.split import hold_out
from outweigh.data.writing import replaced_whole, write_rows
from outweigh.metrics.detection import auroc, precision_recall
from outweigh.steps.config import AuditConfig, RunConfig
from outweigh.training.config import TrainConfig
from outweigh.voting.config import VoteConfig

HELD_OUT = 0.25
TOKENS = TokenConfig(max_tokens=256)


def turned(row: dict[str, Any]) -> dict[str, Any]:
    """The row with chosen and rejected, and what belongs to them, in each other's place."""
    other = {name: name.replace("chosen", "REJECTED").replace("rejected", "chosen") for name in row}
    return {other[name].replace("REJECTED", "rejected"): value for name, value in row.items()}


def files(
    name: str, folder: Path, split: str, share: float, seed: int, work: Path
) -> tuple[Path, Path, set[int]]:
    """The training file with planted flips, the evaluation file, and the rows of the flips."""
    rows = [raw.values for raw in raw_rows(folder / f"{name}.train.jsonl.gz") if raw.values is not None]
    held = folder / f"{name}.test.jsonl.gz"
    if split == "validation":
        pairs = read_pairs(folder / f"{name}.train.jsonl.gz")
        part = hold_out(pairs, HELD_OUT, seed, "prompt")
        held = work / "held.jsonl"
        write_rows(held, (rows[row] for row in pairs.rows[part.eval]))
        rows = [rows[row] for row in pairs.rows[part.train]]
    wrong = planted_flips(len(rows), 1000 + seed, share)
    train = work / "train.jsonl"
    write_rows(train, (turned(row) if flip else row for row, flip in zip(rows, wrong, strict=True)))
    return train, held, set(np.flatnonzero(wrong).tolist())


def cell(
    name: str, folder: Path, split: str, share: float, seed: int, config: RunConfig, policies: list[str]
) -> dict[str, Any]:
    """What one run finds, and gains by its policy; then, from the same audit, by the further policies."""
    audit = replace(config.audit, seed=seed, policy=policies[0])
    config = replace(config, audit=audit, train=replace(config.train, seed=seed), seed=seed)
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        train, held, planted = files(name, folder, split, share, seed, work)
        outweigh.run(train, out=work / "run", eval=[held], config=config)
        results = json.loads((work / "run" / "results.json").read_text())
        table = pq.read_table(work / "run" / "strength.parquet").to_pydict()
        models = {"plain": work / "run" / "model"}
        if "repaired" in results["evaluation"]:
            models = {"plain": work / "run" / "plain" / "model", policies[0]: work / "run" / "model"}
        for policy in policies[1:]:
            rows, out = work / f"{policy}.jsonl", work / policy
            outweigh.denoise(train, audit=work / "run", out=rows, policy=policy)
            outweigh.train(rows, out=out, config=config.train)
            models[policy] = out / "model"
        outweigh.evaluate(held, models=models, out=work / "evaluation.json", seed=seed)
        found = json.loads((work / "evaluation.json").read_text())
    (judged,) = found["sets"].values()
    claimed = np.array(table["wrong_probability"])
    wrong = np.array([row in planted for row in table["row"]])
    about = {"noise_rate": results["audit"]["noise_rate"], "trust": results["audit"]["trust"]}
    if share:
        hits = precision_recall(claimed, wrong, threshold=0.5)
        about |= {"auroc": auroc(claimed, wrong), "precision": hits.precision, "recall": hits.recall}
    return {
        "accuracy": {model: each["accuracy"] for model, each in judged["evaluation"].items()},
        "length": judged["evaluation"]["plain"]["longer_wins"],
        "comparisons": judged["comparisons"],
        "audit": about,
        "actions": results["denoise"]["actions"],
        "seconds": results["seconds"],
        "pairs": len(claimed),
    }


def lines(cells: dict[str, Any]) -> Iterator[str]:
    """Mean and standard deviation over seeds of each data set and planted share."""
    groups: dict[str, list[Any]] = {}
    for key, found in cells.items():
        groups.setdefault(key.rpartition(" ")[0], []).append(found)
    for key, each in groups.items():
        plain = [100 * found["accuracy"]["plain"]["value"] for found in each]
        parts = [key, f"{len(each)} seeds", f"length rule {100 * each[0]['length']['value']:.2f}"]
        parts += [f"plain {spread(plain)}"]
        for name in dict.fromkeys(name for found in each for name in found["accuracy"] if name != "plain"):
            both = [found["accuracy"] for found in each if name in found["accuracy"]]  # keep trains one model
            gains = [100 * (accuracy[name]["value"] - accuracy["plain"]["value"]) for accuracy in both]
            values = [100 * accuracy[name]["value"] for accuracy in both]
            parts += [f"{name} {spread(values)} gains {spread(gains)} ({len(both)} seeds)"]
        for name in ("auroc", "precision", "recall"):
            if name in each[0]["audit"]:
                parts.append(f"{name} {np.mean([found['audit'][name] for found in each]):.3f}")
        parts.append(f"noise rate {np.mean([found['audit']['noise_rate']['value'] for found in each]):.3f}")
        trust = [found["audit"]["trust"]["auroc"]["value"] for found in each if found["audit"]["trust"]]
        parts += [f"trust {np.mean(trust):.3f}"] if trust else []
        yield ", ".join(parts)


def spread(values: list[float]) -> str:
    """Mean and sample standard deviation."""
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1) if len(values) > 1 else 0.0:.2f}"


def stored(path: Path) -> dict[str, Any]:
    """The cells that are there."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def main() -> None:
    """Runs the cells that are not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--names", nargs="+", default=["arguments", "sense", "hh_helpful", "hh_harmless"])
    parser.add_argument("--planted", nargs="+", type=float, default=[0.0, 0.2])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--method", choices=["probes", "full"], default="full")
    parser.add_argument("--learner", choices=["full", "frozen"], default="full")
    parser.add_argument("--policies", nargs="+", default=["flip"], help="forced; one training each")
    parser.add_argument("--no-trust", action="store_true", help="without the gate, which costs a training")
    parser.add_argument("--out", type=Path, default=Path("bench/results/repair.json"))
    told = parser.parse_args()
    config = RunConfig(
        audit=AuditConfig(
            votes=VoteConfig(method=told.method, tokens=TOKENS),
            policy=told.policies[0],
            trust=not told.no_trust,
        ),
        train=TrainConfig(tokens=TOKENS, method=told.learner),
    )
    for name in told.names:
        for share in told.planted:
            for seed in told.seeds:
                key = f"{name} {told.split} {told.method} {told.learner} {share:g} {seed}"
                if key in stored(told.out):
                    continue
                found = cell(name, told.data, told.split, share, seed, config, told.policies)
                with replaced_whole(told.out) as out:
                    cells = stored(told.out) | {key: found}
                    out.write((json.dumps(cells, indent=1, sort_keys=True) + "\n").encode())
                print(*lines({key: found}), sep="\n", flush=True)
    print(*lines(stored(told.out)), sep="\n")


if __name__ == "__main__":
    main()
