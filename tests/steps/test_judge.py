"""Judges on real files and a real server: who wins, how biased the judge is, what it agrees with, what it
cost."""

import json

import numpy as np
import pytest

import outweigh
from outweigh.cli.main import main
from outweigh.errors import ConfigError, DataError, ServerError
from outweigh.models.reward import Scorer
from outweigh.servers.config import ServerConfig

MILD = ServerConfig(concurrency=4, retries=0)


class Longer(Scorer):
    def score_texts(self, texts):
        return np.array([float(len(response[0].content)) for _, response in texts])


def answers_of(body):
    """The two answers in a judge's question, in the order in which they stand."""
    said = body["messages"][-1]["content"]
    first, _, second = said.partition("[Answer A]\n")[2].partition("\n\n[Answer B]\n")
    return first, second


def judging(choose):
    """A server's answer that says what `choose` makes of the two answers."""

    def answer(body):
        text = choose(*answers_of(body))
        message = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return {"choices": [message], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}

    return answer


def longer(first, second):
    letter = "A" if len(first) > len(second) else "B" if len(first) < len(second) else "C"
    return f"One could choose [[A]] or [[B]].\n[[{letter}]]"


def pairs(count=40, right=30):
    """Pairs of which the first `right` prefer the longer response."""
    found = []
    for number in range(count):
        texts = ["a long answer", "short"] if number < right else ["short", "a long answer"]
        row = {"prompt": f"Question {number}", "chosen": texts[0], "rejected": texts[1]}
        found.append(row | {"votes_chosen": 3, "votes_rejected": 1 if number % 10 else 3})
    return found


def test_a_judge_that_is_asked_in_both_orders_sides_with_the_label_as_often_as_it_does(server):
    server.answer = judging(longer)
    found = outweigh.judge(pairs(), by=server.url, server=MILD, prices=(1.0, 10.0))
    assert found["chosen"].rate.value == pytest.approx(0.75) and found["chosen"].without_verdict == 0
    assert found["label"].accuracy.value == pytest.approx(0.75)
    asked = found["asked"]
    assert (asked["requests"], asked["cached"], asked["malformed"]) == (80, 0, 0)
    assert asked["chose_the_first_shown"] == pytest.approx(0.5)
    assert found["cost"] == pytest.approx((80 * 100 * 1.0 + 80 * 10 * 10.0) / 1e6)
    assert 0.2 < found["label"].kappa.value < 0.8  # 75 % right of two sides shuffled: about a half
    assert found["votes"].kappa.value < found["label"].kappa.value  # a tenth of the votes are ties


def test_the_answers_are_kept_and_a_second_run_asks_nothing(server):
    server.answer = judging(longer)
    given = [{**row, "prompt": f"Again: {row['prompt']}"} for row in pairs(6, 6)]
    first = outweigh.judge(given, by=server.url, server=MILD)
    count = len(server.asked)
    again = outweigh.judge(given, by=server.url, server=MILD)
    assert len(server.asked) == count and again["asked"]["cached"] == count
    assert again["chosen"] == first["chosen"]


def test_a_judge_that_always_takes_the_first_shown_ties_and_is_seen_through(server):
    server.answer = judging(lambda first, second: "[[A]]")
    found = outweigh.judge(pairs(), by=server.url, server=MILD)
    assert found["chosen"].tie == 1.0 and found["asked"]["chose_the_first_shown"] == 1.0


def test_nonsense_is_asked_for_again_counted_and_left_out(server):
    def answer(body):
        wrong = "Question 0\n" in body["messages"][-1]["content"]
        return judging(lambda a, b: "I like both." if wrong else longer(a, b))(body)

    server.answer = answer
    found = outweigh.judge(pairs(5, 5), by=server.url, server=MILD)
    assert found["chosen"].without_verdict == 1 and found["asked"]["malformed"] == 6
    assert found["chosen"].rate.value == 1.0
    assert {body["temperature"] for _, _, body in server.asked} == {0.0, 1.0}
    again = outweigh.judge(pairs(5, 5), by=server.url, server=MILD)["asked"]
    assert (again["requests"], again["cached"]) == (6, 8)  # what held no verdict was not kept


