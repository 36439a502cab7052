"""The contrastive term in the trainer: the algorithm written out, cut into batches, saved, refused.

Where two runs must draw the same masks however their batches are cut, dropout is put in place by a smooth
function of its input and the view.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet
from outweigh.errors import ConfigError, TrainingError
from outweigh.models.reward import RewardModel
from outweigh.training import trainer
from outweigh.training.config import ContrastConfig, TrainConfig
from outweigh.training.fit import fit

SHORT = TokenConfig(max_tokens=96)
RATE = 0.05
HARDLY = 1e-12  # above 0, and drops nothing


def configured(backbone, **settings):
    plain_step = {"trainer": {"optim": "sgd"}, "schedule": "constant", "warmup_fraction": 0}
    return TrainConfig(
        **{"backbone": str(backbone), "tokens": SHORT, "precision": "fp32", "validation": 0.0}
        | {"learning_rate": RATE, "weight_decay": 0.0, "max_grad_norm": 0, "dropout": HARDLY}
        | plain_step
        | settings
    )


def weights(folder):
    return AutoModelForSequenceClassification.from_pretrained(folder).state_dict()


def largest_difference(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


def dropped(values, view):
    return values * (1 + 0.3 * torch.sin((5 + view) * values))


@pytest.fixture
def smooth_dropout(monkeypatch):
    """Dropout that is the same for the same text in the same view."""
    now, real = {"view": 1}, trainer.read_texts

    def counted(*arguments, **how):
        now["view"] = 1 - now["view"]
        return real(*arguments, **how)

    monkeypatch.setattr(trainer, "read_texts", counted)
    monkeypatch.setattr(
        torch.nn.Dropout,
        "forward",
        lambda self, values: dropped(values, now["view"]) if self.training else values,
    )
    return now


def normalised(rows):
    return rows / rows.square().sum(1, keepdim=True).sqrt()


def written_out(folder, pairs, temperature, coefficient, now):
    """One step of the mean ranking loss of both views + SimCSE on responses, in float64 by autograd."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).double().train()
    views = []
    for view in (0, 1):
        now["view"] = view
        features = []
        for row in pairs:
            for side in ("chosen", "rejected"):
                text = f"User: {row['prompt']}\n\nAssistant: {row[side]}[SEP]"
                given = tokenizer(text, return_tensors="pt")
                features.append(dropped(model.bert(**given).pooler_output[0], view))
        views.append(torch.stack(features))
    rewards = [model.classifier(view)[:, 0] for view in views]
    ranking = [-torch.sigmoid(each[::2] - each[1::2]).log().mean() for each in rewards]
    similarity = normalised(views[0]) @ normalised(views[1]).T / temperature
    contrast = -(similarity.diagonal().exp() / similarity.exp().sum(1)).log().mean()
    loss = sum(ranking) / 2 + coefficient * contrast
    slopes = torch.autograd.grad(loss, list(model.parameters()))
    moved = {
        name: (each - RATE * slope).detach()
        for (name, each), slope in zip(model.named_parameters(), slopes, strict=True)
    }
    return moved, contrast.item(), loss.item()


@pytest.mark.parametrize("device_pairs", [None, 2])
def test_one_step_is_the_algorithm_written_out(
    lively_bert, wordy_pairs, tmp_path, smooth_dropout, device_pairs
):
    rows = wordy_pairs[:6]
    contrast = ContrastConfig(kind="simcse", temperature=0.3, coefficient=0.7)
    config = configured(lively_bert, batch_pairs=6, contrast=contrast, device_pairs=device_pairs)
    fit(PairSet.from_rows(rows), replace(config, learning_rate=1e-30), tmp_path / "start")
    trained = fit(PairSet.from_rows(rows), config, tmp_path / "trained")
    expected, term, loss = written_out(tmp_path / "start/model", rows, 0.3, 0.7, smooth_dropout)
    found = weights(tmp_path / "trained/model")
    moved = largest_difference(found, weights(tmp_path / "start/model"))
    assert largest_difference({name: each.double() for name, each in found.items()}, expected) < 1e-4 * moved
    assert trained.results["log"][0]["loss"] == pytest.approx(loss, rel=1e-5)
    if device_pairs is None:
        assert trained.results["log"][0]["contrast"] == pytest.approx(term, rel=1e-5)


