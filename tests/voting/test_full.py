"""Voters trained in every layer: what they are trained on, and whose gaps they give."""

from dataclasses import replace

import numpy as np
import pytest

from outweigh.data.config import TokenConfig
from outweigh.data.pairs import read_pairs
from outweigh.training.config import TrainConfig
from outweigh.voting.full import _own, full_votes


@pytest.fixture
def pairs(wordy_pairs):
    return read_pairs(wordy_pairs)


@pytest.fixture
def config(tiny_llama):
    return TrainConfig(
        backbone=str(tiny_llama), tokens=TokenConfig(max_tokens=64), precision="fp32", learning_rate=3e-3,
        epochs=4, batch_pairs=8,
    )  # fmt: skip


def test_swapped_labels_turn_what_a_voter_learns_and_its_gaps_are_of_the_labels_as_they_came(pairs, config):
    here = full_votes(pairs, config, None, numbers=[0])
    there = full_votes(pairs, config, None, numbers=[0], swapped_B=np.ones(len(pairs), bool))
    assert (here.gap_MB > 0).all() and not here.unseen_MB.any()
    # Trained on swapped labels it has learnt the contrary, and agrees with the labels that it was given
    assert (there.gap_MB > 0).all() and not np.allclose(here.gap_MB, there.gap_MB, atol=1e-3)


def test_the_first_gaps_may_be_given_and_the_next_voter_has_another_seed(pairs, config, tmp_path):
    given = np.linspace(-1, 1, len(pairs))
    votes = full_votes(pairs, config, tmp_path, numbers=[0, 1], first_gap_B=given)
    np.testing.assert_array_equal(votes.gap_MB[0], given)
    assert len(list(tmp_path.iterdir())) == 1
    second = full_votes(pairs, replace(config, seed=1), tmp_path, numbers=[0])
    np.testing.assert_allclose(votes.gap_MB[1], second.gap_MB[0], atol=1e-6)
    assert len(list(tmp_path.iterdir())) == 1  # taken from the folder


def test_out_of_fold_no_voter_judges_what_it_has_seen(pairs, config):
    contrary = np.arange(len(pairs)) < 20  # one fold, all its labels swapped: only its own voter could know
    fold = np.where(contrary, 0, 1 + np.arange(len(pairs)) % 2)
    votes = full_votes(pairs, config, None, numbers=[0], fold_B=fold, swapped_B=contrary)
    assert votes.unseen_MB.all()
    assert (votes.gap_MB[0, contrary] < 0).all()


def test_a_voter_neither_stops_early_nor_publishes_itself(config):
    told = {"push_to_hub": True, "hub_model_id": "me/mine", "report_to": "none"}
    own = _own(replace(config, patience=2, keep="best", validation=0.1, trainer=told), 3)
    assert own.trainer == {"report_to": "none"} and own.seed == config.seed + 3
    assert own.patience is None and own.keep == "last" and own.validation == 0
