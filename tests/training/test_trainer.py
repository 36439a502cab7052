import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertConfig,
    TrainerCallback,
)

from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet
from outweigh.data.records import Message, Ranking
from outweigh.errors import ConfigError, DataError, TrainingError
from outweigh.models.reward import RewardModel
from outweigh.training.arguments import training_arguments
from outweigh.training.config import MetaConfig, TrainConfig
from outweigh.training.fit import fit
from outweigh.training.method import trainable

SHORT = TokenConfig(max_tokens=96)


def configured(backbone, **settings):
    return TrainConfig(
        **{"backbone": str(backbone), "tokens": SHORT, "precision": "fp32", "validation": 0.2} | settings
    )


def weights(folder):
    return AutoModelForSequenceClassification.from_pretrained(folder).state_dict()


def largest_difference(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


def test_a_tiny_model_learns_what_the_pairs_agree_on(tiny_llama, wordy_pairs, tmp_path):
    pairs = PairSet.from_rows(wordy_pairs)
    trained = fit(pairs, configured(tiny_llama, learning_rate=3e-3, epochs=6), tmp_path)
    evaluations = [each for each in trained.results["log"] if "eval_accuracy" in each]
    assert evaluations[-1]["eval_accuracy"] > 0.9
    reward = trained.model.score(["Ask for tea."] * 2, ["Please pass the tea.", "Give me tea now."])
    assert reward[0] > reward[1]


@pytest.mark.parametrize("evaluations", [1, 3, 4, 7])
def test_the_last_evaluation_is_at_the_last_step_and_there_are_no_more_than_asked_for(evaluations, tmp_path):
    config = TrainConfig(epochs=2, evaluations=evaluations)
    told = training_arguments(config, tmp_path, 95 * config.batch_pairs, True)
    at = {*range(told.eval_steps, 190, int(told.eval_steps)), 190}
    assert len(at) == evaluations


def test_the_saved_model_is_plain_transformers_and_gives_the_same_rewards(tiny_llama, wordy_pairs, tmp_path):
    pairs = PairSet.from_rows(wordy_pairs)
    trained = fit(pairs, configured(tiny_llama), tmp_path)
    assert trained.results["reload_deviation"] < 1e-5
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho."}]
    ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)[
        "input_ids"
    ]
    padded = torch.tensor([ids + [tokenizer.pad_token_id] * 5])
    theirs = model(padded, attention_mask=(padded != tokenizer.pad_token_id).long()).logits.item()
    assert trained.model.score(["Hi"], ["Ho."])[0] == pytest.approx(theirs, abs=1e-5)
    assert {path.name for path in (tmp_path / "model").iterdir()} >= {"model.safetensors", "README.md"}


class Table(TrainerCallback):
    """Notes what the model's table of embeddings is when training begins."""

    def on_train_begin(self, args, state, control, model, **kwargs):
        self.weight = model.get_input_embeddings().weight


def test_of_the_table_only_rows_that_the_data_uses_are_trained(tiny_bert, wordy_pairs, tmp_path):
    seen = Table()
    trained = fit(PairSet.from_rows(wordy_pairs), configured(tiny_bert), tmp_path, callbacks=[seen])
    before = AutoModel.from_pretrained(tiny_bert).get_input_embeddings().weight
    after = trained.model.model.get_input_embeddings().weight.cpu()
    assert after.shape == before.shape
    moved = int(((after - before).abs().sum(1) > 0).sum())
    assert 0 < moved < len(seen.weight) < len(before) / 2


def test_one_big_batch_and_accumulated_small_ones_give_the_same_weights(tiny_llama, wordy_pairs, tmp_path):
    rows = [{**row, "weight": 1.0 + place % 3} for place, row in enumerate(wordy_pairs)]
    pairs = PairSet.from_rows(rows)
    for name, device_pairs in (("big", None), ("small", 3)):
        config = configured(tiny_llama, batch_pairs=12, device_pairs=device_pairs, validation=0)
        fit(pairs, config, tmp_path / name)
    assert largest_difference(weights(tmp_path / "big/model"), weights(tmp_path / "small/model")) < 1e-6


