import gzip
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from outweigh.data.checks import check_pairs_data
from outweigh.data.pairs import read_candidates, read_pairs, read_rankings
from outweigh.data.records import ReadCounts
from outweigh.data.split import folds, group_ids, hold_out
from outweigh.data.writing import for_trl, row_of_pair, swap_row, write_rows
from outweigh.errors import DataError

DATA = Path(os.environ.get("OUTWEIGH_DATA") or Path(__file__).parents[3] / "shared" / "data")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no shared data at {DATA}; name it in OUTWEIGH_DATA"),
]

# Rows as the data's own README has them; ties and empty answers as counted apart, in the raw JSON.
READ = {
    "alpaca_bon.test.jsonl.gz": ReadCounts(rows=195, pairs=9466, tied=1259),  # 195 * C(11, 2) = 10,725 in all
    "alpaca_bon.train.jsonl.gz": ReadCounts(rows=224, pairs=10911, tied=1409),
    "arena_bon.test.jsonl.gz": ReadCounts(rows=64, pairs=5107, tied=1518),
    "arena_bon.train.jsonl.gz": ReadCounts(rows=147, pairs=12023, tied=3192),
    "arguments.test.jsonl.gz": ReadCounts(rows=2919, pairs=2919),
    "arguments.train.jsonl.gz": ReadCounts(rows=8374, pairs=8374),
    "hh_harmless.test.jsonl.gz": ReadCounts(rows=384, pairs=384),
    "hh_harmless.train.jsonl.gz": ReadCounts(rows=1344, pairs=1342, empty=2),
    "hh_helpful.test.jsonl.gz": ReadCounts(rows=345, pairs=345),
    "hh_helpful.train.jsonl.gz": ReadCounts(rows=1468, pairs=1465, empty=3),
    "llmbar_natural.jsonl.gz": ReadCounts(rows=100, pairs=100),
    "pandalm.test.jsonl.gz": ReadCounts(
        rows=861, pairs=855, bad_rows=6
    ),  # six answers are JSON's true or false
    "rm_bench_chat.json": ReadCounts(rows=30, pairs=30 * 3 * 3),
    "rm_bench_code.json": ReadCounts(rows=30, pairs=30 * 3 * 3),
    "rm_bench_safety-refuse.json": ReadCounts(rows=30, pairs=30 * 3 * 3),
    "rm_bench_safety-response.json": ReadCounts(rows=30, pairs=30 * 3 * 3),
    "rmb.test.jsonl.gz": ReadCounts(rows=2051, pairs=2051),
    "rmb.train.jsonl.gz": ReadCounts(rows=8768, pairs=8766, empty=2),
    "sense.test.jsonl.gz": ReadCounts(rows=932, pairs=932),
    "sense.train.jsonl.gz": ReadCounts(rows=6050, pairs=6050),
    "webgpt.test.jsonl.gz": ReadCounts(rows=121, pairs=121),
    "webgpt.train.jsonl.gz": ReadCounts(rows=198, pairs=198),
}
TRANSCRIPTS = [name for name in READ if name.startswith("hh_")]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTWEIGH_CACHE", str(tmp_path / "cache"))


