"""Reward models behind a server, real and on loopback: asked as OpenRLHF and vLLM are, answering well and
badly."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import outweigh
from outweigh.data.records import Message
from outweigh.errors import ConfigError, DataError, ModelError, ServerError, ServerRefusal
from outweigh.models.ensemble import load_scorer
from outweigh.models.loading import load_classifier, load_tokenizer
from outweigh.models.reward import RewardModel
from outweigh.models.served import TEXTS, ServedReward
from outweigh.servers.config import ServerConfig

QUICK = ServerConfig(retries=0, timeout=0.5)


def lengths(body):
    """OpenRLHF's answer: a reward a text, here its length."""
    return {"rewards": [float(len(text)) for text in body["query"]], "extra_logs": {}}


def labels(body):
    """vLLM's answer, its entries turned round: a reader goes by their index."""
    texts = body.get("input") or [body["messages"][-1]["content"]]
    data = [{"index": at, "label": None, "probs": [float(len(each))]} for at, each in enumerate(texts)]
    return {"object": "list", "data": data[::-1]}


@pytest.fixture
def rewards(server):
    """The URL of a server that speaks OpenRLHF's protocol."""
    server.answer = lengths
    return server.url.replace("/v1", "/get_reward")


@pytest.fixture
def classify(server):
    """The URL of one that speaks vLLM's."""
    server.answer = labels
    return server.url.replace("/v1", "/classify")


def test_every_text_gets_its_reward_in_order_some_a_request(server, rewards):
    said = ["x" * count for count in range(2 * TEXTS + 3)]
    found = ServedReward(rewards).score(["q"] * len(said), said)
    np.testing.assert_array_equal(np.diff(found), 1.0)
    assert sorted(len(body["query"]) for _, _, body in server.asked) == [3, TEXTS, TEXTS]
    assert set(server.paths) == {"/get_reward"}


def test_without_a_template_the_text_names_each_role_and_a_warning_says_so(server, rewards, caplog):
    ServedReward(rewards).score(["Name a prime."], ["Seven."])
    assert server.asked[0][2] == {
        "query": ["User: Name a prime.\n\nAssistant: Seven."],
        "prompts": ["User: Name a prime."],
    }
    assert "name its tokenizer" in caplog.text


def test_a_named_template_writes_what_the_model_was_trained_on(server, rewards, classify, tiny_chat, caplog):
    tokenizer = load_tokenizer(tiny_chat)
    asked = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    whole = tokenizer.apply_chat_template(asked, tokenize=False)
    server.answer = lengths
    ServedReward(f"{rewards}#{tiny_chat}").score(["Hi"], ["Ho"])
    body = server.asked[0][2]
    assert body["query"] == [whole] and whole.startswith(body["prompts"][0]) and "Hi" in body["prompts"][0]
    server.answer = labels
    ServedReward(f"{classify}#{tiny_chat}").score(["Hi"], ["Ho"])
    body = server.asked[1][2]
    assert body["input"] == [whole] and body["add_special_tokens"] is False
    assert not caplog.text


def test_vllm_renders_messages_itself_and_gives_the_logit(server, classify):
    found = ServedReward(classify).score(["Hi", "Hi", None], ["Hello", "Ho", "Yes"])
    np.testing.assert_array_equal(found, [5.0, 2.0, 3.0])
    bodies = [body for _, _, body in server.asked]
    assert all(body["model"] == "small-model" and body["use_activation"] is False for body in bodies)
    assert [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}] in [
        body["messages"] for body in bodies
    ]
    verbatim = ((Message("text", "a "),), (Message("text", "whole"),))
    assert ServedReward(classify).score_texts([verbatim]).tolist() == [7.0]


