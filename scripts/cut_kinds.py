"""Cuts rmb's training pairs by kind into small files for `studies/shift.yaml`: trained on, and judged.

    python scripts/cut_kinds.py --data ../shared/data --out studies/out/kinds

Prompts are parted first, so that none is in both files of a kind. Seeds are fixed: all get the same files.
"""

import argparse
import gzip
import json
import random
from pathlib import Path

TRAINED, JUDGED = 734, 700  # pairs of a file: half of what hh has of a kind, and what tells 4 points apart


def main() -> None:
    """Writes `KIND.train.jsonl` and `KIND.judged.jsonl` for helpful and harmless."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("studies/out/kinds"))
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    with gzip.open(told.data / "rmb.train.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for kind in ("helpful", "harmless"):
        own = [row for row in rows if row["kind"] == kind]
        prompts = sorted({json.dumps(row["prompt"]) for row in own})
        random.Random(0).shuffle(prompts)
        trained = set(prompts[: len(prompts) * 2 // 3])
        parts: dict[str, list[dict[str, object]]] = {"train": [], "judged": []}
        for row in own:
            parts["train" if json.dumps(row["prompt"]) in trained else "judged"].append(row)
        for seed, (name, size) in enumerate((("train", TRAINED), ("judged", JUDGED)), 1):
            random.Random(seed).shuffle(parts[name])
            with (told.out / f"{kind}.{name}.jsonl").open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in parts[name][:size])


if __name__ == "__main__":
    main()