def raw(name):
    with gzip.open(DATA / name, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def test_every_file_of_the_shared_data_is_expected_here():
    assert {path.name for path in DATA.iterdir()} - {"README.md"} == READ.keys()


@pytest.mark.parametrize("name", READ)
def test_a_shared_file_is_read_with_every_row_accounted_for(name):
    pairs = read_pairs(DATA / name, on_bad_rows="skip")
    assert pairs.counts == READ[name]
    assert len(list(pairs)) == len(pairs) == READ[name].pairs


def test_an_answer_that_is_a_json_boolean_is_named():
    with pytest.raises(
        DataError, match=r"pandalm.test.jsonl.gz:137: 'chosen' is True \(bool\), want a string"
    ):
        read_pairs(DATA / "pandalm.test.jsonl.gz")


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_prompt_and_response_put_together_are_the_transcript_again(name):
    speaker = {"user": "Human", "assistant": "Assistant"}
    rows = raw(name)
    for pair in read_pairs(DATA / name):
        for side in ("chosen", "rejected"):
            joined = "".join(
                f"\n\n{speaker[role]}: {content}" for role, content in pair.prompt + getattr(pair, side)
            )
            # White space aside nothing is lost or added; the words and their order are the transcript's.
            assert joined.split() == re.sub(r"(Human|Assistant):", r"\1: ", rows[pair.row][side]).split()


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_a_transcript_s_prompt_ends_with_a_question_and_nearly_every_response_is_one_answer(name):
    pairs = list(read_pairs(DATA / name))
    assert {pair.prompt[-1].role for pair in pairs} == {"user"}
    assert {text[0].role for pair in pairs for text in (pair.chosen, pair.rejected)} == {"assistant"}
    assert all(pair.chosen[0] != pair.rejected[0] for pair in pairs)
    one_turn = [len(pair.chosen) == len(pair.rejected) == 1 for pair in pairs]
    assert np.mean(one_turn) > 0.99


def test_the_longer_one_is_chosen_as_often_as_the_data_s_readme_says():
    # Of sense .388 are longer and .183 as long, which count half.
    measured = {"arguments": 0.723, "hh_helpful": 0.539, "hh_harmless": 0.461, "rmb": 0.596, "sense": 0.480}
    for name, share in measured.items():
        checks = check_pairs_data(read_pairs(DATA / f"{name}.test.jsonl.gz"))
        assert checks.longer_chosen == pytest.approx(share, abs=0.01), name


def test_no_prompt_of_the_split_files_is_on_both_sides_but_the_constant_one():
    for name in ("arguments", "hh_helpful", "hh_harmless", "rmb", "webgpt"):
        train, test = (read_pairs(DATA / f"{name}.{part}.jsonl.gz") for part in ("train", "test"))
        assert check_pairs_data(train, test).shared_prompts == 0, name
    train, test = (read_pairs(DATA / f"sense.{part}.jsonl.gz") for part in ("train", "test"))
    assert check_pairs_data(train, test).shared_examples == ["Write a sentence that makes sense."]


def test_arguments_are_few_texts_in_many_pairs():
    pairs = read_pairs(DATA / "arguments.train.jsonl.gz")
    checks = check_pairs_data(pairs)
    assert (checks.prompts, checks.texts) == (18, 576)
    assert group_ids(pairs, "text").max() + 1 == 18  # all arguments of one side of a debate hang together
    assert hold_out(pairs, 0.1, seed=0).unit == "prompt"
    assert folds(pairs, "text", 5, seed=0).unit == "text"
    assert folds(pairs, "text", 20, seed=0).unit == "pair"


def test_one_constant_prompt_is_split_by_texts():
    assert hold_out(read_pairs(DATA / "sense.train.jsonl.gz"), 0.1, seed=0).unit == "text"


def test_kept_columns_of_real_files_are_there():
    grades = read_pairs(DATA / "webgpt.test.jsonl.gz", keep=("grade",)).column("grade")
    assert set(grades) == {1.0, 2.0}
    kinds = read_pairs(DATA / "rmb.test.jsonl.gz", keep=("kind",)).column("kind")
    assert len(kinds) == 2051 and all(isinstance(kind, str) for kind in kinds)


def test_candidates_and_rankings_of_the_best_of_n_files():
    candidates = list(read_candidates(DATA / "alpaca_bon.test.jsonl.gz"))
    assert len(candidates) == 195 and {len(each.responses) for each in candidates} == {11}
    random, best = (np.mean([choose(each.gold) for each in candidates]) for choose in (np.mean, np.max))
    assert random == pytest.approx(0.3376, abs=1e-4) and best == pytest.approx(0.6235, abs=1e-4)
    found = read_rankings(DATA / "alpaca_bon.test.jsonl.gz")
    assert len(found.rankings) == 189 and found.reading.counts.tied == 6
    assert all(
        ranking.ranks == tuple(-gold for gold in candidates[ranking.row].gold) for ranking in found.rankings
    )


@pytest.mark.parametrize("name", ["rmb.test.jsonl.gz", "hh_helpful.test.jsonl.gz", "arguments.test.jsonl.gz"])
def test_real_rows_swapped_written_and_read_are_the_pairs_with_the_other_label(name, tmp_path):
    rows = raw(name)
    pairs = read_pairs(DATA / name)
    write_rows(tmp_path / "swapped.jsonl.gz", (swap_row(row_of_pair(rows[pair.row], pair)) for pair in pairs))
    swapped = read_pairs(tmp_path / "swapped.jsonl.gz")
    assert [(p.prompt, p.chosen, p.rejected) for p in swapped] == [
        (p.prompt, p.rejected, p.chosen) for p in pairs
    ]


@pytest.mark.parametrize("name", ["rmb.test.jsonl.gz", "hh_helpful.test.jsonl.gz", "arguments.test.jsonl.gz"])
def test_real_rows_for_trl_hold_the_same_pairs(name, tmp_path):
    write_rows(tmp_path / "trl.jsonl", (for_trl(row) for row in raw(name)))
    theirs, ours = read_pairs(tmp_path / "trl.jsonl"), read_pairs(DATA / name)
    assert [(p.prompt, p.chosen, p.rejected) for p in theirs] == [
        (p.prompt, p.chosen, p.rejected) for p in ours
    ]
    assert theirs.columns == ("margin",)
