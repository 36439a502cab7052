"""The audit put together."""

import numpy as np
import pytest

from outweigh.auditing.audit import audit
from outweigh.auditing.trust import Trial, planted_flips
from outweigh.errors import DataError
from outweigh.metrics.detection import auroc
from outweigh.voting.config import ProbeConfig
from outweigh.voting.probes import probe_votes
from outweigh.voting.votes import Votes


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(0)
    features_NH = rng.normal(size=(800, 10)).astype(np.float32)
    reward = features_NH @ rng.normal(size=10)
    pair = rng.integers(0, 800, (2000, 2))
    best = np.argmax(reward[pair], axis=1)
    wrong = rng.random(2000) < np.where(np.arange(2000) < 1000, 0.05, 0.35)
    place = np.where(wrong, 1 - best, best)
    chosen, rejected = pair[np.arange(2000), place], pair[np.arange(2000), 1 - place]

    def vote(swapped):
        labels = np.where(swapped, rejected, chosen), np.where(swapped, chosen, rejected)
        return probe_votes(features_NH, *labels, config=ProbeConfig(epochs=8))

    source = np.where(np.arange(2000) < 1000, "careful", "hasty").astype(object)
    source[:50] = "rare"
    result = audit(
        vote(np.zeros(2000, bool)),
        group_B=np.arange(2000),
        source_B=source,
        trial=Trial(planted_flips(2000, 0), vote(planted_flips(2000, 0))),
        rule_agreement=0.55,
    )
    return result, wrong


def test_the_noise_of_file_and_sources_is_found_and_a_rare_source_is_left_open(found):
    result, wrong = found
    assert result.noise.rate == pytest.approx(wrong.mean(), abs=0.04)
    assert result.noise_by_source["careful"].rate == pytest.approx(0.05, abs=0.05)
    assert result.noise_by_source["hasty"].rate == pytest.approx(0.35, abs=0.05)
    assert result.noise_by_source["rare"] is None


def test_a_source_has_no_more_noise_than_the_flips_planted_in_it_allow():
    size, rng = 600, np.random.default_rng(0)
    flipped = planted_flips(size, 0)
    sure = np.where(flipped, -1.0, 1.0) * rng.uniform(0.5, 1.0, (2, size))  # who find every planted flip
    unseen = np.where(rng.random(size) < 0.3, -1.0, 1.0) * rng.uniform(0.5, 1.0, size)
    votes = Votes(np.abs(sure), np.zeros((2, size), bool), witness_B=unseen)
    trial = Trial(flipped, Votes(sure, np.zeros((2, size), bool), witness_B=unseen))
    source = np.where(np.arange(size) < 300, "a", "b").astype(object)
    found, alone = (
        audit(votes, group_B=np.arange(size), source_B=source, trial=each) for each in (trial, None)
    )
    for name in ("a", "b"):
        assert alone.noise_by_source[name].rate > 0.1 > found.noise_by_source[name].rate
    assert alone.noise.rate > 0.1 > found.noise.rate


def test_wrong_labels_are_found_and_the_gate_says_so(found):
    result, wrong = found
    assert auroc(result.wrong_probability, wrong) > 0.9
    assert result.trust.repair and result.trust.agreement > 0.55


def test_the_columns_are_those_of_the_contract_with_a_row_for_each_pair(found):
    columns = found[0].columns(np.arange(2000), np.full(2000, "keep"))
    assert list(columns)[:5] == ["row", "strength", "spread", "wrong_probability", "action"]
    assert {len(values) for values in columns.values()} == {2000}


def test_votes_that_cannot_be_asked_again_are_audited_without_trust(found):
    rng = np.random.default_rng(1)
    from outweigh.voting.scores import voters_votes

    result = audit(voters_votes(rng.normal(1, 1, size=(3, 200))), group_B=np.arange(200))
    assert result.trust is None
    with pytest.raises(DataError, match="got 20 pairs"):
        audit(voters_votes(np.ones((3, 20))), group_B=np.arange(20))
