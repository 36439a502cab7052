"""The audit on real pairs: planted flips are found, and strength goes with what the crowd voted."""

import os
from pathlib import Path

import numpy as np
import pytest

import outweigh
from outweigh.auditing.trust import planted_flips
from outweigh.data.pairs import read_pairs
from outweigh.evaluation.facts import PairFacts
from outweigh.metrics.correlation import spearman
from outweigh.metrics.detection import auroc
from outweigh.models.features import Encoder, pair_features
from outweigh.voting.config import ProbeConfig, VoteConfig
from outweigh.voting.probes import probe_votes

DATA = Path(os.environ.get("OUTWEIGH_DATA") or Path(__file__).parents[3] / "shared" / "data")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no shared data at {DATA}; name it in OUTWEIGH_DATA"),
]


@pytest.fixture(scope="module")
def arguments():
    return read_pairs(DATA / "arguments.train.jsonl.gz")


@pytest.mark.parametrize("seed", [10, 11, 12])
def test_a_fifth_of_the_labels_planted_wrong_is_found(arguments, seed):
    features = pair_features(arguments, Encoder(backbone="minilm", tokens=VoteConfig().tokens))
    flipped = planted_flips(len(arguments), seed, 0.2)
    chosen, rejected = features.chosen_B, features.rejected_B
    votes = probe_votes(
        features.matrix_NH,
        np.where(flipped, rejected, chosen),
        np.where(flipped, chosen, rejected),
        config=ProbeConfig(),
        seed=seed,
    )
    assert auroc(-votes.gap_MB.mean(axis=0), flipped) >= 0.88


def test_strength_goes_with_the_crowd_s_votes_which_the_audit_never_reads(arguments):
    strength = outweigh.audit(arguments).audit.strength
    votes = PairFacts.of(arguments).grades["votes"]
    assert spearman(strength, votes) > 0.3
    unanimous, split = strength[votes == 1], strength[votes <= 0.25]
    error = np.hypot(unanimous.std() / len(unanimous) ** 0.5, split.std() / len(split) ** 0.5)
    assert unanimous.mean() - split.mean() > 10 * error
