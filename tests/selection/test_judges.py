"""What asking a judge took, counted: by the server's answers, by what is found on disk, from many threads."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from outweigh.data.records import Message
from outweigh.errors import ServerError
from outweigh.selection.judges import HOPELESS, TRIES, Match, ServerJudge, Tally
from outweigh.servers.config import ServerConfig

CALM = ServerConfig(concurrency=4, retries=0)


def matches(count, mark):
    """Matches that no other test asks about, so that none is in the cache."""
    return [
        Match((Message("user", f"{mark} {n}"),), *((Message("assistant", side),) for side in ("yes", "no")))
        for n in range(count)
    ]


def saying(text, **usage):
    """A server's answer to whatever it is asked."""
    message = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return lambda body: {"choices": [message], "usage": usage}


def tally_of(server, answer, asked):
    server.answer = answer
    judge = ServerJudge(server.url, CALM)
    judge.verdicts(asked)
    return judge.tally


def test_a_new_tally_is_all_zero_and_its_lock_no_result():
    told = Tally().to_dict()
    assert set(told.values()) == {0} and json.dumps(told)
    assert list(told) == [
        *(
            "requests",
            "cached",
            "malformed",
            "refused",
            "prompt_tokens",
            "completion_tokens",
            "first",
            "second",
        )
    ]


def test_both_orders_are_requests_and_tokens_are_those_of_the_server(server):
    told = tally_of(server, saying("[[A]]", prompt_tokens=7, completion_tokens=3), matches(5, "both"))
    assert told.to_dict() == {
        "requests": 10,
        "cached": 0,
        "malformed": 0,
        "refused": 0,
        "prompt_tokens": 70,
        "completion_tokens": 30,
        "first": 10,
        "second": 0,
    }


def test_answers_from_disk_are_counted_apart_and_cost_nothing(server):
    asked, answer = matches(3, "disk"), saying("[[B]]", prompt_tokens=7, completion_tokens=3)
    tally_of(server, answer, asked)
    again = tally_of(server, answer, asked)
    assert (again.requests, again.cached, again.prompt_tokens, again.completion_tokens) == (0, 6, 0, 0)
    assert (again.first, again.second) == (0, 6)  # a verdict is one, wherever it was found


def test_a_tie_takes_no_side_and_is_well_formed(server):
    told = tally_of(server, saying("[[C]]"), matches(2, "tie"))
    assert (told.requests, told.first, told.second, told.malformed) == (4, 0, 0, 0)
    assert (told.prompt_tokens, told.completion_tokens) == (0, 0)  # the server counted none


def test_each_try_without_a_verdict_is_malformed_and_paid_for_and_the_first_is_shown(server, caplog):
    told = tally_of(server, saying("Both.", prompt_tokens=1, completion_tokens=1), matches(2, "none"))
    assert told.malformed == told.requests == told.prompt_tokens == 4 * TRIES
    assert told.first == told.second == 0
    (shown,) = [record.getMessage() for record in caplog.records]
    assert shown.endswith("an answer ended without a verdict, with 'Both.'.")
    empty = tally_of(server, saying(None, prompt_tokens=1), matches(1, "empty"))
    assert (empty.malformed, empty.requests, empty.completion_tokens) == (2 * TRIES, 2 * TRIES, 0)


def test_an_answer_that_was_cut_has_no_verdict_and_odd_counts_are_none(server, caplog):
    def cut(body):
        message = {"message": {"content": "It might be [[A]], but"}, "finish_reason": "length"}
        return {"choices": [message], "usage": {"prompt_tokens": "many", "completion_tokens": None}}

    told = tally_of(server, cut, matches(1, "cut"))
    assert (told.malformed, told.first, told.prompt_tokens) == (2 * TRIES, 0, 0)
    assert "ended at 512 tokens without a verdict, with 'It might be [[A]], but'" in caplog.text


def test_a_broken_answer_on_disk_is_asked_for_again(server):
    server.answer = saying("[[A]]")
    judge = ServerJudge(server.url, CALM)
    before = set(judge.cache.glob("*"))
    judge.verdicts(matches(1, "broken"))
    new = set(judge.cache.glob("*")) - before
    assert len(new) == 2
    for file, broken in zip(new, ("", '{"said": 1}'), strict=True):
        file.write_text(broken)
    again = ServerJudge(server.url, CALM)
    assert again.verdicts(matches(1, "broken")) == [0.5]
    assert (again.tally.requests, again.tally.cached) == (2, 0)


def test_what_failed_is_no_request(server):
    server.script = [(400, b"too long")] * 8
    judge = ServerJudge(server.url, CALM)
    with pytest.raises(ServerError, match="too long"):
        judge.verdicts(matches(2, "fails"))
    assert set(judge.tally.to_dict().values()) == {0}


def test_a_refused_question_is_counted_and_its_match_has_no_verdict(server):
    server.script = [(413, b"too long")]
    server.answer = saying("[[A]]")
    judge = ServerJudge(server.url, ServerConfig(concurrency=1, retries=0))
    assert judge.verdicts(matches(3, "one refused")) == [None, 0.5, 0.5]
    assert (judge.tally.refused, judge.tally.requests, judge.tally.malformed) == (1, 5, 0)


def test_a_judge_that_refuses_all_is_not_asked_all(server):
    server.script = [(400, b"no such model")] * 500
    with pytest.raises(ServerError, match="no such model"):
        ServerJudge(server.url, CALM).verdicts(matches(200, "all refused"))
    assert HOPELESS <= len(server.asked) <= HOPELESS + 2 * CALM.concurrency


def test_a_judge_that_answers_one_question_is_asked_all(server):
    server.script = [saying("[[A]]")({}), *[(400, b"too long")] * (2 * HOPELESS)]
    judge = ServerJudge(server.url, ServerConfig(concurrency=1, retries=0))
    server.answer = saying("[[A]]")
    verdicts = judge.verdicts(matches(HOPELESS + 3, "one answered"))
    assert verdicts[0] is None and verdicts[-2:] == [0.5, 0.5]
    assert judge.tally.refused == 2 * HOPELESS


@pytest.mark.parametrize("code", [401, 403, 404])
def test_what_is_no_refusal_of_one_question_ends_it(code, server):
    server.script = [(code, b"no")]
    server.answer = saying("[[A]]")
    with pytest.raises(ServerError, match=f"answers {code}"):
        ServerJudge(server.url, CALM).verdicts(matches(3, f"ends {code}"))


def test_counts_from_many_threads_are_not_lost(server):
    server.answer = saying("[[A]]", prompt_tokens=1, completion_tokens=1)
    judge = ServerJudge(server.url, ServerConfig(concurrency=8))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(judge.verdicts, [matches(10, f"thread {number}") for number in range(4)]))
    assert judge.tally.requests == judge.tally.first == judge.tally.prompt_tokens == 80
