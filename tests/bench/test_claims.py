"""Policies side by side by a gold model: figures of golds that are known, and all of it from end to end."""

import gzip
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
RECIPE = {
    **{"policy": "smollm2", "pairs": 160, "epochs": 1.0, "learning_rate": 0.001, "beta": 0.1},
    **{"max_new_tokens": 48, "n": 4},
}


def said_by(*told):
    done = subprocess.run(
        [sys.executable, str(BENCH / "dpo_claims.py"), *map(str, told)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {line["arm"]: line for line in map(json.loads, done.stdout.splitlines())}


def test_who_has_more_gold_is_counted_over_all_answers_of_both(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    claims, np = import_module("dpo_claims"), import_module("numpy")
    # three of the four against the first prompt's are more, and one ties; the second prompt's always lose
    one, other = np.array([[2.0, 1.0], [-1.0, -1.0]]), np.array([[1.0, 0.0], [0.0, 0.0]])
    assert claims.wins(one, other).tolist() == [3.5 / 4, 0.0]


def test_arms_are_compared_where_all_have_the_seed_and_other_recipes_are_left_out(tmp_path):
    golds = {("start", 0): 0.0, ("DPO", 0): 1.0, ("PCDPO, length", 0): 2.0, ("start", 1): 0.0}
    lines = [
        {"arm": arm, "seed": seed, **RECIPE, "gold": [[gold] * 4] * 2, "tokens": [[8] * 4] * 2}
        for (arm, seed), gold in golds.items()
    ]
    lines.append({**lines[1], "beta": 0.2, "gold": [[9.0] * 4] * 2})
    out = tmp_path / "claims.jsonl"
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    arms = said_by("--read", "--seeds", 0, 1, "--out", out)
    assert arms.keys() == {"start", "DPO", "PCDPO, length"}
    assert all(
        arm["seeds"] == [0] and arm["prompts"] == 2 and arm["tokens"] == [8] * 3 for arm in arms.values()
    )
    assert arms["DPO"]["gold"] == [1.0] * 3 and arms["DPO"]["wins over DPO"] == [0.5] * 3
    assert arms["PCDPO, length"]["wins over start"] == arms["PCDPO, length"]["wins over DPO"] == [1.0] * 3


@pytest.mark.slow
def test_policies_are_trained_asked_and_compared_and_not_twice(tiny_chat, wordy_pairs, tmp_path):
    rows = [
        {**row, "prompt": f"Could you please: {row['prompt']}", "kind": "helpful"} for row in wordy_pairs
    ] * 3
    for name in ("hh_helpful", "rmb"):
        with gzip.open(tmp_path / f"{name}.train.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    out = tmp_path / "claims.jsonl"
    told = (
        *("--data", tmp_path, "--work", tmp_path / "work", "--out", out, "--policy", tiny_chat),
        *("--arms", "start", "DPO", "--pairs", 16, "--gold-rmb", 8, "--prompts", 2, "--n", 2),
        *("--max-new-tokens", 4),
    )
    arms = said_by(*told)
    assert arms.keys() == {"start", "DPO"} and arms["DPO"]["prompts"] == 2
    before = out.read_text()
    assert len(before.splitlines()) == 2 and said_by(*told) == arms and out.read_text() == before
