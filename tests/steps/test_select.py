"""Selection from files: what is kept, what the curve says, what is refused or counted."""

import json

import numpy as np
import pytest

import outweigh
from outweigh.cli.main import main
from outweigh.errors import ConfigError, DataError
from outweigh.models.reward import Scorer


class Judge(Scorer):
    """Rewards by a rule on the text of the response, so that the right choice is known."""

    def __init__(self, rule):
        self.rule = rule

    def score_texts(self, texts):
        return np.array([self.rule(response[0].content) for _, response in texts], dtype=np.float64)


LATE = Judge(lambda text: float(ord(text[0])))  # prefers the letter that comes last
SHORT = Judge(lambda text: -float(len(text)))


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def rows(count=40, gold=True):
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        letters = rng.choice(list("abcdefgh"), 6, replace=False).tolist()
        responses = [letter * int(rng.integers(1, 20)) for letter in letters]
        row = {"prompt": f"Say {number}", "responses": responses, "id": number}
        found.append(row | ({"gold": [float(ord(letter)) for letter in letters]} if gold else {}))
    return found


def test_the_response_of_the_highest_reward_is_kept_with_all_ranks(tmp_path):
    given = [{"prompt": "p", "responses": ["bb", "cc", "aa"], "id": 7}]
    found = outweigh.select(LATE, given, out=tmp_path / "picks.jsonl")
    (row,) = read(tmp_path / "picks.jsonl")
    assert (row["kept"], row["response"], row["reward_ranks"], row["id"]) == (1, "cc", [2, 1, 3], 7)
    assert row["rewards"] == [98.0, 99.0, 97.0] and found["best_of_n"] is None
    assert json.loads((tmp_path / "picks.results.json").read_text())["data"]["rows"] == 1
    assert not (tmp_path / "picks.png").exists()


def test_with_gold_the_curve_is_written_drawn_and_right(tmp_path):
    found = outweigh.select(LATE, rows(), baselines=[SHORT], out=tmp_path / "picks.jsonl")["best_of_n"]
    assert found.candidates == 6 and found.prompts == 40
    best, short, longest, oracle = found.curves.values()
    assert best.gold.value == pytest.approx(oracle.gold.value)  # the judge is the gold
    assert best.gold.value[0] == pytest.approx(short.gold.value[0]) == pytest.approx(found.random.value)
    assert list(found.curves)[:2] == ["model 1", "model 2"]
    assert found.gains["random"].low > 0 and found.gains["oracle"].value == pytest.approx(0)
    assert found.duels["the longest"].value[-1] > 0.5 > best.wins.value[0] - 0.01
    assert best.best_n == 6 and best.over_optimised_from is None
    assert (tmp_path / "picks.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads((tmp_path / "picks.results.json").read_text())["best_of_n"]
    assert written["curves"]["model 1"]["gold"]["value"] == pytest.approx(best.gold.value)
    assert set(longest.gold.__slots__) == {"value", "low", "high"}


def test_a_judge_that_is_wrong_is_seen_to_over_optimise(tmp_path):
    early = Judge(lambda text: -float(ord(text[0])))
    found = outweigh.select(early, rows(), out=tmp_path / "picks.jsonl")["best_of_n"]
    curve = next(iter(found.curves.values()))
    assert (curve.best_n, curve.over_optimised_from) == (1, 2)
    assert found.gains["random"].high < 0


def test_a_gold_model_takes_the_place_of_the_column(tmp_path):
    found = outweigh.select(LATE, rows(gold=False), gold_model=SHORT, out=tmp_path / "picks.jsonl")
    assert found["best_of_n"].curves["oracle"].gold.value[-1] > found["best_of_n"].random.value
    assert read(tmp_path / "picks.jsonl")[0]["gold"] == [-len(each) for each in rows()[0]["responses"]]


def test_rows_without_gold_or_with_fewer_responses_are_counted_and_kept(tmp_path):
    given = rows(10) + rows(5, gold=False) + [{"prompt": "p", "responses": ["a"], "gold": [1]}]
    found = outweigh.select(LATE, given, out=tmp_path / "picks.jsonl")
    assert found["without_gold"] == 5 and len(read(tmp_path / "picks.jsonl")) == 16
    assert (found["best_of_n"].prompts, found["best_of_n"].left_out) == (10, 1)
    narrow = outweigh.select(LATE, given, candidates=3, out=tmp_path / "p.jsonl")["best_of_n"]
    assert len(narrow.divergence) == 3 and narrow.random.value == found["best_of_n"].random.value


def test_labels_that_came_with_the_row_stay_as_they_were(tmp_path):
    row = {"prompt": "p", "responses": ["aa", "cc"], "ranks": [1, 2], "gold": None}
    found = outweigh.select(LATE, [row], out=tmp_path / "picks.jsonl")
    written = read(tmp_path / "picks.jsonl")[0]
    assert written["ranks"] == [1, 2] and written["reward_ranks"] == [2, 1] and found["without_gold"] == 1


def test_one_candidate_each_is_kept_without_a_curve(tmp_path):
    found = outweigh.select(
        LATE, [{"prompt": "p", "responses": ["a"], "gold": [1]}], out=tmp_path / "o.jsonl"
    )
    assert found["best_of_n"] is None and read(tmp_path / "o.jsonl")[0]["response"] == "a"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "p", "responses": []}, "row 2: 'responses' is 0 of them"),
        ({"prompt": "p", "responses": ["a", "b"], "gold": [1]}, "row 2: 'gold' has 1 values for 2 responses"),
        ({"prompt": "p", "responses": ["a", None]}, r"row 2: 'responses\[1\]' is null"),
        ({"prompt": "p", "answers": ["a"]}, "row 2: no column 'responses'"),
        ({"prompt": "p", "responses": ["a", "b"], "by": float("nan")}, "row 2: can't be written as JSON"),
    ],
)
def test_a_bad_row_is_named_or_skipped_and_counted(row, said, tmp_path):
    given = [*rows(1), row]
    with pytest.raises(DataError, match=said):
        outweigh.select(LATE, given, out=tmp_path / "o.jsonl")
    assert not (tmp_path / "o.jsonl").exists()
    found = outweigh.select(LATE, given, out=tmp_path / "o.jsonl", on_bad_rows="skip")
    assert len(found["data"]["bad_rows"]) == 1 and len(read(tmp_path / "o.jsonl")) == 1