def test_a_judge_without_any_verdict_or_that_fails_says_so(server):
    server.answer = judging(lambda first, second: "No.")
    with pytest.raises(DataError, match="no verdict on any of 3 pairs"):
        outweigh.judge(pairs(3, 3), by=server.url, server=MILD)
    server.script = [(400, b"context too long")] * 20
    other = [{**row, "prompt": f"Other: {row['prompt']}"} for row in pairs(3, 3)]
    with pytest.raises(ServerError, match="context too long"):
        outweigh.judge(other, by=server.url, server=MILD)


def test_one_pair_that_is_refused_is_left_out_of_the_figures_and_its_verdict_is_null(server, tmp_path):
    server.script = [(400, b"context too long")]
    server.answer = judging(longer)
    given = [{**row, "prompt": f"Refused: {row['prompt']}"} for row in pairs(4, 4)]
    how = {"server": ServerConfig(concurrency=1, retries=0), "out": tmp_path / "verdicts.jsonl"}
    found = outweigh.judge(given, by=server.url, **how)
    assert found["chosen"].without_verdict == found["asked"]["refused"] == 1
    assert (found["chosen"].rate.value, found["label"].pairs) == (1.0, 3)
    written = [json.loads(line) for line in how["out"].read_text().splitlines()]
    assert [row["verdict"] for row in written] == [None, 1.0, 1.0, 1.0]


def test_verdicts_are_written_whatever_can_be_said_of_them_but_where_there_is_none(server, tmp_path):
    tied = [{**row, "votes_chosen": 2, "votes_rejected": 2} for row in pairs(4, 3)]
    found = outweigh.judge(tied, by=Longer(), out=tmp_path / "tied.jsonl")
    assert found["label"].accuracy.value == 0.75 and "votes" not in found
    server.answer = judging(lambda first, second: "No.")
    given = [{**row, "prompt": f"Unsaid: {row['prompt']}"} for row in pairs(3, 3)]
    with pytest.raises(DataError, match="no verdict on any"):
        outweigh.judge(given, by=server.url, server=MILD, out=tmp_path / "none.jsonl")
    assert len((tmp_path / "tied.jsonl").read_text().splitlines()) == 4
    assert not (tmp_path / "none.jsonl").exists()


def kept(rows, name, tmp_path):
    path = tmp_path / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_two_files_are_matched_by_prompt_and_their_kept_responses_judged(tmp_path):
    one = [{"prompt": f"Q{n}", "responses": ["a", "bbbb"], "gold": [1.0, 5.0], "kept": 1} for n in range(10)]
    two = [{"prompt": f"Q{n}", "responses": ["ccc", "d"], "gold": [2.0, 9.0]} for n in reversed(range(9))]
    paths = kept(one, "one", tmp_path), kept(two, "two", tmp_path)
    by_gold = outweigh.judge(*paths, by="gold", out=tmp_path / "verdicts.jsonl")
    assert by_gold["first"].win == 1.0 and by_gold["unmatched"] == 1
    assert outweigh.judge(*paths, by=Longer())["first"].win == 1.0
    written = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    assert written[0] == {"prompt": "Q0", "verdict": 1.0} and len(written) == 9
    turned = outweigh.judge(*reversed(paths), by="gold")
    assert turned["first"].lose == 1.0