@pytest.mark.parametrize("margin", [0.0, "batch"])
def test_a_batch_in_parts_gives_the_same_weights_and_the_same_figures(
    margin, tiny_llama, wordy_pairs, tmp_path, monkeypatch
):
    pairs, logs, backwards, real = PairSet.from_rows(wordy_pairs), [], [], Accelerator.backward
    monkeypatch.setattr(Accelerator, "backward", lambda *args: backwards.append(real(*args)))
    for budget in (100_000, 100):
        monkeypatch.setattr("outweigh.models.batches.CPU_TOKENS", budget)
        config = configured(tiny_llama, batch_pairs=12, margin=margin, validation=0)
        logs.append(fit(pairs, config, tmp_path / str(budget)).results["log"])
    steps = -(-len(wordy_pairs) // 12)
    if margin == "batch":  # of all pairs of the step, which stay together
        assert len(backwards) == 2 * steps
    else:
        assert len(backwards) > 4 * steps
    assert largest_difference(*(weights(tmp_path / budget / "model") for budget in ("100000", "100"))) < 1e-6
    for one, other in zip(*logs, strict=True):
        for figure in ("loss", "accuracy", "gap", "pairs"):
            assert one.get(figure) == pytest.approx(other.get(figure), abs=1e-5)


def test_the_first_step_is_the_loss_written_out(tiny_llama, wordy_pairs, tmp_path):
    # One step over all pairs: the logged loss is sum(w softplus(m - d)) / B at the initial weights
    rows = [{**row, "margin": 0.5, "weight": 1.0 + place % 2} for place, row in enumerate(wordy_pairs)]
    pairs = PairSet.from_rows(rows)
    config = configured(tiny_llama, batch_pairs=len(rows), learning_rate=1e-12, validation=0)
    trained = fit(pairs, config, tmp_path)
    chosen, rejected = trained.model.score_pairs(pairs)
    weight = np.array([row["weight"] for row in rows])
    by_hand = (weight * np.logaddexp(0, 0.5 - (chosen - rejected))).sum() / len(rows)
    assert trained.results["log"][0]["loss"] == pytest.approx(by_hand, abs=1e-5)


def test_the_same_seed_gives_the_same_weights_and_another_one_others(tiny_llama, wordy_pairs, tmp_path):
    pairs = PairSet.from_rows(wordy_pairs)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        fit(pairs, configured(tiny_llama, seed=seed), tmp_path / name)
    a, b, c = (weights(tmp_path / name / "model") for name in "abc")
    assert largest_difference(a, b) == 0
    assert largest_difference(a, c) > 1e-3


@pytest.mark.parametrize("backbone", ["tiny_llama", "tiny_bert"])
def test_lora_trains_adapters_and_head_and_saves_them_merged(backbone, wordy_pairs, tmp_path, request):
    folder = request.getfixturevalue(backbone)
    pairs = PairSet.from_rows(wordy_pairs)
    trained = fit(pairs, configured(folder, method="lora", learning_rate=1e-2, epochs=3), tmp_path)
    again = RewardModel.load(tmp_path / "model", precision="fp32")
    texts = ["Please pass the tea.", "Give me tea now."]
    torch.testing.assert_close(
        again.score(["Tea?"] * 2, texts), trained.model.score(["Tea?"] * 2, texts), rtol=1e-4, atol=1e-4
    )
    assert trained.results["reload_deviation"] < 1e-3
    head = next(name for name in weights(tmp_path / "model") if name.startswith(("score", "classifier")))
    torch.manual_seed(0)
    assert weights(tmp_path / "model")[head].std() > 0


def test_the_first_layers_alone_are_trained_saved_and_reloaded(tiny_llama, wordy_pairs, tmp_path):
    fit(PairSet.from_rows(wordy_pairs), configured(tiny_llama, layers=1), tmp_path)  # the guard reloads it
    assert json.loads((tmp_path / "model/config.json").read_text())["num_hidden_layers"] == 1


def test_a_frozen_backbone_stays_as_it_was_and_the_head_moves(tiny_llama, wordy_pairs, tmp_path):
    pairs = PairSet.from_rows(wordy_pairs)
    fit(pairs, configured(tiny_llama, method="frozen", learning_rate=1e-2), tmp_path)
    before = AutoModelForSequenceClassification.from_pretrained(tiny_llama, num_labels=1).state_dict()
    after = weights(tmp_path / "model")
    layers = [name for name in before if name.startswith("model.layers")]
    assert max((before[name] - after[name]).abs().max().item() for name in layers) == 0


@pytest.mark.parametrize("method", ["lora", "frozen"])
def test_what_stands_before_the_head_is_new_and_learns_with_it(method):
    config = DistilBertConfig(vocab_size=100, num_labels=1, dim=32, n_layers=2, n_heads=4, hidden_dim=64)
    model = trainable(AutoModelForSequenceClassification.from_config(config), TrainConfig(method=method))
    learning = {
        name for name, weight in model.named_parameters() if weight.requires_grad and "lora" not in name
    }
    for name in ("pre_classifier", "classifier"):
        own = f"base_model.model.{name}.modules_to_save.default" if method == "lora" else name
        assert {f"{own}.weight", f"{own}.bias"} <= learning
    assert len(learning) == 4


def test_gradient_checkpointing_changes_nothing_but_memory(tiny_llama, wordy_pairs, tmp_path):
    pairs = PairSet.from_rows(wordy_pairs)
    for name, checkpointing in (("with", True), ("without", False)):
        fit(pairs, configured(tiny_llama, gradient_checkpointing=checkpointing), tmp_path / name)
    assert largest_difference(weights(tmp_path / "with/model"), weights(tmp_path / "without/model")) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["tiny_llama", "tiny_bert"])
