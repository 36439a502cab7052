"""Voters trained in every layer: what they are trained on, and whose gaps they give."""

from dataclasses import replace

import numpy as np
import pytest

from outweigh.data.config import TokenConfig
from outweigh.data.pairs import read_pairs
from outweigh.training.config import TrainConfig
from outweigh.voting.full import Panel, _own, full_votes


def votes_of(pairs, config, folder, numbers, swapped=None, first=None, fold=None):
    marks = np.zeros(len(pairs), bool) if swapped is None else swapped
    (votes,) = full_votes(pairs, config, folder, [Panel(numbers, marks, first)], fold_B=fold)
    return votes


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
    here = votes_of(pairs, config, None, [0])
    there = votes_of(pairs, config, None, [0], np.ones(len(pairs), bool))
    assert (here.gap_MB > 0).all() and not here.unseen_MB.any()
    # Trained on swapped labels it has learnt the contrary, and agrees with the labels that it was given
    assert (there.gap_MB > 0).all() and not np.allclose(here.gap_MB, there.gap_MB, atol=1e-3)


def test_the_first_gaps_may_be_given_and_the_next_voter_has_another_seed(pairs, config, tmp_path):
    given = np.linspace(-1, 1, len(pairs))
    votes = votes_of(pairs, config, tmp_path, [0, 1], first=given)
    np.testing.assert_array_equal(votes.gap_MB[0], given)
    assert len(list(tmp_path.iterdir())) == 1
    second = votes_of(pairs, replace(config, seed=1), tmp_path, [0])
    np.testing.assert_allclose(votes.gap_MB[1], second.gap_MB[0], atol=1e-6)
    assert len(list(tmp_path.iterdir())) == 1  # taken from the folder


def test_out_of_fold_no_voter_judges_what_it_has_seen(pairs, config):
    contrary = np.arange(len(pairs)) < 20  # one fold, all its labels swapped: only its own voter could know
    fold = np.where(contrary, 0, 1 + np.arange(len(pairs)) % 2)
    votes = votes_of(pairs, config, None, [0], contrary, fold=fold)
    assert votes.unseen_MB.all()
    assert (votes.gap_MB[0, contrary] < 0).all()


def test_voters_trained_at_once_are_those_trained_in_turn(pairs, config, tmp_path, caplog):
    caplog.set_level("INFO", "outweigh.voting.full")
    panels = [Panel([0, 1], np.zeros(len(pairs), bool)), Panel([2], np.arange(len(pairs)) < 10)]
    at_once = full_votes(pairs, config, tmp_path / "at once", panels, jobs=2)
    assert "A voter is trained" not in caplog.text  # by this process
    in_turn = full_votes(pairs, config, tmp_path / "in turn", panels)
    for one, other in zip(at_once, in_turn, strict=True):
        np.testing.assert_allclose(
            one.gap_MB, other.gap_MB, atol=1e-2
        )  # threads round otherwise, Adam more so
    assert caplog.text.count("A voter is trained") == 3
    names = [{each.name for each in (tmp_path / how).iterdir()} for how in ("at once", "in turn")]
    assert names[0] == names[1] and len(names[0]) == 3
    assert sorted(name.partition("-")[0] for name in names[0]) == ["planted", "voter", "voter"]


def test_a_voter_is_known_by_the_columns_that_its_loss_reads(wordy_pairs, config, tmp_path):
    for margin in (0.0, 2.0):
        votes_of(read_pairs([row | {"margin": margin} for row in wordy_pairs]), config, tmp_path, [0])
    assert len(list(tmp_path.iterdir())) == 2


def test_a_voter_neither_stops_early_nor_publishes_itself(config):
    told = {"push_to_hub": True, "hub_model_id": "me/mine", "report_to": "none"}
    own = _own(replace(config, patience=2, keep="best", validation=0.1, trainer=told), 3)
    assert own.trainer == {"report_to": "none"} and own.seed == config.seed + 3
    assert own.patience is None and own.keep == "last" and own.validation == 0
