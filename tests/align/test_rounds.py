"""Facts and alarms of rounds, from numbers that are known."""

import numpy as np
import pytest

from outweigh.align.rounds import Answers, diversity, round_facts
from outweigh.report import write_report


def answers(reward=0.0, gold=0.0, ratio=2.0, tokens=50.0, alike=0.9, ended=1.0, prompts=40, seed=0):
    noise = np.random.default_rng(seed).normal(scale=0.1, size=(prompts, 4))
    return Answers(
        reward_PN=reward + noise,
        gold_PN=None if gold is None else gold + noise,
        log_ratio_PN=np.full((prompts, 4), ratio),
        tokens_PN=np.full((prompts, 4), tokens),
        finished_PN=(np.arange(prompts * 4) < ended * prompts * 4).astype(float).reshape(4, prompts).T,
        diversity_P=np.full(prompts, alike),
    )


def alarms(*rounds, log=()):
    return set(round_facts(rounds, log).alarms)


def test_a_gain_is_over_the_first_policy_and_paired_by_prompt():
    facts = round_facts([answers(), answers(reward=2.0, gold=1.0, ratio=3.0)])
    assert facts.reward_gain.value == pytest.approx(2.0) and facts.gold_gain.value == pytest.approx(1.0)
    assert facts.reward_gain.high - facts.reward_gain.low < 1e-9  # the noise is the same, so it cancels
    assert (facts.divergence.value, facts.round, facts.finished) == (3.0, 1, 1.0)
    assert facts.wins["win"] > 0.99 and sum(facts.wins.values()) == pytest.approx(1)


def test_wins_are_by_gold_where_there_is_gold_and_by_reward_else():
    assert round_facts([answers(), answers(reward=5.0, gold=-5.0)]).wins["lose"] > 0.99
    assert round_facts([answers(gold=None), answers(reward=5.0, gold=None)]).wins["win"] > 0.99


def test_gold_that_falls_while_the_reward_rises_is_over_optimisation():
    start, good, bad = answers(), answers(1.0, 1.0, seed=1), answers(2.0, 0.5, seed=2)
    assert "over-optimisation" not in alarms(start, good)
    assert alarms(start, good, bad) == {"over-optimisation"}
    assert not alarms(start, good, answers(0.5, 0.5, seed=2))  # the reward fell too: no longer proxy alone
    assert not alarms(answers(gold=None), answers(9.0, gold=None))  # nothing tells gold


def test_divergence_length_and_sameness_alarm_and_are_silent_below():
    assert alarms(answers(), answers(ratio=2.0), answers(ratio=30.0)) == {"divergence"}
    assert not alarms(answers(), answers(ratio=12.0), answers(ratio=30.0))
    assert alarms(answers(), answers(tokens=76.0)) == {"length"}
    assert not alarms(answers(), answers(tokens=74.0))
    assert alarms(answers(), answers(alike=0.4)) == {"diversity"}
    steps = [{"kl": 0.1}] * 9
    assert alarms(answers(), answers(), log=[*steps, {"kl": 2.0}]) == {"divergence"}
    assert not alarms(answers(), answers(), log=[*steps, {"kl": 0.9}])


def test_a_policy_that_neither_moves_nor_gains_stands_still():
    assert alarms(answers(), answers(ratio=0.1)) == {"standstill"}
    assert not alarms(answers(), answers(ratio=0.1, reward=1.0))  # it gained all the same
    assert not alarms(answers(), answers(ratio=0.1, reward=-1.0))  # or lost, which no larger rate mends
    assert not alarms(answers(), answers(ratio=0.6))


def test_responses_that_are_cut_where_the_first_policy_ended_are_long_whatever_their_tokens():
    first = answers(tokens=100.0, ended=0.8)  # of at most 128: half as long again it can't become
    assert alarms(first, answers(tokens=128.0, ended=0.3)) == {"length"}
    assert not alarms(first, answers(tokens=128.0, ended=0.45))
    assert not alarms(answers(ended=0.08), answers(ended=0.0))  # too few to begin with
    few = {"tokens": 120.0, "prompts": 5}
    assert not alarms(answers(ended=0.15, **few), answers(ended=0.05, **few))  # 3 of 20, then 1: chance


def test_diversity_is_the_share_of_distinct_neighbouring_words():
    assert diversity(["a b c", "a b c"]) == 0.5
    assert diversity(["a b c", "c b a"]) == 1.0
    assert diversity(["one", ""]) == 1.0 == diversity([])
    assert diversity(["yes"] * 4) == diversity([""] * 4) == diversity(["\u597d\u7684"] * 4) == 0.25


def test_answers_come_back_from_their_file():
    given = answers(gold=None)
    again = Answers.of(given.to_dict())
    assert again.gold_PN is None
    np.testing.assert_array_equal(again.reward_PN, given.reward_PN)


def test_the_page_tells_rounds_with_and_without_gold(tmp_path):
    for gold in (None, 1.0):
        rounds = [answers(gold=gold and 0.0), answers(1.0, gold, 2.0, tokens=80.0)]
        facts = [round_facts(rounds[:count]).to_dict() for count in (1, 2)]
        log = [[{"reward": 0.1}, {"reward": 0.3}]]
        page = write_report({"rounds": facts, "log": log, "kept": 1}, [], tmp_path).read_text()
        assert "<h1>The policy of round 1 raised the" in page and "half as long again" in page
        assert "&lt;span" not in page
        assert ("gold ends at" in page) == (gold is not None)
    assert "keep that one" in write_report({"rounds": facts, "kept": 0}, [], tmp_path).read_text()
