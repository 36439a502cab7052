"""Cuts training pairs by kind into small files for `studies/shift.yaml`: trained on, and judged.

Kinds are rmb's helpful and harmless, hh's, and arguments.

    python scripts/cut_kinds.py --data ../shared/data --out studies/out/kinds

Prompts are parted first, so that none is in both files of a kind. Seeds are fixed: all get the same files.
"""

import argparse
import gzip
import json
import random
from pathlib import Path

from outweigh.data.rows import row_prompt

TRAINED, JUDGED = 734, 700  # pairs of a file at most: half of what hh has, and what tells 4 points apart


def rows_of(path: Path) -> list[dict[str, object]]:
    """The rows of a file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def prompt_of(row: dict[str, object]) -> str:
    """The prompt, which hh has at the beginning of both texts."""
    return json.dumps(row["prompt"]) if "prompt" in row else repr(row_prompt(row, 0, "row")[0])


def main() -> None:
    """Writes `KIND.train.jsonl` and `KIND.judged.jsonl` for each kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("studies/out/kinds"))
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    rmb = rows_of(told.data / "rmb.train.jsonl.gz")
    kinds = {kind: [row for row in rmb if row["kind"] == kind] for kind in ("helpful", "harmless")}
    for kind in ("hh_helpful", "hh_harmless", "arguments"):
        kinds[kind] = rows_of(told.data / f"{kind}.train.jsonl.gz")
    for kind, own in kinds.items():
        prompt = {place: prompt_of(row) for place, row in enumerate(own)}
        prompts = sorted(set(prompt.values()))
        random.Random(0).shuffle(prompts)
        trained = set(prompts[: len(prompts) * 2 // 3])
        parts: dict[str, list[dict[str, object]]] = {"train": [], "judged": []}
        for place, row in enumerate(own):
            parts["train" if prompt[place] in trained else "judged"].append(row)
        for seed, (name, size) in enumerate((("train", TRAINED), ("judged", JUDGED)), 1):
            random.Random(seed).shuffle(parts[name])
            with (told.out / f"{kind}.{name}.jsonl").open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in parts[name][:size])


if __name__ == "__main__":
    main()
