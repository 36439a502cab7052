import json

import numpy as np
import pytest

from outweigh.errors import ShapeError
from outweigh.evaluation.compare import compare
from outweigh.evaluation.facts import PairFacts


def facts(prompts):
    lengths = np.ones(len(prompts))
    return PairFacts(np.asarray(prompts), lengths, lengths)


def test_a_better_model_by_hand():
    gap_a, gap_b = np.array([1.0, 1.0, 1.0, -1.0]), np.array([1.0, -1.0, 0.0, -1.0])
    got = compare(gap_a, gap_b, facts(range(4)))
    assert (got.accuracy_a.value, got.accuracy_b.value, got.difference.value) == (0.75, 0.375, 0.375)
    split = got.mcnemar
    assert (split.both_right, split.only_a, split.only_b, split.both_wrong) == (1, 2, 0, 1)
    assert split.p_value == pytest.approx(0.5)  # two of two: 2 / 4
    json.dumps(got.to_dict(), allow_nan=False)


def test_swapping_the_models_turns_the_difference_over():
    rng = np.random.default_rng(0)
    gap_a, gap_b, pairs = rng.normal(0.5, 1, 200), rng.normal(0.2, 1, 200), facts(range(200))
    one, other = compare(gap_a, gap_b, pairs), compare(gap_b, gap_a, pairs)
    assert one.difference.value == pytest.approx(-other.difference.value)
    assert (one.difference.low, one.difference.high) == pytest.approx(
        (-other.difference.high, -other.difference.low)
    )
    assert one.mcnemar.p_value == other.mcnemar.p_value


def test_models_that_differ_on_whole_prompts_are_judged_by_prompt():
    # a is right on 22 of 40 prompts of 10 pairs, b on the other 18: by pair that would look like 220 : 180.
    prompts = np.repeat(np.arange(40), 10)
    gap_a = np.where(prompts < 22, 1.0, -1.0)
    got = compare(gap_a, -gap_a, facts(prompts))
    assert (got.difference.unit, got.difference.count) == ("prompt", 40)
    assert got.difference.low < 0 < got.difference.high
    assert got.mcnemar.p_value == pytest.approx(0.0509, abs=0.001)  # takes the 400 pairs as independent


def test_models_on_other_pairs_are_refused():
    with pytest.raises(ShapeError, match=r"gap_b \(2,\)"):
        compare(np.ones(3), np.ones(2), facts(range(3)))