def test_the_key_of_a_chat_is_sent_to_no_reward_model_unless_it_is_named(server, rewards, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    ServedReward(rewards).score(["q"], ["a"])
    ServedReward(rewards, ServerConfig(key="OPENAI_API_KEY")).score(["q"], ["a"])
    monkeypatch.setenv("OUTWEIGH_REWARD_KEY", "own")
    ServedReward(rewards).score(["q"], ["a"])
    assert [key for _, key, _ in server.asked] == [None, "Bearer secret", "Bearer own"]


def test_a_busy_or_broken_server_is_asked_again(server, rewards):
    server.script = ["wait 0", "hang up", (503, b"")]
    assert len(ServedReward(rewards).score(["q"], ["a"])) == 1 and len(server.asked) == 4


def test_the_reward_of_one_text_may_be_a_number_alone(server, rewards):
    server.script = [{"rewards": 3.0}]
    assert ServedReward(rewards).score(["q"], ["a"]).tolist() == [3.0]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"rewards": [1.0]}, r'got \{"rewards": \[1.0\]\}, want 2 finite rewards for 2 texts'),
        ({"rewards": [1.0, 2.0, 3.0]}, "want 2 finite rewards"),
        ({"rewards": [1.0, None]}, "want 2 finite rewards"),
        ({"rewards": [1.0, True]}, "want 2 finite rewards"),
        ({"rewards": [[1.0], [2.0]]}, "want 2 finite rewards"),
        ({"rewards": 3.0}, "want 2 finite rewards"),
        ((200, b'{"rewards": [1.0, NaN]}'), "want 2 finite rewards"),
        ({"scores": [1.0, 2.0]}, r'got \{"scores"'),
        ((200, b"[1.0, 2.0]"), "want a JSON object. Is a reward model served there"),
        ((200, b"<html>Welcome</html>"), "got '<html>Welcome</html>'"),
        ((404, b"no such path"), "answers 404, 'no such path'"),
        ((401, b""), r"Is the key right\?"),
        ((500, b"CUDA out of memory"), "answers 500, 'CUDA out of memory'"),
    ],
)
def test_an_answer_that_is_none_is_refused_with_what_came(server, rewards, answer, said):
    server.script = [answer]
    with pytest.raises(ServerError, match=said):
        ServedReward(rewards, QUICK).score(["q", "q"], ["a", "b"])


def test_what_is_refused_together_is_asked_for_alone_and_told_where_that_is_refused(server, rewards):
    server.script = [(422, b"field required")]
    scored = ServedReward(rewards, QUICK).score(["q", "q"], ["a", "bb"])
    assert [len(body["query"]) for _, _, body in server.asked] == [2, 1, 1] and scored[1] == scored[0] + 1
    server.script = [(422, b"field required")] * 3
    with pytest.raises(ServerRefusal, match=r"answers 422, 'field required'\. Is the text too long for it\?"):
        ServedReward(rewards, QUICK).score(["q", "q"], ["a", "b"])


@pytest.mark.parametrize(
    "answer",
    [
        {"data": [{"index": 0, "probs": [0.1, 0.9]}]},  # two labels: no reward model
        {"data": [{"index": 1, "probs": [0.1]}]},
        {"data": [{"index": 0}]},
        {"data": 3},
        {"rewards": [1.0]},
    ],
)
def test_an_answer_of_vllm_without_one_label_a_text_is_refused(server, classify, answer):
    server.script = [answer]
    with pytest.raises(ServerError, match="want 1 finite rewards for 1 texts"):
        ServedReward(classify, QUICK).score(["q"], ["a"])


def test_a_server_too_slow_or_not_there_is_named(server, rewards):
    server.delay = 1.0
    with pytest.raises(ServerError, match=r"can't be asked .*timed out"):
        ServedReward(rewards, QUICK).score(["q"], ["a"])
    with pytest.raises(ServerError, match=r"127.0.0.1:1: can't be asked .* Is it running\?"):
        ServedReward("http://127.0.0.1:1/get_reward", QUICK).score(["q"], ["a"])


