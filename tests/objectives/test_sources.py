import math

import pytest
import torch

from outweigh.errors import ConfigError
from outweigh.objectives.pairwise import pairwise_loss
from outweigh.objectives.sources import Bound, bind, named


def from_columns(key, spec, **columns):
    tensors = {name: torch.tensor(values) for name, values in columns.items()}
    source = bind(key, spec, set(tensors))
    assert isinstance(source, Bound)
    return source(tensors)


def test_strength_is_the_raw_signed_margin_unless_scaled_or_clipped():
    strength = [2.0, -3.0]
    torch.testing.assert_close(
        from_columns("margin", "strength", strength=strength), torch.tensor([2.0, -3.0])
    )
    spec = {"source": "strength", "scale": 0.5, "clip": 1.2}  # 1.0 stays, -1.5 is clipped
    torch.testing.assert_close(from_columns("margin", spec, strength=strength), torch.tensor([1.0, -1.2]))


def test_the_rating_margin_is_the_difference_of_the_grades():
    margin = from_columns("margin", "rating", rating_chosen=[8.0, 3.0], rating_rejected=[5.0, 3.0])
    torch.testing.assert_close(margin, torch.tensor([3.0, 0.0]))


def test_votes_become_a_flip_rate_that_never_reaches_a_half():
    rate = from_columns(
        "flip_rate",
        "votes",
        votes_chosen=[5.0, 3.0, 1.0],
        votes_rejected=[0.0, 1.0, 4.0],
        votes_equal=[0.0, 1.0, 0.0],
    )
    # (0 + .5) / 6, (1 + .5 + .5) / 6, and a majority against the label held at the largest rate
    torch.testing.assert_close(rate, torch.tensor([0.5 / 6, 2.0 / 6, 0.499]))


def test_auto_is_the_column_where_there_is_one_and_nothing_where_there_is_none():
    torch.testing.assert_close(from_columns("weight", "auto", weight=[2.0]), torch.tensor([2.0]))
    assert bind("weight", "auto", {"margin"}) is None


def test_a_column_may_have_any_name():
    spec = {"source": "column", "column": "grade", "scale": 2.0}
    torch.testing.assert_close(from_columns("margin", spec, grade=[1.0, 2.0]), torch.tensor([2.0, 4.0]))


def test_a_row_of_k_responses_weighs_as_one_pair():
    torch.testing.assert_close(
        from_columns("weight", "row", row_pairs=[6.0, 1.0]), torch.tensor([1 / 6, 1.0])
    )


def test_numbers_are_taken_as_they_are_within_their_domain():
    assert bind("margin", -0.5, set()) == -0.5
    with pytest.raises(ConfigError, match=r"flip_rate: got 0.5, want a number from 0.0 to 0.499"):
        bind("flip_rate", 0.5, set())
    with pytest.raises(ConfigError, match="weight: got -1"):
        bind("weight", -1, set())


def test_what_can_not_be_bound_names_the_choices():
    with pytest.raises(ConfigError, match="margin: got 'strenght', want a number or one of none, auto"):
        bind("margin", "strenght", {"strength"})
    with pytest.raises(ConfigError, match="no column strength, only margin"):
        bind("margin", "strength", {"margin"})
    with pytest.raises(ConfigError, match="unknown option clipp, want scale, clip"):
        bind("margin", {"source": "strength", "clipp": 1}, {"strength"})


@pytest.mark.parametrize(
    ("key", "spec", "said"),
    [
        ("margin", {"source": "batch", "threshold": "median"}, "threshold: got 'median', want mean, none"),
        (
            "margin",
            {"source": "batch", "scale": "much"},
            "margin from 'batch': scale: got 'much', want a number",
        ),
        ("margin", {"source": "strength", "clip": -1}, "clip: got -1, want 0 or more"),
        ("flip_rate", {"source": "robust", "rate": 0.7}, "rate: got 0.7"),
        ("cap", {"source": "cosine", "form": "round"}, "form: got 'round', want angular or raw"),
        ("cap", {"source": "length", "preset": "poetry"}, "preset: got 'poetry', want one of dialogue"),
        ("cap", {"source": "random", "seed": -1}, "cap from 'random': "),
        ("cap", {"source": "random", "low": -0.001}, "want 0 < low <= high"),
        (
            "cap",
            {"source": "length", "beta": "auto", "beta1": 99, "preset": "dialogue"},
            "beta auto finds what beta1, preset says",
        ),
    ],
)
def test_options_out_of_their_range_are_refused_before_any_data_is_read(key, spec, said):
    with pytest.raises(ConfigError, match=said):
        named(key, spec)


def test_what_the_trainer_gives_and_what_the_texts_give_need_no_column():
    assert bind("margin", "batch", set()).needs == ("gap", "step_gap")
    assert bind("cap", {"source": "length", "preset": "dialogue-dpo"}, set()).needs == ("length_ratio",)


def test_auto_betas_are_fitted_to_the_audited_noise():
    spec = {"source": "length", "beta": "auto"}
    with pytest.raises(ConfigError, match="the data has no column wrong_probability"):
        bind("cap", spec, {"margin"})
    ratio = torch.linspace(0.2, 1.0, 100)
    columns = {"length_ratio": ratio, "wrong_probability": torch.full((100,), 0.1)}
    bound = bind("cap", spec, {"wrong_probability"}).fitted(columns)
    # one noise at every ratio: the cap is 2 logit(.9) = 2 log 9 everywhere
    torch.testing.assert_close(bound(columns), torch.full((100,), 2 * math.log(9)))
    with pytest.raises(ConfigError, match="beta: got 3, want auto"):
        bind("cap", {"source": "length", "beta": 3}, set())


def test_a_cap_that_is_not_above_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"cap: got 0\.0, want a number from 0\.001"):
        bind("cap", 0.0, set())


def test_ratings_give_margins_flip_rates_and_weights():
    ratings = {"rating_chosen": [4.0, 3.0, 2.0], "rating_rejected": [1.0, 3.0, 4.0]}
    margin = from_columns("margin", {"source": "rating-log", "scale": 2.0}, **ratings)
    floor = 2 * math.log(0.1)  # a tie and a contradiction count as a difference of 0.1
    torch.testing.assert_close(margin, torch.tensor([2 * math.log(3), floor, floor]))
    rate = from_columns("flip_rate", "rating", **ratings)
    torch.testing.assert_close(rate, torch.tensor([1 / (1 + math.exp(3)), 0.499, 0.499]))
    torch.testing.assert_close(from_columns("weight", "rating", **ratings), torch.tensor([3.0, 0.0, 2.0]))


@pytest.mark.parametrize("gap", [-4.0, -0.2, 0.5, 3.0])
def test_robust_is_the_unbiased_loss_written_out_and_its_derivative(gap):
    rate = 0.2
    at = torch.tensor([gap], dtype=torch.float64, requires_grad=True)
    loss = pairwise_loss(
        at, flip_rate=from_columns("flip_rate", {"source": "robust", "rate": rate}, item=[0])
    )
    loss.sum().backward()
    right, wrong = math.log(1 + math.exp(-gap)), math.log(1 + math.exp(gap))
    assert loss.item() == pytest.approx(((1 - rate) * right - rate * wrong) / (1 - 2 * rate), rel=1e-6)
    down, up = -1 / (1 + math.exp(gap)), 1 / (1 + math.exp(-gap))
    assert at.grad.item() == pytest.approx(((1 - rate) * down - rate * up) / (1 - 2 * rate), rel=1e-6)
