"""Several reward models as one, on models that were trained here."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import outweigh
from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet
from outweigh.errors import ConfigError
from outweigh.models.ensemble import COMBINE, Ensemble, averaged, load_scorer, members_of
from outweigh.models.reward import RewardModel, Scorer
from outweigh.training.config import TrainConfig
from outweigh.training.fit import fit

TEXTS = ["Please pass the tea.", "Give me tea now.", "Tea!"]
PROMPTS = ["Ask for tea."] * 3


@pytest.fixture(scope="module")
def members(tiny_llama, wordy_pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    config = TrainConfig(
        backbone=str(tiny_llama), tokens=TokenConfig(max_tokens=96), precision="fp32", validation=0.0
    )
    for seed in (0, 1):
        fit(
            PairSet.from_rows(wordy_pairs), replace(config, seed=seed, learning_rate=1e-3), folder / f"{seed}"
        )
    return [folder / "0/model", folder / "1/model"]


def loaded(members):
    return [RewardModel.load(member, precision="fp32") for member in members]


def test_the_combinations_written_out():
    reward_MN = np.array([[1.0, 2.0], [3.0, 2.0]])
    assert COMBINE["mean"](reward_MN, 0.5).tolist() == [2.0, 2.0]
    assert COMBINE["wco"](reward_MN, 0.5).tolist() == [1.0, 2.0]
    assert COMBINE["uwo"](reward_MN, 0.5).tolist() == [2.0 - 0.5 * 1.0, 2.0]


def test_a_models_level_is_the_mean_reward_of_its_first_pairs(members, wordy_pairs):
    model = RewardModel.load(members[0], precision="fp32")
    chosen, rejected = model.score_pairs(PairSet.from_rows(wordy_pairs))
    assert model.origin.level == pytest.approx(np.concatenate([chosen, rejected]).mean(), abs=1e-5)


def test_members_are_brought_to_one_level_before_the_worst_is_taken(members):
    one, other = loaded(members)
    before = Ensemble([one, other], "wco").score(PROMPTS, TEXTS)
    other.origin = other.origin._replace(level=other.origin.level + 7.0)
    lower = Ensemble([one, other], "wco").score(PROMPTS, TEXTS)
    # the other lies seven nats lower now, under the one for every text
    np.testing.assert_allclose(lower, other.score(PROMPTS, TEXTS) - other.origin.level)
    apart = [
        one.score(PROMPTS, TEXTS) - one.origin.level,
        other.score(PROMPTS, TEXTS) - other.origin.level + 7,
    ]
    np.testing.assert_allclose(before, np.min(apart, axis=0))


def test_rows_scored_by_several_models_say_how_far_they_are_apart(members, tmp_path):
    rows = [{"prompt": PROMPTS[0], "chosen": TEXTS[0], "rejected": TEXTS[1]}]
    name = "mean:" + ",".join(map(str, members))
    outweigh.score(name, rows, out=tmp_path / "scored.jsonl")
    row = json.loads((tmp_path / "scored.jsonl").read_text())
    each = [
        model.score(PROMPTS[:2], TEXTS[:2]) - model.origin.level for model in map(RewardModel.load, members)
    ]
    assert row["gap"] == pytest.approx(np.mean([r[0] - r[1] for r in each]), abs=1e-6)
    assert row["spread_chosen"] == pytest.approx(abs(each[0][0] - each[1][0]) / 2, abs=1e-6)
    found = outweigh.evaluate(rows * 3, models={"both": name, "one": members[0]})
    judged = found["sets"]["pairs"]["evaluation"]
    assert set(judged) == {"both", "one"} and judged["one"].ensemble is None
    apart = judged["both"].ensemble
    assert apart.spread["0.5"] == pytest.approx(np.std([r[0] - r[1] for r in each]), abs=1e-6)
    assert apart.disputed.value == (np.sign(each[0][0] - each[0][1]) != np.sign(each[1][0] - each[1][1]))


def test_the_average_of_weights_lies_between_its_members_and_is_one_model(members):
    one, other = loaded(members)
    name = "model.layers.0.mlp.up_proj.weight"
    want = (one.model.get_parameter(name) + other.model.get_parameter(name)) / 2
    middle = averaged([one, other])
    torch.testing.assert_close(middle.model.get_parameter(name), want)
    again = load_scorer("warm:" + ",".join(map(str, members)))
    np.testing.assert_allclose(again.score(PROMPTS, TEXTS), middle.score(PROMPTS, TEXTS), atol=2e-2)


def test_what_can_not_be_taken_together_is_refused(members, caplog):
    one, other = loaded(members)
    with pytest.raises(ConfigError, match="ensemble uwo: got 1 models, want two or more"):
        Ensemble([one], "uwo")
    other.origin = other.origin._replace(base="another")
    with pytest.raises(ConfigError, match="ensemble warm: got 2 models from 2 checkpoints"):
        averaged([one, other])
    other.origin = None
    with pytest.raises(ConfigError, match="does not say at what level its rewards lie"):
        Ensemble([one, other], "wco")
    assert "at what level" not in caplog.text
    assert Ensemble([one, other], "mean").score(PROMPTS, TEXTS).shape == (3,)
    assert "The spread between the models then holds how far their levels are apart" in caplog.text
    for name in ("uwo(much):A,B", "uwo(-1):A,B", "mean(0.1):A,B"):
        with pytest.raises(ConfigError, match="want the penalty of uwo"):
            members_of(name)


def test_a_name_says_the_penalty_of_disagreement(members):
    names = ",".join(map(str, members))
    assert members_of("uwo:A,B") == ("uwo", 0.5, ["A", "B"])
    assert members_of("a/b:c") == (None, 0.5, ["a/b:c"]) and members_of("http://h/x")[0] is None
    mean, half, tenth = (
        load_scorer(f"{how}:{names}").score(PROMPTS, TEXTS) for how in ("mean", "uwo", "uwo(0.1)")
    )
    np.testing.assert_allclose(mean - tenth, (mean - half) / 5, atol=1e-6)
    assert (mean - half).max() > 1e-6


def test_texts_of_pairs_are_scored_in_the_pairs_order_each_once():
    asked = []

    class Seen(Scorer):
        def score_texts(self, texts):
            asked.extend(response[0].content for _, response in texts)
            return np.array([float(len(response[0].content)) for _, response in texts])

    rows = [{"prompt": "p", "chosen": "x" * n, "rejected": "y"} for n in range(2, 9)]
    chosen, rejected = Seen().score_pairs(PairSet.from_rows(rows))
    assert asked == ["xx", "y", *("x" * n for n in range(3, 9))]
    assert chosen.tolist() == list(range(2, 9)) and rejected.tolist() == [1.0] * 7