def test_a_server_that_failed_once_may_be_asked_again(server, rewards):
    model = ServedReward(rewards, ServerConfig(retries=1, timeout=5))
    server.script = [(404, b"")]
    with pytest.raises(ServerError):
        model.score(["q"], ["a"])
    server.script = ["wait 0"]
    assert len(model.score(["q"], ["a"])) == 1


def test_threads_that_share_a_model_do_not_stop_each_other(server, rewards):
    model = ServedReward(rewards)
    server.script, whole = ["wait 1"], server.answer
    server.answer = lambda body: {"rewards": []} if "b" in body["query"][0] else whole(body)
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(model.score, ["q"], ["a"])
        while not server.asked:
            time.sleep(0.01)
        time.sleep(0.1)
        with pytest.raises(ServerError, match="want 1 finite rewards"):
            model.score(["q"], ["b"])
        assert len(waits.result()) == 1


def test_the_password_of_a_url_is_used_and_never_shown(server, rewards, tmp_path, capsys, caplog):
    from outweigh.cli.main import main

    own = rewards.replace("://", "://me:secret@")
    rows = [{"prompt": f"Q{n}", "chosen": "bbb", "rejected": "a"} for n in range(4)]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "results.json"
    assert main(["evaluate", str(data), "--model", own, "--model", rewards, "--out", str(out)]) == 0
    assert main(["judge", str(data), "--by", own, "--json"]) == 0
    assert main(["score", own, str(data), "--out", str(tmp_path / "s.jsonl"), "--dry-run"]) == 0
    assert main(["evaluate", str(data), "--model", own, "--dry-run"]) == 0
    server.script = [(404, b"")]
    assert main(["score", own, str(data), "--out", str(tmp_path / "s.jsonl")]) == 2
    said = "".join(capsys.readouterr()) + caplog.text + out.read_text()
    assert "***@127.0.0.1" in said and "secret" not in said and "me:" not in said
    assert {key for _, key, _ in server.asked} == {None, "Basic bWU6c2VjcmV0"}


def test_other_urls_and_templates_are_refused_before_anything_is_asked(server):
    with pytest.raises(ConfigError, match=r"want a URL that ends in /get_reward .* or /classify"):
        load_scorer(server.url)
    with pytest.raises(ModelError, match=r"can't be loaded|no such folder"):
        load_scorer(server.url.replace("/v1", "/get_reward#./nowhere"))
    assert not server.asked


def test_score_select_evaluate_and_judge_take_a_served_model(server, rewards, tmp_path):
    rows = [{"prompt": f"Q{n}", "responses": ["a", "bbb"], "gold": [0.0, 1.0]} for n in range(8)]
    pairs = [{"prompt": f"Q{n}", "chosen": "bbb", "rejected": "a"} for n in range(8)]
    outweigh.score(rewards, pairs, out=tmp_path / "scored.jsonl")
    scored = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    assert [row["gap"] for row in scored] == [2.0] * 8
    kept = outweigh.select(rewards, rows, out=tmp_path / "picks.jsonl")
    assert kept["best_of_n"].curves["get_reward"].gold.value[-1] == 1.0
    (found,) = outweigh.evaluate(pairs, models=[rewards])["sets"].values()
    assert found["evaluation"]["get_reward"].accuracy.value == 1.0
    assert outweigh.judge(pairs, by=rewards)["chosen"].win == 1.0
    mixed = load_scorer(f"mean:{rewards},{rewards}")
    assert mixed.score(["q"], ["a"])[0] == ServedReward(rewards).score(["q"], ["a"])[0]
    for how, said in (("uwo", "at what level"), ("warm", "outweigh trained from one")):
        with pytest.raises(ConfigError, match=said):
            load_scorer(f"{how}:{rewards},{rewards}")