def test_a_compiled_model_learns_in_packs_and_rows_what_it_learns_without(
    request, backbone, wordy_pairs, tmp_path
):
    pairs, model = PairSet.from_rows(wordy_pairs[:16]), request.getfixturevalue(backbone)
    settings = {"validation": 0.0, "evaluations": 1, "batch_pairs": 4, "learning_rate": 1.0}
    for name, compiled in (("compiled", True), ("as it is", False)):
        trainer = {"optim": "sgd", "torch_compile": compiled}  # Adam divides by gradients that are rounding
        fit(pairs, configured(model, trainer=trainer, **settings), tmp_path / name)
    compiled, plain = (weights(tmp_path / name / "model") for name in ("compiled", "as it is"))
    before = {name: weight for name, weight in weights(model).items() if ".0." in name}  # of the first layer
    assert largest_difference(compiled, plain) < 1e-3 * largest_difference(before, plain) < 1e-4


def test_dropout_is_off_unless_asked_for(tiny_bert, wordy_pairs, tmp_path):
    pairs = PairSet.from_rows(wordy_pairs)
    fit(pairs, configured(tiny_bert), tmp_path / "off")
    fit(pairs, configured(tiny_bert, dropout=0.3), tmp_path / "on")
    assert json.loads((tmp_path / "off/model/config.json").read_text())["hidden_dropout_prob"] == 0
    assert json.loads((tmp_path / "on/model/config.json").read_text())["attention_probs_dropout_prob"] == 0.3
    assert largest_difference(weights(tmp_path / "off/model"), weights(tmp_path / "on/model")) > 1e-5


def rankings(count):
    def said(text):
        return (Message("assistant", text),)

    responses = (said("Please pass the tea."), said("Pass the tea."), said("Tea!"))
    return [
        Ranking((Message("user", f"Ask number {n}."),), responses, (1.0, 2.0, 2.0), n, f"rows:{n + 1}")
        for n in range(count)
    ]