@pytest.mark.parametrize(
    ("gold", "candidates", "said"),
    [
        (True, 7, "got 7, but no row has gold for over 6 responses. Want at most 6"),
        (True, 1, "want two or more"),
        (False, 3, "got 3, but no row has gold for over 0 responses. Leave it out"),
    ],
)
def test_numbers_of_candidates_that_no_row_has_are_refused_before_one_is_scored(
    gold, candidates, said, tmp_path
):
    out = tmp_path / "o.jsonl"
    with pytest.raises(ConfigError, match=said):
        outweigh.select("nowhere", rows(3, gold=gold), candidates=candidates, out=out)
    assert not out.exists()


def test_a_gold_model_makes_up_for_gold_that_rows_lack(tmp_path):
    found = outweigh.select(
        LATE, rows(3, gold=False), candidates=6, gold_model=LATE, out=tmp_path / "o.jsonl"
    )
    assert found["best_of_n"].candidates == 6


@pytest.fixture(scope="module")
def models(tiny_bert, tmp_path_factory):
    import torch

    from outweigh.models.loading import load_classifier, load_tokenizer
    from outweigh.models.reward import RewardModel

    folder = tmp_path_factory.mktemp("models")
    for name in ("one", "two"):
        torch.manual_seed(ord(name[0]))
        tokenizer = load_tokenizer(tiny_bert)
        RewardModel(load_classifier(tiny_bert, tokenizer), tokenizer).save(folder / name)
    return folder


def test_the_verb_prints_the_curve_and_what_is_gained(models, tmp_path, capsys):
    data = tmp_path / "candidates.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(12)))
    how = ["select", str(models / "one"), str(data), "--baseline", str(models / "two")]
    assert main([*how, "--out", str(tmp_path / "o.jsonl")]) == 0
    said = capsys.readouterr().out
    assert "the best of n over 12 prompts: A one" in " ".join(said.split()) and "Most gold at n =" in said
    assert "less that of the longest" in said and "less that of two" in said
    assert main([*how, "--out", str(tmp_path / "p.jsonl"), "--dry-run"]) == 0
    assert "12 rows have 72 texts" in capsys.readouterr().out
    assert not (tmp_path / "p.jsonl").exists()


def test_an_ensemble_writes_its_spread(models, tmp_path):
    both = f"mean:{models / 'one'},{models / 'two'}"
    outweigh.select(both, rows(2), out=tmp_path / "o.jsonl")
    assert len(read(tmp_path / "o.jsonl")[0]["spreads"]) == 6


def test_a_row_that_a_served_model_refuses_is_left_out_of_the_rows_and_of_the_curve(server, tmp_path):
    server.answer = lambda body: (
        (413, b"too long")
        if any("hhhhh" in text for text in body["query"])
        else {"rewards": [float(len(text)) for text in body["query"]]}
    )
    given = rows()
    refused = [row["id"] for row in given if any("hhhhh" in each for each in row["responses"])]
    url = server.url.replace("/v1", "/get_reward")
    found = outweigh.select(SHORT, given, gold_model=url, out=tmp_path / "p.jsonl", on_bad_rows="skip")
    assert 0 < len(refused) == len(found["data"]["bad_rows"]) == 40 - found["best_of_n"].prompts
    assert not {row["id"] for row in read(tmp_path / "p.jsonl")} & set(refused)
    with pytest.raises(
        DataError, match=r"answers 413, 'too long'. Is the text too long for it\? Drop the row"
    ):
        outweigh.select(url, given, out=tmp_path / "q.jsonl")
    with pytest.raises(DataError, match=r"none of 1 rows"):
        too_long = [row for row in given if row["id"] == refused[0]]
        outweigh.select(url, too_long, out=tmp_path / "q.jsonl", on_bad_rows="skip")
