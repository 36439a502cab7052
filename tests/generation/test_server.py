"""An OpenAI-compatible server, real and on loopback: asked well, slow, busy, broken."""

import math
import time

import numpy as np
import pytest

from outweigh.data.records import Message
from outweigh.errors import ConfigError, ServerError
from outweigh.generation.config import SamplingConfig
from outweigh.generation.server import ChatServer, ServedPolicy
from outweigh.servers.config import ServerConfig


def policy(server, n=1, seed=0, **settings):
    return ServedPolicy(server.url, SamplingConfig(n=n, seed=seed), ServerConfig(**settings))


def prompts(count):
    return [(Message("user", f"question {number}"),) for number in range(count)]


def test_each_prompt_gets_its_n_responses_in_order(server):
    server.delay = 0.02
    found = list(policy(server, n=2, concurrency=4).samples(prompts(10), 0))
    assert [each[0].text for each in found] == [f"answer to question {number}" for number in range(10)]
    assert [sample[1:] for sample in found[0]] == [(3, True, -1.5), (3, False, -1.5)]
    assert 1 < server.most_under_way <= 4


def test_the_request_is_what_the_protocol_wants(server, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret")
    list(policy(server, n=3, key="SOME_KEY").samples(prompts(1), 7))
    (_, key, body) = server.asked[0]
    assert key == "Bearer secret"
    assert body["model"] == "small-model" and body["messages"] == [{"role": "user", "content": "question 0"}]
    assert (body["n"], body["temperature"], body["top_p"], body["max_tokens"]) == (3, 1.0, 1.0, 256)
    assert body["logprobs"] is True and isinstance(body["seed"], int)


def test_prompts_and_seeds_are_asked_with_seeds_of_their_own(server):
    for seed in (0, 1):
        list(policy(server, seed=seed).samples(prompts(3), 0))
    assert len({body["seed"] for _, _, body in server.asked}) == 6


def test_no_key_is_sent_where_none_is_set(server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    list(policy(server, logprobs=False).samples(prompts(1), 0))
    assert server.asked[0][1] is None and "logprobs" not in server.asked[0][2]


def test_a_server_that_gives_one_at_a_time_is_asked_again(server):
    whole = server.answer
    server.answer = lambda body: whole({**body, "n": 1})
    (samples,) = policy(server, n=3).samples(prompts(1), 0)
    assert len(samples) == 3 and [body["n"] for _, _, body in server.asked] == [3, 2, 1]


def test_a_busy_server_is_asked_again_after_the_wait_it_names_or_one_that_doubles(server):
    server.script = [(429, {"error": "slow down"}), (503, b""), "wait 0"]
    began = time.monotonic()
    assert len(list(policy(server).samples(prompts(1), 0))) == 1
    waits = np.diff([when for when, _, _ in server.asked])
    np.testing.assert_allclose(waits, [1.0, 2.0, 0.0], atol=0.5)
    assert time.monotonic() - began > 2.5


def test_a_retry_keeps_the_pace_too(server):
    server.script = ["wait 0"] * 3
    list(policy(server, requests_per_minute=200.0).samples(prompts(1), 0))
    assert np.diff([when for when, _, _ in server.asked]).min() > 0.2


def test_a_prompt_that_the_server_refuses_is_told_and_the_others_answered(server):
    server.script = [None, (400, b"maximum context length"), None]
    found = list(policy(server, concurrency=1).samples(prompts(3), 0))
    assert "maximum context length" in found[1].reason
    assert [each[0].text for each in (found[0], found[2])] == ["answer to question 0", "answer to question 2"]


def test_a_server_that_stays_busy_is_named_with_what_it_says(server):
    server.script = [(429, {"error": "slow down"})] * 3
    with pytest.raises(ServerError, match=r"answers 429, .*slow down"):
        list(policy(server, retries=1).samples(prompts(1), 0))


def test_a_connection_that_breaks_is_tried_again(server):
    server.script = ["hang up"]
    assert len(list(policy(server).samples(prompts(1), 0))) == 1


def test_requests_keep_the_pace_that_is_allowed(server):
    list(policy(server, requests_per_minute=600.0, concurrency=4).samples(prompts(4), 0))
    times = sorted(when for when, _, _ in server.asked)
    assert times[-1] - times[0] > 0.25  # four of them, a tenth of a second apart


def test_what_is_interrupted_asks_nothing_more(server):
    samples = policy(server, requests_per_minute=60.0, concurrency=4).samples(prompts(10), 0)
    next(samples)  # three threads wait for their turn
    samples.close()
    time.sleep(1.5)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, {"error": "no such key"}), r"answers 401, .*no such key.* Is the key right\?"),
        ((200, b"<html>Welcome</html>"), r"want a JSON object. Is it its /v1\?"),
        ({"choices": None}, "want a completion with choices"),
        ("moved to http://elsewhere/v1", "has moved to http://elsewhere/v1. Name that"),
        ({"choices": [{"text": "old protocol"}]}, "want message.content and finish_reason"),
    ],
)
def test_an_answer_that_is_none_says_what_came(server, answer, said):
    server.script = [answer]
    with pytest.raises(ServerError, match=said):
        list(policy(server).samples(prompts(1), 0))


