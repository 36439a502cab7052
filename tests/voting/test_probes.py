"""Probes on features of which the right label is a linear function."""

import numpy as np
import pytest
import torch

from outweigh.errors import ConfigError, DataError, ShapeError
from outweigh.metrics.detection import auroc
from outweigh.voting.config import ProbeConfig
from outweigh.voting.probes import Heads, fit_heads, probe_votes


def planted(pairs=1500, texts=600, hidden=12, share=0.2, seed=0):
    rng = np.random.default_rng(seed)
    features_NH = rng.normal(size=(texts, hidden)).astype(np.float32)
    reward = features_NH @ rng.normal(size=hidden)
    first, second = rng.integers(0, texts, pairs), rng.integers(0, texts, pairs)
    better = np.where(reward[first] > reward[second], first, second)
    worse = np.where(reward[first] > reward[second], second, first)
    flipped = rng.random(pairs) < share
    return features_NH, np.where(flipped, worse, better), np.where(flipped, better, worse), flipped


def test_heads_are_taught_the_likelier_label_and_vote_on_the_given_one():
    features_NH, chosen, rejected, flipped = planted()
    told = np.where(flipped, 0.9, 0.1)
    votes = probe_votes(features_NH, chosen, rejected, config=ProbeConfig(epochs=8), wrong_B=told)
    strength = votes.gap_MB.mean(axis=0).astype(float)
    assert (strength[flipped] < 0).mean() > 0.9 and (strength[~flipped] > 0).mean() > 0.9
    # log 9 is the gap that explains labels best of which a tenth is wrong
    assert np.abs(strength).mean() < np.log(9)


def test_labels_that_are_right_for_certain_are_taught_as_given():
    features_NH, chosen, rejected, _ = planted(pairs=200)
    plain, told = (
        probe_votes(features_NH, chosen, rejected, config=ProbeConfig(models=2), wrong_B=wrong_B).gap_MB
        for wrong_B in (None, np.zeros(200))
    )
    np.testing.assert_array_equal(plain, told)


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_wrong_labels_get_low_gaps(kind):
    features_NH, chosen, rejected, flipped = planted()
    votes = probe_votes(features_NH, chosen, rejected, config=ProbeConfig(kind=kind, epochs=8))
    assert auroc(-votes.gap_MB.mean(axis=0).astype(float), flipped) > 0.9