def test_a_pair_that_one_model_refuses_is_left_out_for_all_or_ends_it_by_its_name(
    server, rewards, tiny_llama, caplog
):
    def answer(body):
        return (413, b"too long") if any("long" in each for each in body["query"]) else lengths(body)

    server.answer = answer
    pairs = [{"prompt": f"Q{n}", "chosen": "long" if n == 3 else "bbb", "rejected": "a"} for n in range(5)]
    tokenizer = load_tokenizer(tiny_llama)
    here = RewardModel(load_classifier(tiny_llama, tokenizer), tokenizer)
    models = {"here": here, "served": rewards, "several": f"mean:{rewards},{rewards}"}
    with pytest.raises(DataError, match=r"row 4: .*too long.* Drop the row, or skip bad rows"):
        outweigh.evaluate(pairs, models=models)
    (found,) = outweigh.evaluate(pairs, models=models, on_bad_rows="skip")["sets"].values()
    assert [each.pairs for each in found["evaluation"].values()] == [4, 4, 4]
    assert found["evaluation"]["served"].accuracy.value == 1.0 and len(found["refused"]) == 1
    assert "1 of 5 pairs were refused" in caplog.text
    judged = outweigh.judge(pairs, by=rewards)["chosen"]
    assert (judged.win, judged.without_verdict) == (1.0, 1)
    assert "1 of 5 have no verdict" in caplog.text
    with pytest.raises(DataError, match=r"none of 1 pairs can be scored.*too long"):
        outweigh.evaluate(pairs[3:4], models=models, on_bad_rows="skip")
    with pytest.raises(ServerRefusal, match="too long"):
        outweigh.judge(pairs[3:4], by=rewards)


@pytest.mark.parametrize("verb", ["score", "select", "evaluate"])
def test_each_verb_asks_a_served_model_as_it_is_told(verb, server, rewards, tmp_path, monkeypatch):
    from outweigh.cli.main import main

    monkeypatch.setenv("SOME_KEY", "of this server")
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"prompt": "Q", "chosen": "bbb", "rejected": "a"}) + "\n")
    how = [str(data), "--model", rewards] if verb == "evaluate" else [rewards, str(data)]
    told = [verb, *how, "--out", str(tmp_path / "out.jsonl"), "--server.key", "SOME_KEY"]
    assert main(told) == 0
    assert {key for _, key, _ in server.asked} == {"Bearer of this server"}


def test_rounds_of_rl_ask_a_served_model_as_they_are_told(server, rewards, tiny_chat, tmp_path, monkeypatch):
    from outweigh.cli.main import main

    monkeypatch.setenv("SOME_KEY", "of this server")
    server.script = [(401, b"no more")] * 9
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"Q {n}"}) + "\n" for n in range(6)))
    told = ["align", "rl", str(data), "--policy", str(tiny_chat), "--reward-model", rewards]
    told += ["--out", str(tmp_path / "out"), "--batch-prompts", "2", "--n", "2", "--device-responses", "4"]
    told += ["--eval-prompts", "2", "--max-new-tokens", "4", "--server.key", "SOME_KEY"]
    assert main(told) == 2
    assert {key for _, key, _ in server.asked} == {"Bearer of this server"}
    server.script = []
    assert main([*told, "--resume", "--rounds", "2"]) == 0
    assert {key for _, key, _ in server.asked} == {"Bearer of this server"}  # in the second round, too


def test_a_dry_run_says_what_would_be_sent_and_asks_nothing(server, rewards, tmp_path, capsys):
    from outweigh.cli.main import main

    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"prompt": "Q", "responses": ["a", "b"]}) + "\n")
    assert main(["score", rewards, str(data), "--out", str(tmp_path / "out.jsonl"), "--dry-run"]) == 0
    assert f"2 texts would be sent to {rewards}." in capsys.readouterr().out
    assert main(["evaluate", str(data), "--model", rewards, "--dry-run"]) == 2  # it has no labels
    assert "rows.jsonl:1: " in capsys.readouterr().err
    data.write_text(json.dumps({"prompt": "Q", "chosen": "a", "rejected": "b"}) + "\n")
    assert main(["evaluate", str(data), "--model", rewards, "--dry-run"]) == 0
    assert f"Every text would be sent to {rewards}." in capsys.readouterr().out
    assert not server.asked
