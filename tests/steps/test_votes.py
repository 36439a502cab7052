"""The two looks of heads, on features of which the right label is a linear function."""

from dataclasses import replace

import numpy as np
import pytest

import outweigh
from outweigh.auditing.strength import preference_strength
from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet
from outweigh.errors import ConfigError
from outweigh.metrics.detection import auroc
from outweigh.models.features import Features
from outweigh.steps.config import AuditConfig
from outweigh.steps.votes import ask, head_votes
from outweigh.training.config import TrainConfig
from outweigh.voting.config import ProbeConfig, VoteConfig
from outweigh.voting.votes import held_out_strength

TWICE = ProbeConfig(models=5, epochs=8)
ONCE = replace(TWICE, second_look=False)


def noisy(seed, pairs=1000, hidden=64, share=0.25):
    """Features, and which labels are wrong: heads of this size learn many of them by heart."""
    rng = np.random.default_rng(seed)
    matrix_NH = rng.normal(size=(2 * pairs, hidden)).astype(np.float32)
    reward = matrix_NH @ rng.normal(size=hidden)
    one, other = np.arange(pairs), np.arange(pairs, 2 * pairs)
    wrong = rng.random(pairs) < share
    first_is_chosen = (reward[one] > reward[other]) != wrong
    chosen, rejected = np.where(first_is_chosen, one, other), np.where(first_is_chosen, other, one)
    return Features(matrix_NH, chosen, rejected), wrong


def found(votes, wrong):
    return auroc(-preference_strength(votes.gap_MB).mean, wrong)


def test_a_second_look_finds_wrong_labels_that_the_first_one_learnt_by_heart():
    for seed in range(3):
        features, wrong = noisy(seed)
        once, twice = (found(head_votes(features, heads, seed=seed), wrong) for heads in (ONCE, TWICE))
        assert twice > once + 0.01


def test_how_many_labels_are_wrong_is_said_by_the_first_look():
    features, _ = noisy(0)
    once, twice = (head_votes(features, heads) for heads in (ONCE, TWICE))
    np.testing.assert_array_equal(twice.gap_MB[:5], once.gap_MB)
    assert not twice.unseen_MB[5:].any()  # taught by voters that had seen every label
    unseen = once.unseen_MB.any(axis=0)
    np.testing.assert_array_equal(held_out_strength(twice)[unseen], held_out_strength(once)[unseen])


def test_labels_by_the_toss_of_a_coin_are_not_believed_where_every_pair_stands_twice():
    toss = np.random.default_rng(0)
    rows = [
        {"prompt": f"p{n}", "chosen": f"a{n}", "rejected": f"b{n}"}
        | {f"features_{side}": toss.normal(size=64).tolist() for side in ("chosen", "rejected")}
        for n in range(300)
    ]
    config = AuditConfig(votes=VoteConfig(probes=TWICE), policy="keep", trust=False)
    found = outweigh.audit(PairSet.from_rows(rows * 2), config=config).audit
    # A head that left a pair out and learnt its repeat by heart would side with nearly every label
    assert found.noise.rate > 0.3 and found.noise.high > 0.45


def test_swapped_features_hold_the_other_text_for_chosen_where_marked():
    features = Features(np.zeros((4, 1)), np.array([0, 1]), np.array([2, 3]))
    swapped = features.swapped(np.array([True, False]))
    assert swapped.chosen_B.tolist() == [2, 1] and swapped.rejected_B.tolist() == [0, 3]


def test_heads_stand_on_as_many_layers_as_is_said(wordy_pairs, tiny_bert):
    def votes(**settings):
        how = VoteConfig(
            method="probes",
            backbone=str(tiny_bert),
            probes=ONCE,
            tokens=TokenConfig(max_tokens=96),
            **settings,
        )
        pairs = PairSet.from_rows(wordy_pairs)
        return ask(
            pairs, AuditConfig(votes=how, policy="keep", trust=False), TrainConfig(), None
        ).votes.gap_MB

    one_of_two, both = votes(depth=0.5), votes(depth=1.0)
    assert not np.allclose(one_of_two, both) and np.array_equal(votes(), one_of_two)  # 2 / 3 of two is one
    with pytest.raises(ConfigError, match=r"votes depth: got 0\.0, want more than 0, and at most 1"):
        VoteConfig(depth=0.0)