def test_a_prompt_in_several_rows_is_matched_row_by_row(tmp_path):
    one = kept([{"prompt": "Q", "responses": [said]} for said in ("aa", "b", "cc")], "one", tmp_path)
    two = kept([{"prompt": "Q", "responses": [said]} for said in ("a", "bb")], "two", tmp_path)
    found = outweigh.judge(one, two, by=Longer())
    assert (found["first"].win, found["first"].lose, found["unmatched"]) == (0.5, 0.5, 1)
    nameless = kept([{"responses": ["a"]}], "nameless", tmp_path)
    with pytest.raises(DataError, match="no prompt, want one to match rows by"):
        outweigh.judge(nameless, nameless, by=Longer())


def test_rows_that_can_not_be_matched_or_have_no_gold_are_named(tmp_path):
    one = kept([{"prompt": "Q", "responses": ["a", "b"]}], "one", tmp_path)
    two = kept([{"prompt": "R", "responses": ["a", "b"]}], "two", tmp_path)
    bad = kept([{"prompt": "Q", "responses": ["a", "b"], "kept": 7}], "bad", tmp_path)
    with pytest.raises(DataError, match="no prompt stands in both"):
        outweigh.judge(one, two, by="gold")
    with pytest.raises(DataError, match="no gold score of the kept response"):
        outweigh.judge(one, one, by="gold")
    with pytest.raises(DataError, match="'kept' is 7, want a place among 2 responses"):
        outweigh.judge(bad, one, by="gold")


def test_the_verb_says_it_in_words(server, tmp_path, capsys):
    server.answer = judging(longer)
    path = kept(pairs(8, 8), "pairs", tmp_path)
    assert main(["judge", str(path), "--by", server.url, "--prices", "1", "2"]) == 0
    said = capsys.readouterr().out
    assert "The chosen wins 1.000" in said and "Cohen's kappa" in said and "50 % is no bias" in said
    assert main(["judge", str(path), "--by", server.url, "--dry-run"]) == 0
    assert "8 pairs of responses, 16 questions" in capsys.readouterr().out


def test_a_file_that_is_none_of_json_lines_is_refused_before_anyone_is_asked(server, tmp_path):
    with pytest.raises(ConfigError, match="want a name ending in"):
        outweigh.judge(pairs(3, 3), by=server.url, server=MILD, out=tmp_path / "verdicts.json")
    assert not server.asked


def test_kappa_with_votes_has_an_interval():
    voted = [{**row, "votes_chosen": 2, "votes_rejected": 2 * (n % 2)} for n, row in enumerate(pairs(60, 40))]
    found = outweigh.judge(voted, by=Longer())
    assert found["votes"].pairs == 60  # those that people tie on, too
    kappa = found["votes"].kappa
    assert kappa.low < kappa.value < kappa.high


def test_a_judge_may_say_as_much_as_it_is_given(server):
    server.answer = judging(longer)
    given = [{**row, "prompt": f"At length: {row['prompt']}"} for row in pairs(2, 2)]
    outweigh.judge(given, by=server.url, server=MILD, max_tokens=4096)
    assert {body["max_tokens"] for _, _, body in server.asked} == {4096}
    with pytest.raises(ConfigError, match="max_tokens: got 0"):
        outweigh.judge(given, by=server.url, max_tokens=0)
    with pytest.raises(ConfigError, match="max_tokens: is read by no judge but a model"):
        outweigh.judge(given, by="gold", max_tokens=100)


def test_what_a_judge_said_before_it_timed_out_is_not_asked_again(server):
    given = [{**row, "prompt": f"Slow: {row['prompt']}"} for row in pairs(4, 4)]
    server.answer = judging(longer)
    how = {"concurrency": 1, "retries": 0, "timeout": 0.5}

    def slower(body):
        server.delay = 0.0 if len(server.asked) < 5 else 2.0
        return judging(longer)(body)

    server.answer = slower
    with pytest.raises(ServerError):
        outweigh.judge(given, by=server.url, server=ServerConfig(**how))
    server.delay, server.answer = 0.0, judging(longer)
    found = outweigh.judge(given, by=server.url, server=ServerConfig(**how))
    assert found["asked"]["cached"] >= 4 and found["chosen"].without_verdict == 0
