"""The noise estimate on strengths whose noise is known."""

import numpy as np
import pytest

from outweigh.auditing.noise import estimate_noise
from outweigh.errors import DataError


def drawn(pairs, rate, slope=2.0, seed=0):
    """Held-out strengths (B,) after the estimate's own model, and which labels are wrong."""
    rng = np.random.default_rng(seed)
    size = np.abs(rng.normal(size=pairs))
    right_direction = rng.random(pairs) < 1 / (1 + np.exp(-slope * size / np.sqrt(np.mean(size**2))))
    wrong = rng.random(pairs) < rate
    return np.where(right_direction != wrong, size, -size), wrong


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2, 0.3, 0.4])
def test_the_rate_and_the_slope_that_made_the_strengths_are_found(rate):
    strength, _ = drawn(20000, rate)
    noise = estimate_noise(strength, np.arange(20000))
    assert noise.rate == pytest.approx(rate, abs=0.03)
    assert noise.low <= rate + 0.01 and noise.high >= rate - 0.01
    assert rate == 0.4 or noise.slope == pytest.approx(2.0, abs=0.35)


@pytest.mark.parametrize("pairs", [400, 4000])
def test_voters_who_know_nothing_leave_every_rate_possible(pairs):
    strength = np.random.default_rng(0).normal(size=pairs)
    noise = estimate_noise(strength, np.arange(pairs))
    assert noise.low < 0.1 and noise.high > 0.45


def test_fewer_groups_widen_the_interval():
    strength, wrong = drawn(3000, 0.2)
    order = np.lexsort((np.abs(strength), wrong))  # groups of like pairs, as topics are
    strength = strength[order]
    by_pair = estimate_noise(strength, np.arange(3000))
    by_group = estimate_noise(strength, np.arange(3000) // 300)
    assert by_group.high - by_group.low > by_pair.high - by_pair.low


def test_the_scale_of_the_strengths_does_not_matter():
    strength, _ = drawn(2000, 0.2)
    one, thousand = (estimate_noise(scale * strength, np.arange(2000)) for scale in (1, 1000))
    assert (one.rate, one.slope) == (thousand.rate, thousand.slope)
    assert thousand.scale == pytest.approx(1000 * one.scale)


def test_too_few_pairs_and_missing_strengths_are_refused():
    with pytest.raises(DataError, match="got 99 pairs"):
        estimate_noise(np.ones(99), np.arange(99))
    with pytest.raises(DataError, match="not finite: 1"):
        estimate_noise(np.append(np.ones(100), np.nan), np.arange(101))


def test_strengths_of_zero_are_no_evidence_and_no_fault():
    assert 0 <= estimate_noise(np.zeros(200), np.arange(200)).rate < 0.5
