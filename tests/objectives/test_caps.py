import math

import numpy as np
import pytest
import torch

from outweigh.errors import ConfigError
from outweigh.objectives.caps import (
    PRESETS,
    angular,
    cosine_cap,
    fitted_betas,
    length_cap,
    prior_cap,
    random_cap,
)
from outweigh.objectives.pairwise import pairwise_loss


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_the_cap_is_the_papers_equation():
    # 10 / (0.5 + 0.001) - 5 = 14.96008; of equal responses 10 / 1.001 - 5 = 4.99001
    torch.testing.assert_close(length_cap(double(0.5, 1.0)), double(14.9600798, 4.9900100))
    torch.testing.assert_close(prior_cap(double(0.25), beta1=2.0, beta3=1.0, beta2=0.25), double(2 / 0.5 + 1))


@pytest.mark.parametrize("feature", PRESETS)
def test_every_preset_caps_equal_responses_near_five_nats_and_opens_as_they_differ(feature):
    cap = {"length": length_cap, "cosine": cosine_cap}[feature]
    for preset in PRESETS[feature]:
        caps = cap(torch.linspace(0.1, 1.0, 50, dtype=torch.float64), preset=preset)
        assert caps[-1].item() == pytest.approx(5.0, abs=0.05)
        assert (caps.diff() < 0).all()


def test_angular_similarity_of_equal_orthogonal_and_opposite_vectors():
    # 1 - angle / pi: 0, a quarter turn; an obtuse angle counts as a quarter turn
    torch.testing.assert_close(angular(double(1.0, 0.0, -1.0)), double(1.0, 0.5, 0.5))
    assert angular(double(math.cos(math.pi / 3))).item() == pytest.approx(1 - 1 / 3)


def test_a_raw_cosine_below_nothing_is_nothing_and_does_not_divide_by_it():
    caps = cosine_cap(double(-0.001, -1.0, 0.0), form="raw", beta1=1.0, beta3=4.0)
    torch.testing.assert_close(caps, double(1004.0, 1004.0, 1004.0))


def test_the_gradient_vanishes_at_half_the_cap_of_the_feature():
    cap = length_cap(double(0.8))
    gap = (cap / 2).clone().requires_grad_()
    pairwise_loss(gap, cap=cap).sum().backward()
    torch.testing.assert_close(gap.grad, double(0.0), atol=1e-12, rtol=0)


def test_a_random_cap_is_anew_for_each_step_and_alike_on_every_device():
    items = torch.arange(200)
    first = random_cap(items, torch.tensor(3), low=5.0, high=6.0, seed=1)
    assert first.min() >= 5 and first.max() < 6 and first.std() > 0.2
    torch.testing.assert_close(
        random_cap(items[50:60], torch.tensor(3), low=5.0, high=6.0, seed=1), first[50:60]
    )
    for step, seed in ((4, 1), (3, 2)):
        assert not torch.equal(random_cap(items, torch.tensor(step), low=5.0, high=6.0, seed=seed), first)


def test_fitted_betas_put_half_the_cap_where_the_noise_says():
    # Noise made so that 2 logit(1 - e(s)) is 3 / (s + .001) + 1 exactly
    similarity = np.linspace(0.4, 1.0, 2000)
    cap = 3 / (similarity + 0.001) + 1
    noise = 1 / (1 + np.exp(cap / 2))
    found = fitted_betas(similarity, noise)
    assert found["beta1"] == pytest.approx(3, rel=0.02) and found["beta3"] == pytest.approx(1, abs=0.05)


def test_noise_that_falls_with_similarity_gives_a_constant_cap_above_nothing():
    similarity = np.linspace(0.1, 1.0, 400)
    found = fitted_betas(similarity, 0.3 - 0.2 * similarity)
    assert found["beta1"] == 0
    # the mean noise is .19, and 2 logit(.81) = 2.9
    assert found["beta3"] == pytest.approx(2.9, abs=0.2)


def test_unknown_presets_forms_and_ranges_are_refused():
    with pytest.raises(ConfigError, match=r"preset: got 'poetry', want one of dialogue, summarisation"):
        length_cap(double(0.5), preset="poetry")
    with pytest.raises(ConfigError, match="form: got 'round', want angular or raw"):
        cosine_cap(double(0.5), form="round")
    with pytest.raises(ConfigError, match=r"got low 6 and high 5"):
        random_cap(torch.arange(2), torch.tensor(0), low=6, high=5)
    with pytest.raises(ConfigError, match=r"got low -0.1 and high 5, want 0 < low"):
        random_cap(torch.arange(2), torch.tensor(0), low=-0.1, high=5)


def test_a_preset_brings_the_form_that_it_was_made_for():
    # raw, 30 / (.6 + .001) - 25; angular, 20 / (1 - arccos(.6) / pi + .001) - 15
    assert cosine_cap(double(0.6), preset="dialogue-dpo").item() == pytest.approx(30 / 0.601 - 25)
    angle = 1 - math.acos(0.6) / math.pi
    assert cosine_cap(double(0.6)).item() == pytest.approx(20 / (angle + 0.001) - 15)
    assert cosine_cap(double(0.6), preset="dialogue-dpo", form="angular").item() == pytest.approx(
        30 / (angle + 0.001) - 25
    )
