"""Columns worked out from the texts, and the checks that stand before training."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet
from outweigh.data.rendering import Renderer
from outweigh.data.tokens import tokenise
from outweigh.errors import ConfigError
from outweigh.models.loading import load_tokenizer
from outweigh.objectives.sources import MARGINS, Source
from outweigh.training import derived
from outweigh.training.config import SimilarityConfig, TrainConfig
from outweigh.training.derived import cosines, differences, length_ratio, length_ratios
from outweigh.training.fit import fit
from outweigh.training.items import asked_columns, items_of
from outweigh.training.trainer import PairTrainer, Seen

SHORT = TokenConfig(max_tokens=96)


def configured(backbone, **settings):
    return TrainConfig(
        **{"backbone": str(backbone), "tokens": SHORT, "precision": "fp32", "validation": 0.0} | settings
    )


def tokens_of(pairs, backbone, tmp_path):
    items = items_of(pairs)
    renderer = Renderer(load_tokenizer(str(backbone)))
    return items, tokenise(items.read(), renderer, SHORT, key=items.key, cache_dir=tmp_path).dataset


def weights(folder):
    return AutoModelForSequenceClassification.from_pretrained(folder).state_dict()


def largest_difference(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


def test_lengths_are_counted_from_the_first_token_that_differs():
    assert length_ratio([1, 2, 3, 4, 9], [1, 2, 5, 9]) == 2 / 3
    assert length_ratio([1, 2, 9], [1, 2, 9]) == 1.0  # both empty from there
    assert length_ratio([1, 2, 9], [1, 2]) == 0.0


def test_the_ratio_of_a_pair_counts_what_closes_the_text(tiny_llama, tmp_path):
    pairs = PairSet.from_rows([{"prompt": "Say.", "chosen": "abcde", "rejected": "abX"}])
    items, dataset = tokens_of(pairs, tiny_llama, tmp_path)
    # a token a byte, and </s>: c d e </s> against X </s>
    np.testing.assert_allclose(length_ratios(items, dataset, configured(tiny_llama)), [2 / 4])


@pytest.mark.parametrize("text", ["whole", "response"])
def test_a_cosine_is_of_the_encoders_mean_vectors(tiny_bert, tmp_path, wordy_pairs, text):
    pairs = PairSet.from_rows(wordy_pairs[:3])
    items, dataset = tokens_of(pairs, tiny_bert, tmp_path)
    similarity = SimilarityConfig(encoder=str(tiny_bert), text=text)
    found = cosines(items, dataset, configured(tiny_bert, similarity=similarity))
    tokenizer, model = load_tokenizer(str(tiny_bert)), AutoModel.from_pretrained(tiny_bert).eval()
    renderer, pair = Renderer(tokenizer), pairs[2]
    vectors = []
    for response in (pair.chosen, pair.rejected):
        rendered = renderer(pair.prompt if text == "whole" else (), response).text
        ids = tokenizer(rendered, add_special_tokens=False, return_tensors="pt")["input_ids"]
        vectors.append(model(input_ids=ids).last_hidden_state[0].mean(0).detach())
    by_hand = torch.nn.functional.cosine_similarity(*vectors, dim=0).item()
    assert found[2] == pytest.approx(by_hand, abs=5e-3)  # bf16 where the machine has it


def test_a_difference_is_of_the_two_texts_vectors(tiny_bert, wordy_pairs, tmp_path):
    similarity = SimilarityConfig(encoder=str(tiny_bert))
    turned = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in wordy_pairs[:3]]
    found, other = (
        differences(
            *tokens_of(PairSet.from_rows(rows), tiny_bert, tmp_path),
            configured(tiny_bert, similarity=similarity),
        )
        for rows in (wordy_pairs[:3], turned)
    )
    assert found.shape[0] == 3
    assert np.abs(found).max() > 1e-4
    np.testing.assert_allclose(found, -other, atol=5e-3)


def test_a_run_with_a_cap_says_what_its_caps_are(tiny_llama, wordy_pairs, tmp_path):
    trained = fit(PairSet.from_rows(wordy_pairs), configured(tiny_llama, cap="length"), tmp_path / "length")
    caps = trained.results["caps"]
    assert 0 < caps["length_ratio"]["0"] <= caps["length_ratio"]["1"] <= 1
    # the longest ratio has the lowest cap: 10 / (s + .001) - 5
    assert caps["cap"]["0"] == pytest.approx(10 / (caps["length_ratio"]["1"] + 0.001) - 5, rel=1e-5)
    assert json.dumps(caps)


def test_a_cap_from_the_cosine_says_what_it_is_of(tiny_llama, tiny_bert, wordy_pairs, tmp_path):
    config = configured(tiny_llama, similarity=SimilarityConfig(encoder=str(tiny_bert)), cap="cosine")
    caps = fit(PairSet.from_rows(wordy_pairs), config, tmp_path / "cosine").results["caps"]
    middle = caps["similarity"]["0.5"]
    assert middle == pytest.approx(1 - np.arccos(caps["cosine"]["0.5"]) / np.pi, rel=1e-4)
    assert caps["cap"]["0.5"] == pytest.approx(20 / (middle + 0.001) - 15, rel=1e-3)


def test_a_cap_can_be_learnt_and_named_again(tiny_llama, tiny_bert, wordy_pairs, tmp_path, monkeypatch):
    rows = [row | {"strength": float(place % 5)} for place, row in enumerate(wordy_pairs * 4)]
    pairs = PairSet.from_rows(rows, keep=["strength"])
    config = configured(tiny_llama, similarity=SimilarityConfig(encoder=str(tiny_bert)), cap="learned")
    caps = fit(pairs, config, tmp_path / "learned").results["caps"]
    assert 50 <= caps["saved"]["pairs"] <= 70  # about the last quarter of 240, prompts whole
    assert caps["saved"]["value"] == pytest.approx(caps["log_loss_fixed"] - caps["log_loss"])
    assert json.dumps(caps)
    again = replace(config, cap={"source": "learned", **caps["options"]})
    named = fit(pairs, again, tmp_path / "again").results["caps"]
    assert named["cap"] == caps["cap"]
    assert "saved" not in named
    with (
        monkeypatch.context() as patched,
        pytest.raises(ConfigError, match="cap from 'learned': got 190 pairs, want 200 or more"),
    ):
        patched.setattr(derived, "text_vectors", lambda *_, **__: pytest.fail("an encoder was asked"))
        few = replace(config, validation=0.0)
        fit(PairSet.from_rows(rows[:190], keep=["strength"]), few, tmp_path / "few")
    with pytest.raises(ConfigError, match="cap from 'learned': the data has no column strength"):
        fit(PairSet.from_rows(wordy_pairs), config, tmp_path / "without")


def test_a_cap_at_or_under_nothing_is_refused_before_the_model_is_loaded(tiny_llama, wordy_pairs, tmp_path):
    spec = {"source": "length", "beta1": 1.0, "beta3": -3.0}
    with pytest.raises(
        ConfigError, match=r"cap from 'length': got -[\d.]+ at pair \d+ \(0-based\), length_ratio"
    ):
        fit(PairSet.from_rows(wordy_pairs), configured(tiny_llama, cap=spec), tmp_path)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(("key", "least"), [("flip_rate", 0), ("weight", 0), ("cap", 0.001)])
def test_a_column_that_can_not_be_what_it_is_taken_for_is_refused(
    tiny_llama, wordy_pairs, tmp_path, key, least
):
    rows = [row | {"x": 0.1 if place != 7 else -3.0} for place, row in enumerate(wordy_pairs)]
    config = configured(tiny_llama, **{key: {"source": "column", "column": "x"}})
    with pytest.raises(ConfigError, match=rf"{key} from column 'x': got -3 at pair 7 .*want {least} to"):
        fit(PairSet.from_rows(rows, keep=("x",)), config, tmp_path)


def test_a_source_of_columns_that_makes_no_number_is_refused(tiny_llama, wordy_pairs, tmp_path):
    names = ("votes_chosen", "votes_rejected", "votes_equal")
    rows = [row | dict.fromkeys(names, 0 if place == 5 else 1) for place, row in enumerate(wordy_pairs)]
    config = configured(tiny_llama, flip_rate={"source": "votes", "prior": 0})
    with pytest.raises(ConfigError, match=r"flip_rate from 'votes': got nan at pair 5 .*, want 0 to"):
        fit(PairSet.from_rows(rows), config, tmp_path)
    for spec, said in (
        ({"flip_rate": {"source": "votes", "prior": -1}}, "prior: got -1, want 0 or more"),
        ({"margin": {"source": "batch-exponential", "limit": -1}}, "limit: got -1, want more than 0"),
    ):
        with pytest.raises(ConfigError, match=said):
            fit(PairSet.from_rows(rows), configured(tiny_llama, **spec), tmp_path)


@pytest.mark.parametrize("spec", [0, "auto"])
def test_weights_that_are_all_nothing_are_refused(tiny_llama, wordy_pairs, tmp_path, spec):
    rows = [row | {"weight": 0} for row in wordy_pairs]
    with pytest.raises(ConfigError, match="weight: is 0 for every pair, so nothing would be learnt"):
        fit(PairSet.from_rows(rows), configured(tiny_llama, weight=spec), tmp_path)
    centred = configured(tiny_llama, weight=spec, auxiliary={"centring": 1.0})  # which has no weights
    assert fit(PairSet.from_rows(rows), centred, tmp_path).results["steps"]


def test_a_validation_part_is_scored_in_parts_and_gives_the_same(
    tiny_llama, wordy_pairs, tmp_path, monkeypatch
):
    config = configured(tiny_llama, validation=0.4)
    logs = []
    for items in (2048, 7):
        monkeypatch.setattr("outweigh.training.evaluating.EVALUATED", items)
        told = fit(PairSet.from_rows(wordy_pairs), config, tmp_path / str(items)).results["log"]
        logs.append([each for each in told if "eval_log_loss" in each][-1])
    assert logs[0]["eval_pairs"] == logs[1]["eval_pairs"] == 24
    for name in ("eval_log_loss", "eval_accuracy", "eval_gap_std"):
        assert logs[0][name] == pytest.approx(logs[1][name], rel=1e-4)


def test_caps_that_are_nearly_all_open_are_warned_of(tiny_llama, wordy_pairs, tmp_path, caplog):
    spec = {"source": "length", "beta1": 100.0}
    fit(PairSet.from_rows(wordy_pairs), configured(tiny_llama, cap=spec), tmp_path)
    assert "100 % of the caps are above 20 nats, which is plain Bradley-Terry" in caplog.text


def test_a_random_cap_trains_and_is_no_constant(tiny_llama, wordy_pairs, tmp_path):
    pairs = PairSet.from_rows(wordy_pairs)
    for name, cap in (("random", {"source": "random", "low": 0.5, "high": 5.0}), ("fixed", 2.75)):
        fit(pairs, configured(tiny_llama, cap=cap, learning_rate=1e-3), tmp_path / name)
    assert largest_difference(weights(tmp_path / "random/model"), weights(tmp_path / "fixed/model")) > 1e-6


@pytest.mark.parametrize("of_step", [{"margin": "batch"}, {"auxiliary": {"batch-sum": 0.5}}])
def test_what_is_of_the_step_is_the_same_however_the_step_is_cut(tiny_llama, wordy_pairs, tmp_path, of_step):
    pairs = PairSet.from_rows(wordy_pairs)
    plain = configured(tiny_llama, batch_pairs=12, learning_rate=1e-3)
    runs = {
        "plain": plain,
        "whole": replace(plain, **of_step),
        "cut": replace(plain, device_pairs=3, **of_step),
    }
    for name, config in runs.items():
        trained = fit(pairs, config, tmp_path / name)
        assert (trained.results["seconds"]["first pass"] > 0) == (name == "cut")
    plain, whole, cut = (weights(tmp_path / name / "model") for name in runs)
    assert largest_difference(whole, cut) < 1e-6 < largest_difference(whole, plain)


def test_a_step_seen_in_two_views_has_the_batch_sum_of_one(tiny_bert, wordy_pairs, tmp_path):
    found = {}
    real = PairTrainer.loss

    def spy(self, seen, batch):
        twice = Seen(seen.rewards.repeat(2, 1))  # the same view again
        found.setdefault("losses", (real(self, seen, batch).mean(), real(self, twice, batch).mean()))
        return real(self, seen, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PairTrainer, "loss", spy)
        config = configured(tiny_bert, auxiliary={"batch-sum": 50.0}, batch_pairs=12)
        fit(PairSet.from_rows(wordy_pairs), config, tmp_path)
    once, twice = found["losses"]
    torch.testing.assert_close(once, twice)


def test_a_column_may_be_called_what_a_derived_one_is(tiny_llama, wordy_pairs, tmp_path):
    rows = [row | {"cosine": 0.25} for row in wordy_pairs]
    config = configured(tiny_llama, margin={"source": "column", "column": "cosine"})
    assert asked_columns(config) == ["cosine"]
    pairs = PairSet.from_rows(rows, keep=asked_columns(config))
    log = fit(pairs, config, tmp_path).results["log"]
    assert log[0]["margin"] == pytest.approx(0.25)


def test_the_first_pass_sees_the_gaps_that_training_sees_dropout_and_all(
    tiny_bert, wordy_pairs, tmp_path, monkeypatch
):
    seen = []

    def spy(gap, step_gap):
        seen.append((gap, step_gap))
        return torch.zeros_like(gap)

    monkeypatch.setitem(MARGINS, "spy", Source(spy, needs=("gap", "step_gap")))
    config = configured(tiny_bert, margin="spy", batch_pairs=12, device_pairs=3, dropout=0.3)
    fit(PairSet.from_rows(wordy_pairs), config, tmp_path)
    del seen[:-20]  # sources are tried on made-up pairs, before the 60 come by in threes
    for place, (gap, step_gap) in enumerate(seen):
        start = 3 * (place % 4)
        torch.testing.assert_close(gap, step_gap[start : start + 3])
    assert seen[0][1].std() > 0


def test_the_first_pass_leaves_the_dropout_of_training_as_it_was(tiny_bert, wordy_pairs, tmp_path):
    # threshold none and scale 0 ask for nothing: with the pass, and without it, the same model
    pairs = PairSet.from_rows(wordy_pairs)
    nothing = {"source": "batch", "threshold": "none", "scale": 0.0}
    config = configured(tiny_bert, batch_pairs=12, device_pairs=3, dropout=0.3, learning_rate=1e-3)
    fit(pairs, replace(config, margin=nothing), tmp_path / "with")
    fit(pairs, replace(config, margin=0.0), tmp_path / "without")
    assert largest_difference(weights(tmp_path / "with/model"), weights(tmp_path / "without/model")) == 0


def test_a_step_that_would_have_one_pair_is_refused(tiny_llama, wordy_pairs, tmp_path):
    pairs = PairSet.from_rows(wordy_pairs)
    for pairs_a_step in (1, 59):  # 60 pairs
        with pytest.raises(ConfigError, match=r"leave one with a single pair, want two or more in each"):
            fit(pairs, configured(tiny_llama, margin="batch", batch_pairs=pairs_a_step), tmp_path)
