"""MetaRM's step in the trainer against the algorithm written out."""

import json
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet
from outweigh.data.records import Message, Ranking
from outweigh.errors import ConfigError
from outweigh.training.config import MetaConfig, TrainConfig
from outweigh.training.fit import fit
from outweigh.training.meta import MetaStep

SHORT = TokenConfig(max_tokens=96)
RATE, ETA = 0.05, 0.5


@pytest.fixture
def shifted(tmp_path):
    path = tmp_path / "shifted.jsonl"
    words = ["please", "now", "soon", "never", "thanks", "again"]
    rows = [
        {
            "prompt": f"Ask for cake number {number}.",
            "responses": [f"Cake {word}, {number}." for word in words],
        }
        for number in range(7)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def configured(backbone, **settings):
    plain_step = {
        "trainer": {"optim": "sgd"},
        "schedule": "constant",
        "warmup_fraction": 0,
        "max_grad_norm": 0,
    }
    return TrainConfig(
        **{"backbone": str(backbone), "tokens": SHORT, "precision": "fp32", "validation": 0.0}
        | {"learning_rate": RATE, "weight_decay": 0.0}
        | plain_step
        | settings
    )


def weights(folder):
    return AutoModelForSequenceClassification.from_pretrained(folder).state_dict()


def largest_difference(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


def written_out(folder, pairs, rows, responses):
    """theta - rate * grad L(theta + eta * grad J(theta)) in float64, by autograd."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).double()
    parameters = list(model.parameters())

    def reward(prompt, response):
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        return model(**tokenizer(text, add_special_tokens=False, return_tensors="pt")).logits[0, 0]

    def difference(row):
        rewards = [reward(row["prompt"], each) for each in row["responses"][:responses]]
        apart = [torch.sigmoid((a - b).abs()) for i, a in enumerate(rewards) for b in rewards[:i]]
        return 2 / responses**2 * torch.stack(apart).sum()

    start = [each.detach().clone() for each in parameters]
    ascent = torch.autograd.grad(torch.stack([difference(row) for row in rows]).mean(), parameters)
    with torch.no_grad():
        for each, slope in zip(parameters, ascent, strict=True):
            each.add_(ETA * slope)
    gaps = [reward(row["prompt"], row["chosen"]) - reward(row["prompt"], row["rejected"]) for row in pairs]
    loss = torch.nn.functional.softplus(-torch.stack(gaps)).mean()
    slopes = torch.autograd.grad(loss, parameters)
    return {
        name: one - RATE * slope
        for (name, _), one, slope in zip(model.named_parameters(), start, slopes, strict=True)
    }


@pytest.mark.parametrize(("device_pairs", "most_used"), [(None, 0.0), (2, 1.0)])
def test_one_step_is_the_algorithm_written_out(
    tiny_llama, wordy_pairs, shifted, tmp_path, monkeypatch, device_pairs, most_used
):
    monkeypatch.setattr("outweigh.models.vocabulary.MOST_USED", most_used)  # the whole table, its rows in use
    rows = wordy_pairs[:8]
    meta = MetaConfig(data=str(shifted), responses=4, prompts=7, eta=ETA)
    config = configured(tiny_llama, batch_pairs=8, meta=meta, device_pairs=device_pairs)
    fit(PairSet.from_rows(rows), replace(config, learning_rate=1e-30), tmp_path / "start")
    trained = fit(PairSet.from_rows(rows), config, tmp_path / "meta")
    prompts = [json.loads(line) for line in shifted.read_text().splitlines()]
    expected = written_out(tmp_path / "start/model", rows, prompts, responses=4)
    found = weights(tmp_path / "meta/model")
    moved = largest_difference(found, weights(tmp_path / "start/model"))
    assert largest_difference({name: each.double() for name, each in found.items()}, expected) < 1e-4 * moved
    logged = trained.results["log"][0]
    assert (
        logged["meta_change"] > 1e-2 and 0.375 <= logged["difference"] < 0.75
    )  # (k - 1) / 2k and twice that


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_step_of_no_length_is_plain_training(tiny_bert, wordy_pairs, shifted, tmp_path, method):
    pairs = PairSet.from_rows(wordy_pairs)
    plain = configured(tiny_bert, method=method, dropout=0.2, gradient_checkpointing=True, batch_pairs=12)
    meta = replace(plain, meta=MetaConfig(data=str(shifted), eta=0.0), device_pairs=12)
    fit(pairs, plain, tmp_path / "plain")
    trained = fit(pairs, meta, tmp_path / "meta")
    assert largest_difference(weights(tmp_path / "plain/model"), weights(tmp_path / "meta/model")) == 0
    assert trained.results["alarms"]["meta-idle"]["remedy"].startswith("Raise meta.rho")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_checkpointing_and_accumulation_change_nothing_of_a_real_step(
    tiny_bert, wordy_pairs, shifted, tmp_path, method
):
    pairs = PairSet.from_rows(wordy_pairs[:24])
    meta = MetaConfig(data=str(shifted), rho=0.3)
    moved = configured(tiny_bert, method=method, batch_pairs=12, learning_rate=1.0, meta=meta)
    ways = {
        "moved": moved,
        "checkpointed": replace(moved, gradient_checkpointing=True),
        "accumulated": replace(moved, device_pairs=4),
        "plain": replace(moved, meta=MetaConfig()),
    }
    found = {}
    for name, config in ways.items():
        fit(pairs, config, tmp_path / name)
        found[name] = weights(tmp_path / name / "model")
    effect = largest_difference(found["moved"], found["plain"])
    for name in ("checkpointed", "accumulated"):
        assert largest_difference(found["moved"], found[name]) < 1e-3 * effect


def test_the_length_of_the_step_is_rho(tiny_llama, wordy_pairs, shifted, tmp_path):
    pairs = PairSet.from_rows(wordy_pairs)
    changes = []
    for rho in (1e-4, 1e-3):
        config = configured(tiny_llama, meta=MetaConfig(data=str(shifted), rho=rho))
        changes.append(fit(pairs, config, tmp_path / str(rho)).results["log"][0]["meta_change"])
    # to first order the change is rho |H direction| / |gradient|
    assert changes[1] == pytest.approx(10 * changes[0], rel=0.3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_that_does_nothing_is_told_whatever_the_precision(
    tiny_llama, wordy_pairs, shifted, tmp_path, precision
):
    config = configured(tiny_llama, meta=MetaConfig(data=str(shifted), eta=1e-7))
    found = fit(PairSet.from_rows(wordy_pairs), replace(config, precision=precision), tmp_path).results
    assert 0 < found["log"][0]["meta_change"] < 1e-3 and "meta-idle" in found["alarms"]


def test_a_listwise_training_tells_what_the_step_does(tiny_llama, shifted, tmp_path):
    said = [(Message("assistant", each),) for each in ("Please.", "Give me tea.", "Now.")]
    rankings = [
        Ranking((Message("user", f"Ask {row}."),), tuple(said), (0.0, 1.0, 2.0), row, f"rows:{row + 1}")
        for row in range(8)
    ]
    config = configured(tiny_llama, objective="listwise", meta=MetaConfig(data=str(shifted), eta=0.0))
    trained = fit(rankings, config, tmp_path)
    assert trained.results["log"][0]["meta_change"] == 0 and "meta-idle" in trained.results["alarms"]


def test_what_the_step_can_not_do_is_refused_before_training(
    tiny_llama, wordy_pairs, shifted, tmp_path, monkeypatch
):
    pairs = PairSet.from_rows(wordy_pairs)
    sharded = configured(tiny_llama, meta=MetaConfig(data=str(shifted)))
    sharded = replace(sharded, trainer={"fsdp": "full_shard"})
    with pytest.raises(ConfigError, match="meta: got fsdp, which holds a part of the weights"):
        fit(pairs, sharded, tmp_path)
    with pytest.raises(ConfigError, match=r"shifted.jsonl:1: got 6 responses, want 9"):
        fit(pairs, configured(tiny_llama, meta=MetaConfig(data=str(shifted), responses=9)), tmp_path)
    with pytest.raises(ConfigError, match="meta responses: got 1, want a whole number, 2 or more"):
        MetaConfig(responses=1)
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(ConfigError, match="got 7 prompts a step for 8 devices"):
        fit(pairs, configured(tiny_llama, meta=MetaConfig(data=str(shifted))), tmp_path)


def test_the_rows_of_a_step_follow_from_its_number_and_every_pass_takes_all():
    # three steps of four of six rows are two passes; a resumed run asks for the same steps again
    rows = datasets.Dataset.from_dict({"response_ids": [[[number]] for number in range(6)]})
    step = MetaStep(rows, MetaConfig(prompts=4), seed=3)
    taken = np.concatenate([step.places(number) for number in range(3)])
    assert sorted(taken[:6]) == sorted(taken[6:]) == list(range(6))
    again = MetaStep(rows, MetaConfig(prompts=4), seed=3)
    assert again.places(2).tolist() == taken[8:].tolist()
    assert MetaStep(rows, MetaConfig(prompts=99), seed=3).places(5).shape == (6,)