def test_rows_of_k_responses_train_listwise(tiny_llama, tmp_path):
    config = configured(tiny_llama, objective="listwise", learning_rate=3e-3, epochs=4, batch_pairs=8)
    trained = fit(rankings(32), config, tmp_path)
    reward = trained.model.score(["Ask."] * 3, ["Please pass the tea.", "Pass the tea.", "Tea!"])
    assert reward[0] > max(reward[1:])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device_pairs": 5}, "batch_pairs: got 16, want a multiple of device_pairs"),
        ({"trainer": {"nonsense": 1}}, "nonsense"),
        ({"trainer": {"num_train_epochs": 9}}, "trainer num_train_epochs: is decided by epochs. Set that"),
        ({"trainer": {"gradient_accumulation_steps": 2}}, "is decided by batch_pairs and device_pairs"),
        ({"trainer": {"report_to": "abacus"}}, "trainer: abacus is not supported"),
        ({"trainer": {"report_to": ["comet_ml"]}}, "trainer report_to: .* requires comet"),
        ({"meta": MetaConfig(rho=0.1)}, "meta rho: has no meaning without meta.data"),
        ({"trainer": {"fsdp": "full_shard"}, "meta": MetaConfig(data="prompts.jsonl")}, "meta: got fsdp"),
    ],
)
def test_what_does_not_fit_is_refused_before_an_encoder_reads_the_texts(
    tiny_llama, wordy_pairs, tmp_path, monkeypatch, settings, said
):
    monkeypatch.setattr("outweigh.training.derived.text_vectors", lambda *_, **__: pytest.fail("read"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Tea?", "responses": ["Yes.", "No."]}\n')
    with pytest.raises(ConfigError, match=said):
        fit(PairSet.from_rows(wordy_pairs), configured(tiny_llama, cap="cosine", **settings), tmp_path)


def test_of_a_few_steps_none_is_lost_to_warming_up(tmp_path):
    def warming(items, **settings):
        return training_arguments(
            TrainConfig(batch_pairs=16, **settings), tmp_path, items, False
        ).warmup_steps

    assert [warming(16 * steps) for steps in (1, 19, 20, 100)] == [0, 0, 1, 5]
    assert warming(1600, trainer={"max_steps": 40}) == 2
    assert warming(1600, warmup_fraction=1.0) == 100


def test_one_step_teaches(tiny_llama, wordy_pairs, tmp_path):
    pairs = PairSet.from_rows(wordy_pairs)
    config = configured(tiny_llama, batch_pairs=len(pairs), learning_rate=3e-3, validation=0.0)
    trained = fit(pairs, config, tmp_path)
    still = fit(pairs, replace(config, learning_rate=0.0), tmp_path / "still").model
    gaps = [np.subtract(*model.score_pairs(pairs)).mean() for model in (trained.model, still)]
    assert trained.results["steps"] == 1 and gaps[0] > gaps[1] + 0.01


def test_what_does_not_fit_is_refused_before_a_model_is_loaded(wordy_pairs, tmp_path):
    pairs = PairSet.from_rows(wordy_pairs)
    with pytest.raises(ConfigError, match="margin from 'rating': the data has no column rating_chosen"):
        fit(pairs, TrainConfig(backbone="no/such-model", margin="rating"), tmp_path)
    with pytest.raises(ConfigError, match="auxiliary: got centering, want centring"):
        fit(pairs, TrainConfig(backbone="no/such-model", auxiliary={"centering": 0.1}), tmp_path)
    with pytest.raises(ConfigError, match="listwise: got pairs, want rows of K "):
        fit(pairs, TrainConfig(backbone="no/such-model", objective="listwise"), tmp_path)


def test_a_row_of_too_many_ties_is_named_before_training(tmp_path):
    (row,) = rankings(1)
    said = tuple((Message("assistant", f"{n}"),) for n in range(12))
    tied = row._replace(responses=said, ranks=(1.0, *[2.0] * 11), origin="rows:9")
    with pytest.raises(DataError, match="rows:9: 11 responses share one rank, want 10 at most"):
        fit([row, tied], TrainConfig(backbone="no/such-model", objective="listwise"), tmp_path)


def test_a_finished_folder_is_not_overwritten(tiny_llama, wordy_pairs, tmp_path):
    pairs = PairSet.from_rows(wordy_pairs)
    fit(pairs, configured(tiny_llama), tmp_path)
    with pytest.raises(TrainingError, match=r"exists\. Choose another folder"):
        fit(pairs, configured(tiny_llama), tmp_path)