@pytest.mark.parametrize("said", [None, [], [{"token": "a"}], [{"logprob": None}], [{"logprob": -math.inf}]])
@pytest.mark.parametrize(
    "usage", [{}, {"usage": None}, {"usage": [1]}, {"usage": {"completion_tokens": "1"}}]
)
def test_what_a_server_does_not_tell_of_an_answer_is_unknown(said, usage, server):
    choice = {"message": {"content": "Yes."}, "finish_reason": "stop", "logprobs": {"content": said}}
    server.script = [{"choices": [choice], **usage}]
    ((sample,),) = policy(server).samples(prompts(1), 0)
    known = sum(token["logprob"] for token in said) if said == [] else None
    assert sample == ("Yes.", None if said is None else len(said), True, known)


def test_a_server_that_lets_few_through_and_names_its_wait_answers_all(server):
    whole, let_through = server.answer, [0.0]

    def answer(body):
        with server.lock:
            now = time.monotonic()
            if now < let_through[0]:
                return "wait 0.05"
            let_through[0] = now + 0.04
        return whole(body)

    server.answer = answer
    found = list(policy(server, retries=1, concurrency=6).samples(prompts(12), 0))
    assert [each[0].text for each in found] == [f"answer to question {number}" for number in range(12)]
    assert len(server.asked) > 12


def test_an_answer_without_choices_is_a_refusal(server):
    server.script = [{"choices": []}]
    (found,) = policy(server).samples(prompts(1), 0)
    assert "gave no answer" in found.reason


def test_an_answer_without_content_is_a_refusal(server):
    server.script = [
        {
            "choices": [{"message": {"content": None}, "finish_reason": "length"}],
            "usage": {"completion_tokens": 1},
        }
    ]
    (found,) = policy(server).samples(prompts(1), 0)
    assert "want a string as its content" in found.reason


def test_a_response_without_content_is_asked_for_again_and_the_others_are_kept(server):
    whole = server.answer({"n": 3, "messages": [{"content": "?"}]})
    whole["choices"][1]["message"]["content"] = None
    server.script = [whole]
    (found,) = policy(server, n=3).samples(prompts(1), 0)
    assert len(found) == 3 and [body["n"] for _, _, body in server.asked] == [3, 1]


def test_of_responses_without_content_some_more_are_asked_for_before_the_prompt_is_given_up(server):
    whole = server.answer({"n": 2, "messages": [{"content": "?"}]})
    whole["choices"][1]["message"]["content"] = None
    server.script = [whole, (400, b"no"), (400, b"no"), None]
    (found,) = policy(server, n=2).samples(prompts(1), 0)
    assert len(found) == 2
    assert len({body["seed"] for _, _, body in server.asked}) == 4
    server.script = [whole, *[(400, b"no")] * 3]
    (found,) = policy(server, n=2).samples(prompts(1), 0)
    assert "no" in found.reason


def test_a_server_that_is_not_there_is_named_at_once(server):
    with pytest.raises(ServerError, match=r"127.0.0.1:1/v1: can't be asked .* Is it running\?"):
        ChatServer("http://127.0.0.1:1/v1", ServerConfig(retries=0))


def test_a_server_too_slow_is_given_up(server):
    server.delay = 2.0
    with pytest.raises(ServerError, match="can't be asked"):
        list(policy(server, timeout=0.2, retries=0).samples(prompts(1), 0))


def test_a_server_without_models_wants_a_name(server):
    server.lists = False
    with pytest.raises(ServerError, match=r"lists no model. Name one with --server.model"):
        policy(server)
    assert policy(server, model="mine").server.model == "mine"


@pytest.mark.parametrize("settings", [{"concurrency": 0}, {"requests_per_minute": 0.0}, {"timeout": 0.0}])
def test_settings_without_a_sense_are_refused(settings):
    with pytest.raises(ConfigError, match="want"):
        ServerConfig(**settings)