@pytest.mark.parametrize("of", ["responses", "differences"])
@pytest.mark.parametrize("kind", ["simcse", "swav"])
def test_a_step_is_the_same_however_it_is_cut(lively_bert, wordy_pairs, tmp_path, smooth_dropout, kind, of):
    contrast = ContrastConfig(kind=kind, of=of, coefficient=1.0)
    config = configured(lively_bert, contrast=contrast, margin="batch", batch_pairs=12)
    config = replace(config, learning_rate=RATE / 10)  # two steps that stay in reach of each other
    pairs = PairSet.from_rows(wordy_pairs[:24])
    for name, device_pairs in (("whole", None), ("cut", 3)):
        fit(pairs, replace(config, device_pairs=device_pairs), tmp_path / name)
    fit(pairs, replace(config, contrast=replace(contrast, coefficient=1e-9)), tmp_path / "alone")
    whole, cut, without = (weights(tmp_path / name / "model") for name in ("whole", "cut", "alone"))
    assert largest_difference(whole, cut) < 1e-3 * largest_difference(whole, without)


@pytest.mark.parametrize("backbone", ["tiny_llama", "tiny_bert"])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("kind", ["simcse", "swav"])
def test_it_trains_and_its_clusters_are_not_saved(
    backbone, method, kind, wordy_pairs, tmp_path, request, caplog
):
    config = configured(
        request.getfixturevalue(backbone),
        method=method,
        contrast=ContrastConfig(kind=kind, coefficient=0.01),
        dropout=0.2,
        gradient_checkpointing=True,
        trainer={},
        learning_rate=3e-3,
        epochs=6,
    )
    trained = fit(PairSet.from_rows(wordy_pairs), config, tmp_path)
    model = RewardModel.load(tmp_path / "model")
    assert not [name for name, _ in model.model.named_parameters() if "prototypes" in name]
    chosen, rejected = model.score_pairs(PairSet.from_rows(wordy_pairs))
    assert np.mean(chosen > rejected) > 0.9
    assert {"contrast", "contrast_share"} <= set(trained.results["log"][0])


def test_a_resumed_run_has_the_clusters_of_an_uninterrupted_one(lively_bert, wordy_pairs, tmp_path):
    pairs = PairSet.from_rows(wordy_pairs)
    contrast = ContrastConfig(kind="swav", coefficient=1.0)
    config = configured(lively_bert, contrast=contrast, dropout=0.2, trainer={}, batch_pairs=12, epochs=2)
    config = replace(config, save_every_steps=4)
    fit(pairs, config, tmp_path / "straight")
    fit(pairs, config, tmp_path / "again")
    (tmp_path / "again/model").rename(tmp_path / "again/before")
    for checkpoint in (tmp_path / "again/checkpoints").glob("checkpoint-*"):
        if checkpoint.name != "checkpoint-8":
            checkpoint.rename(tmp_path / checkpoint.name)
    fit(pairs, config, tmp_path / "again", resume=True)
    straight, again = (weights(tmp_path / name / "model") for name in ("straight", "again"))
    assert largest_difference(straight, again) == 0


def test_views_that_are_the_same_are_refused_in_the_first_step(
    lively_bert, wordy_pairs, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, values: values)
    config = configured(lively_bert, contrast=ContrastConfig(kind="simcse"))
    with pytest.raises(TrainingError, match="both views of every text are the same"):
        fit(PairSet.from_rows(wordy_pairs), config, tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dropout": 0.0}, "contrast simcse: got dropout 0"),
        ({"method": "frozen"}, "contrast simcse: got method frozen"),
        ({"objective": "listwise"}, "objective listwise"),
        ({"contrast": ContrastConfig(kind="swav"), "trainer": {"fsdp": "full_shard"}}, "got fsdp"),
    ],
)
def test_what_leaves_the_term_nothing_to_do_is_refused_before_a_model_is_loaded(
    tmp_path, wordy_pairs, settings, said
):
    config = configured("/no/such/backbone", **{"contrast": ContrastConfig(kind="simcse")} | settings)
    with pytest.raises(ConfigError, match=said):
        fit(PairSet.from_rows(wordy_pairs), config, tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "moco"}, "contrast kind: got 'moco', want one of none, simcse, swav"),
        ({"of": "pairs"}, "contrast of: got 'pairs', want one of responses, differences"),
        ({"kind": "none", "coefficient": 1.0}, "contrast coefficient: has no meaning with kind none"),
        ({"epsilon": 0.1}, "contrast epsilon: has no meaning with kind simcse"),
        ({"temperature": 0.0}, "contrast temperature: got 0.0, want more than 0"),
        ({"kind": "swav", "prototypes": 0}, "contrast prototypes: got 0, want a whole number, 1 or more"),
    ],
)
def test_unknown_settings_are_refused_with_the_known_ones(settings, said):
    with pytest.raises(ConfigError, match=said):
        ContrastConfig(**{"kind": "simcse"} | settings)