def test_the_same_seed_gives_the_same_votes_and_another_seed_others():
    features_NH, chosen, rejected, _ = planted(pairs=200)
    first, again, other = (
        probe_votes(features_NH, chosen, rejected, config=ProbeConfig(), seed=seed).gap_MB
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_a_memory_map_gives_the_votes_of_the_array(tmp_path):
    features_NH, chosen, rejected, _ = planted(pairs=100)
    np.save(tmp_path / "features.npy", features_NH)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    config = ProbeConfig(models=3)
    np.testing.assert_array_equal(
        probe_votes(mapped, chosen, rejected, config=config).gap_MB,
        probe_votes(features_NH, chosen, rejected, config=config).gap_MB,
    )


def test_out_of_fold_votes_do_not_change_when_the_folds_own_labels_do():
    features_NH, chosen, rejected, _ = planted(pairs=300)
    fold = np.arange(300) % 3
    config = ProbeConfig(models=2)
    before = probe_votes(features_NH, chosen, rejected, config=config, fold_B=fold)
    turned = fold == 1
    after = probe_votes(
        features_NH,
        np.where(turned, rejected, chosen),
        np.where(turned, chosen, rejected),
        config=config,
        fold_B=fold,
    )
    np.testing.assert_allclose(after.gap_MB[:, turned], -before.gap_MB[:, turned], atol=1e-5)
    assert before.unseen_MB.all()


def test_in_sample_about_a_share_of_1_over_e_of_the_heads_has_not_seen_a_pair():
    features_NH, chosen, rejected, _ = planted(pairs=1000)
    votes = probe_votes(features_NH, chosen, rejected, config=ProbeConfig(epochs=1))
    # 10,000 draws: std of the share is sqrt(.37 * .63 / 10000) = .005
    assert votes.unseen_MB.mean() == pytest.approx(np.exp(-1), abs=0.02)


def test_pairs_of_one_group_are_seen_by_the_same_heads():
    features_NH, chosen, rejected, _ = planted(pairs=200)
    group = np.arange(200) // 2
    votes = probe_votes(features_NH, chosen, rejected, config=ProbeConfig(epochs=1), group_B=group)
    np.testing.assert_array_equal(votes.unseen_MB[:, ::2], votes.unseen_MB[:, 1::2])
    with pytest.raises(ShapeError, match=r"got groups \(3,\), want \(200,\)"):
        probe_votes(features_NH, chosen, rejected, config=ProbeConfig(), group_B=group[:3])


def test_where_each_pair_is_its_own_group_the_draws_are_those_of_pairs():
    features_NH, chosen, rejected, _ = planted(pairs=200)
    config = ProbeConfig(models=5, epochs=1)
    plain, grouped = (
        probe_votes(features_NH, chosen, rejected, config=config, group_B=group, seed=3)
        for group in (None, np.arange(200))
    )
    np.testing.assert_array_equal(grouped.gap_MB, plain.gap_MB)
    drawn_BM = torch.poisson(torch.ones(200, 5), torch.Generator().manual_seed(3))  # as was measured with
    np.testing.assert_array_equal(grouped.unseen_MB.T, drawn_BM.numpy() == 0)


def test_each_epoch_leaves_its_mean_gap_and_the_last_one_is_the_votes_mean():
    features_NH, chosen, rejected, _ = planted(pairs=60)
    votes = probe_votes(features_NH, chosen, rejected, config=ProbeConfig(epochs=3))
    assert votes.epoch_gap_EB.shape == (3, 60)
    np.testing.assert_allclose(votes.epoch_gap_EB[-1], votes.gap_MB.mean(axis=0), rtol=1e-5)


def test_eight_pairs_are_enough_to_vote_on():
    features_NH, chosen, rejected, _ = planted(pairs=8, texts=16)
    assert probe_votes(features_NH, chosen, rejected, config=ProbeConfig()).gap_MB.shape == (10, 8)


def test_a_constant_feature_and_its_scale_do_not_matter():
    features_NH, chosen, rejected, _ = planted(pairs=100)
    scaled_NH = features_NH * 100 + 7
    config = ProbeConfig(models=2, kind="linear")
    plain = probe_votes(features_NH, chosen, rejected, config=config).gap_MB
    np.testing.assert_allclose(
        probe_votes(scaled_NH, chosen, rejected, config=config).gap_MB, plain, atol=1e-3
    )
    constant_NH = np.concatenate([features_NH, np.full((len(features_NH), 1), 3.0, np.float32)], axis=1)
    np.testing.assert_allclose(
        probe_votes(constant_NH, chosen, rejected, config=config).gap_MB, plain, atol=1e-3
    )


def test_a_head_trained_with_others_is_the_head_trained_with_weight_on_its_pairs_alone():
    features_NH, chosen, rejected, _ = planted(pairs=64)
    config = ProbeConfig(kind="linear", batch_pairs=64, epochs=2)
    weight_BA = torch.ones(64, 2)
    weight_BA[:32, 0] = 0
    together = fit_heads(features_NH, chosen, rejected, config=config, seed=0, weight_BA=weight_BA)
    alone = fit_heads(features_NH, chosen, rejected, config=config, seed=0, weight_BA=weight_BA[:, :1])
    torch.testing.assert_close(together.parameters[0][:, :1], alone.parameters[0], atol=1e-6, rtol=0)


def test_untrained_linear_heads_give_every_text_the_reward_0():
    features_NH = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    heads = Heads(features_NH, np.arange(5), heads=3, config=ProbeConfig(kind="linear"), seed=0)
    np.testing.assert_array_equal(heads.rewards(features_NH), np.zeros((5, 3)))


def test_an_index_outside_the_features_is_refused():
    with pytest.raises(DataError, match="indices 0 to 3, want 0 to 2"):
        probe_votes(np.zeros((3, 2)), np.array([0]), np.array([3]), config=ProbeConfig())


def test_no_pairs_are_refused():
    none = np.array([], dtype=np.int64)
    with pytest.raises(DataError, match="no pairs"):
        probe_votes(np.zeros((3, 2)), none, none, config=ProbeConfig())


def test_a_single_fold_is_refused():
    features_NH, chosen, rejected, _ = planted(pairs=10)
    with pytest.raises(ShapeError, match="1 different"):
        probe_votes(features_NH, chosen, rejected, config=ProbeConfig(), fold_B=np.zeros(10, dtype=int))


def test_a_feature_that_is_not_a_number_is_refused():
    features_NH = np.array([[0.0, np.nan], [1.0, 2.0]])
    with pytest.raises(DataError, match="not finite"):
        probe_votes(features_NH, np.array([0]), np.array([1]), config=ProbeConfig())


def test_an_unknown_kind_and_no_models_are_refused():
    with pytest.raises(ConfigError, match="kind: got 'tree'"):
        ProbeConfig(kind="tree")
    with pytest.raises(ConfigError, match="models: got 0"):
        ProbeConfig(models=0)


def test_wrong_probabilities_of_another_shape_are_refused():
    features_NH, chosen, rejected, _ = planted(pairs=20)
    with pytest.raises(ShapeError, match=r"wrong probabilities \(3,\), want \(20,\)"):
        probe_votes(features_NH, chosen, rejected, config=ProbeConfig(), wrong_B=np.zeros(3))
