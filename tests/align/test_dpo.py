"""DPO on the pairwise equation: log-probabilities, losses beside TRL's, and the policy that is saved."""

import json
import shutil
from dataclasses import replace

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import outweigh
from outweigh.align.config import DPOConfig
from outweigh.align.dpo import fit_policy
from outweigh.align.implicit import ImplicitReward
from outweigh.align.trainer import PolicyTrainer
from outweigh.cli.main import main
from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet
from outweigh.errors import ConfigError, ModelError
from outweigh.models.packing import takes_packs
from outweigh.models.policy import Policy, load_policy, log_probabilities
from outweigh.models.rows import Trees
from outweigh.training.collate import responses

SHORT = TokenConfig(max_tokens=96)


def configured(backbone, **settings):
    return DPOConfig(
        **{"backbone": str(backbone), "tokens": SHORT, "precision": "fp32", "batch_pairs": 12} | settings
    )


@pytest.fixture(scope="module")
def other_policy(tiny_llama, tmp_path_factory):
    """The tiny causal model with other weights."""
    folder = tmp_path_factory.mktemp("other")
    shutil.copytree(tiny_llama, folder, dirs_exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    model.save_pretrained(folder)
    return folder


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def largest_difference(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("packs", [None, Trees()])
def test_log_probabilities_are_the_sum_over_the_response_alone_and_in_a_batch(tiny_llama, packs):
    model = load_policy(tiny_llama).eval()
    assert takes_packs(model, model.get_output_embeddings(), 64) or not packs
    texts, starts = [[5, 9, 12, 7, 30, 2], [5, 9, 4], [8, 8, 8, 8, 1, 2, 3, 4]], [3, 1, 6]
    how = {"pad_token": 0, "device": torch.device("cpu"), "max_tokens": 64, "packs": packs}
    together = log_probabilities(model, texts, starts, **how)
    for place, (ids, start) in enumerate(zip(texts, starts, strict=True)):
        expected = 0.0
        for end in range(start, len(ids)):  # token by token, each from its own prefix
            logits = model(torch.tensor([ids[:end]])).logits[0, -1].double()
            expected += (logits - logits.logsumexp(0))[ids[end]].item()
        assert together[place].item() == pytest.approx(expected, abs=1e-4)
    assert torch.allclose(together[1:2], log_probabilities(model, texts[1:2], starts[1:2], **how), atol=1e-5)


@pytest.mark.parametrize(("packs", "computed"), [(None, [3]), (Trees(), [4])])
@pytest.mark.parametrize("wrapped", [False, True])
def test_of_prompts_no_logits_are_computed(tiny_llama, wrapped, packs, computed):
    model = load_policy(tiny_llama).eval()
    assert takes_packs(model, model.get_output_embeddings(), 64) or not packs
    places = []
    model.lm_head.register_forward_hook(lambda head, given, found: places.append(found.shape[1]))
    if wrapped:
        model = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    how = {"pad_token": 0, "device": torch.device("cpu"), "max_tokens": 64, "packs": packs}
    log_probabilities(model, [[5, 9, 12, 7, 30, 2], [8, 8, 8, 8, 8, 7]], [3, 5], **how)
    assert places == computed  # the first text's 7, 30, 2; in padded rows the other's 7 stands with one


@pytest.fixture
def first_batch(monkeypatch):
    """Each trainer's first batch, its loss and gradients, at the weights that training starts from."""
    seen = []
    real = PolicyTrainer.compute_loss

    def spy(self, model, inputs, *arguments, **keywords):
        if not seen:
            loss = real(self, model, inputs, *arguments, **keywords)
            named = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
            slopes = torch.autograd.grad(loss, [each for _, each in named])
            gradient = {name: slope for (name, _), slope in zip(named, slopes, strict=True)}
            seen.append((dict(inputs), loss.detach(), gradient))
        return real(self, model, inputs, *arguments, **keywords)

    monkeypatch.setattr(PolicyTrainer, "compute_loss", spy)
    return seen


PEERS = {
    "sigmoid": ({}, {"loss_type": ["sigmoid"]}),
    "ipo": ({"loss": "squared"}, {"loss_type": ["ipo"]}),
    "robust": (
        {"flip_rate": {"source": "robust", "rate": 0.2}},
        {"loss_type": ["robust"], "label_smoothing": 0.2},
    ),
    "sigmoid_norm": ({"average": True}, {"loss_type": ["sigmoid_norm"]}),
}


@pytest.mark.parametrize("name", PEERS)
def test_loss_and_gradients_are_those_of_trl_on_the_same_batch(
    tiny_llama, other_policy, wordy_pairs, tmp_path, first_batch, name
):
    trl = pytest.importorskip("trl")
    import datasets

    ours, theirs = PEERS[name]
    config = configured(tiny_llama, reference=str(other_policy), beta=0.3, validation=0.0, **ours)
    fit_policy(PairSet.from_rows(wordy_pairs), config, tmp_path / "ours")
    batch, loss, gradient = first_batch[0]
    ids = responses(batch)
    starts = batch["starts"].tolist()
    peer = trl.DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32),
        ref_model=AutoModelForCausalLM.from_pretrained(other_policy, dtype=torch.float32),
        args=trl.DPOConfig(output_dir=str(tmp_path / "trl"), beta=0.3, use_cpu=True, bf16=False, **theirs),
        processing_class=AutoTokenizer.from_pretrained(tiny_llama),
        train_dataset=datasets.Dataset.from_list(
            [
                {key: row[key] for key in ("prompt", "chosen", "rejected")}
                for row in wordy_pairs[: len(ids) // 2]
            ]
        ),
    )
    order = [*range(0, len(ids), 2), *range(1, len(ids), 2)]  # TRL's batch: all chosen, then all rejected
    longest = max(map(len, ids))
    inputs = {name: torch.zeros(len(ids), longest, dtype=torch.long) for name in
              ("input_ids", "attention_mask", "completion_mask")}  # fmt: skip
    for place, i in enumerate(order):
        inputs["input_ids"][place, : len(ids[i])] = torch.tensor(ids[i])
        inputs["attention_mask"][place, : len(ids[i])] = 1
        inputs["completion_mask"][place, starts[i] : len(ids[i])] = 1
    peer.model.eval()
    expected = peer.compute_loss(peer.model, inputs)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    slopes = {name: each.grad for name, each in peer.model.named_parameters()}
    assert set(slopes) == set(gradient)
    scale = max(slope.abs().max().item() for slope in slopes.values())
    assert max((gradient[name].cpu() - slopes[name]).abs().max().item() for name in slopes) < 1e-4 * scale


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_policy_learns_the_preference_saves_plainly_and_generates(
    tiny_llama, wordy_pairs, tmp_path, method
):
    config = configured(tiny_llama, method=method, learning_rate=3e-3, epochs=8, beta=0.5, validation=0.2)
    aligned = fit_policy(PairSet.from_rows(wordy_pairs), config, tmp_path)
    last = [each for each in aligned.results["log"] if "eval_accuracy" in each][-1]
    assert last["eval_accuracy"] > 0.9 and last["eval_gap"] > 0.5
    assert aligned.results["reload_deviation"] < 1e-3
    folder = tmp_path / "policy"
    assert set(weights(folder)) == set(weights(tiny_llama))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == len(AutoTokenizer.from_pretrained(tiny_llama))  # no token was added
    prompt = tokenizer("Ask for tea.", return_tensors="pt")
    said = AutoModelForCausalLM.from_pretrained(folder).generate(**prompt, max_new_tokens=4)
    assert said.shape[1] > prompt["input_ids"].shape[1]
    pair = PairSet.from_rows(wordy_pairs)
    ahead = [np.subtract(*Policy.load(each).score_pairs(pair)) for each in (folder, tiny_llama)]
    assert (ahead[0] > ahead[1]).all()


def test_a_policy_of_texts_that_were_cut_is_reloaded_with_them_cut_alike(tiny_llama, wordy_pairs, tmp_path):
    short, pairs = TokenConfig(max_tokens=16), PairSet.from_rows(wordy_pairs[:12])  # less than a response has
    aligned = fit_policy(pairs, configured(tiny_llama, tokens=short), tmp_path)
    assert aligned.results["reload_deviation"] < 1e-3
    texts = [(pair.prompt, pair.chosen) for pair in pairs]
    cut = Policy.load(tmp_path / "policy", short).score_texts(texts)
    assert (cut > Policy.load(tmp_path / "policy").score_texts(texts) + 1).all()


def test_the_implicit_reward_starts_at_zero_and_follows_the_reference(
    tiny_llama, other_policy, wordy_pairs, tmp_path, first_batch
):
    pairs = PairSet.from_rows(wordy_pairs)
    fit_policy(pairs, configured(tiny_llama, validation=0.0), tmp_path / "own")
    assert first_batch[0][1].item() == pytest.approx(np.log(2), abs=1e-5)
    first_batch.clear()
    fit_policy(pairs, configured(tiny_llama, validation=0.0, reference=str(other_policy)), tmp_path / "other")
    assert abs(first_batch[0][1].item() - np.log(2)) > 1e-3


@pytest.mark.parametrize("average", [False, True])
def test_what_a_policy_implies_is_its_log_ratio_to_the_reference(tiny_llama, other_policy, average):
    policy, reference = (Policy.load(each, precision="fp32") for each in (other_policy, tiny_llama))
    implied = ImplicitReward(policy, reference, beta=0.3, average=average)
    found = implied.score(["Ask."], ["Please do."])
    ratio = policy.score(["Ask."], ["Please do."]) - reference.score(["Ask."], ["Please do."])
    np.testing.assert_allclose(
        found, 0.3 * ratio / (12 if average else 1), rtol=1e-6
    )  # a space, 10 bytes, </s>
    assert abs(found[0]) > 1e-3
    same = ImplicitReward(policy, policy, beta=0.3, average=average)
    assert same.score(["Ask.", None], ["Please do.", "No."]).tolist() == [0.0, 0.0]


def test_a_policy_is_evaluated_by_what_it_implies(tiny_llama, wordy_pairs, tmp_path):
    config = configured(tiny_llama, learning_rate=3e-3, epochs=6, validation=0.0)
    found = outweigh.align_dpo(wordy_pairs[:40], out=tmp_path, config=config, eval=wordy_pairs[40:])
    judged = found["evaluation"]["policy"]
    assert judged.accuracy.pairs == 20
    assert judged.accuracy.value > 0.9
    assert (
        json.loads((tmp_path / "results.json").read_text())["evaluation"]["policy"]["accuracy"]["pairs"] == 20
    )


def test_a_step_is_the_same_however_it_is_cut_with_every_kind_of_source(
    tiny_llama, other_policy, wordy_pairs, tmp_path
):
    rows = [row | {"votes_chosen": 4, "votes_rejected": 1, "votes_equal": 0} for row in wordy_pairs]
    config = configured(
        tiny_llama, margin={"source": "batch", "clamp": False}, flip_rate="votes", weight=0.5, beta=1.0,
        learning_rate=1e-2, cap={"source": "length", "preset": "dialogue-dpo"}, trainer={"optim": "sgd"},
        reference=str(other_policy),  # of which the policy is another: gaps, and so the margin, are not 0
    )  # fmt: skip
    runs = {
        "whole": config,
        "cut": replace(config, device_pairs=3),
        "without": replace(config, margin="none"),
    }
    for name, each in runs.items():
        fit_policy(PairSet.from_rows(rows), each, tmp_path / name)
    whole, cut, without = (weights(tmp_path / name / "policy") for name in runs)
    assert largest_difference(whole, cut) < 0.01 * largest_difference(whole, without)


def test_the_reference_is_computed_once(tiny_llama, wordy_pairs, tmp_path, monkeypatch):
    config, pairs = configured(tiny_llama, seed=3), PairSet.from_rows(wordy_pairs[:40])
    fit_policy(pairs, config, tmp_path / "one")
    monkeypatch.setattr(Policy, "score_ids", lambda *arguments: pytest.fail("computed again"))
    monkeypatch.setattr("outweigh.align.dpo._saved", lambda *arguments: None)
    fit_policy(pairs, replace(config, epochs=2), tmp_path / "two")


def test_a_run_resumes_and_a_finished_one_is_not_overwritten(tiny_llama, wordy_pairs, tmp_path):
    pairs = PairSet.from_rows(wordy_pairs)
    config = configured(tiny_llama, save_every_steps=2, learning_rate=1e-3)
    fit_policy(pairs, config, tmp_path / "straight")
    fit_policy(pairs, config, tmp_path / "again")
    with pytest.raises(outweigh.errors.TrainingError, match="policy: exists"):
        fit_policy(pairs, config, tmp_path / "again")
    (tmp_path / "again/policy").rename(tmp_path / "again/before")
    for checkpoint in (tmp_path / "again/checkpoints").glob("checkpoint-*"):
        if checkpoint.name != "checkpoint-4":
            checkpoint.rename(tmp_path / checkpoint.name)
    with pytest.raises(outweigh.errors.TrainingError, match="checkpoints: are of an unfinished training"):
        fit_policy(pairs, config, tmp_path / "again")
    with pytest.raises(outweigh.errors.TrainingError, match="holds a training on other data"):
        fit_policy(pairs, replace(config, beta=0.2), tmp_path / "again", resume=True)
    fit_policy(pairs, config, tmp_path / "again", resume=True)
    straight, again = (weights(tmp_path / name / "policy") for name in ("straight", "again"))
    assert largest_difference(straight, again) == 0


def test_a_run_that_ends_after_its_policy_is_saved_goes_on_from_there(
    tiny_llama, wordy_pairs, tmp_path, monkeypatch
):
    config = configured(tiny_llama)
    how = {"out": tmp_path / "out", "config": config, "eval": wordy_pairs[40:]}

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("outweigh.steps.align.implicit_reward", interrupted)
        outweigh.align_dpo(wordy_pairs[:40], **how)
    with monkeypatch.context() as patch:
        patch.setattr("outweigh.align.dpo._trainer", lambda *_: pytest.fail("trained again"))
        found = outweigh.align_dpo(wordy_pairs[:40], **how, resume=True)
    assert found["align"]["policy"]["log"] and found["evaluation"]["policy"].accuracy.pairs == 20
    with pytest.raises(outweigh.errors.OutweighError, match="other"):
        outweigh.align_dpo(wordy_pairs[:40], **how | {"config": replace(config, beta=0.2)}, resume=True)


def test_a_reference_of_another_vocabulary_is_refused(tiny_llama, other_policy, wordy_pairs, tmp_path):
    shutil.copytree(other_policy, tmp_path / "other")
    tokenizer = AutoTokenizer.from_pretrained(other_policy)
    tokenizer.add_tokens(["tea"])
    tokenizer.save_pretrained(tmp_path / "other")
    config = configured(tiny_llama, reference=str(tmp_path / "other"))
    with pytest.raises(ConfigError, match="has another vocabulary"):
        fit_policy(PairSet.from_rows(wordy_pairs[:20]), config, tmp_path / "out")


@pytest.mark.parametrize("source", ["length", "cosine"])
def test_a_cap_by_likeness_is_pcdpo_s_where_no_other_preset_is_named(source):
    dialogue = {"source": source, "preset": "dialogue"}
    assert DPOConfig(cap=source).training.cap == {"source": source, "preset": "dialogue-dpo"}
    wide = DPOConfig(cap={"source": source, "beta1": 40.0}).training.cap
    assert wide == {"source": source, "beta1": 40.0, "preset": "dialogue-dpo"}
    assert DPOConfig(cap=dialogue).training.cap == dialogue
    fitted = {"source": source, "beta": "auto"}
    assert DPOConfig(cap=fitted).training.cap == fitted | ({"form": "raw"} if source == "cosine" else {})
    assert DPOConfig(cap=4.5).training.cap == 4.5 and DPOConfig().training.cap == "auto"


def test_columns_that_the_squared_loss_does_not_read_are_named(tiny_llama, wordy_pairs, tmp_path, caplog):
    rows = [row | {"margin": 0.5, "flip_rate": 0.0} for row in wordy_pairs[:20]]
    fit_policy(PairSet.from_rows(rows), configured(tiny_llama, loss="squared"), tmp_path)
    assert "loss squared reads no margin: those columns have no effect" in caplog.text


def test_an_encoder_is_refused(tiny_bert, wordy_pairs, tmp_path):
    with pytest.raises(ModelError, match="no causal model, its checkpoint lacks"):
        fit_policy(PairSet.from_rows(wordy_pairs), configured(tiny_bert), tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"beta": 0.0}, "beta: got 0.0, want more than 0"),
        ({"method": "frozen"}, "method: got 'frozen', want one of full, lora"),
        ({"loss": "hinge"}, "loss: got 'hinge', want one of logistic, squared"),
        ({"loss": "squared", "cap": "length"}, "loss squared: takes no cap, want none"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        DPOConfig(**settings)


def test_from_the_command_line(tiny_llama, wordy_pairs, tmp_path, capsys):
    data, out = tmp_path / "pairs.jsonl", tmp_path / "out"
    data.write_text("".join(json.dumps(row) + "\n" for row in wordy_pairs))
    told = ["align", "dpo", str(data), "--out", str(out), "--backbone", str(tiny_llama)]
    assert main([*told, "--tokens.max-tokens", "96", "--validation", "0.2", "--eval", str(data)]) == 0
    said = capsys.readouterr().out
    assert "implicit reward" in said and "longer one wins" in said
    assert "Implicit reward on" in said and f"The policy is in {out / 'policy'}" in said
    assert json.loads((out / "results.json").read_text())["align"]["policy"]["pairs"] == 48
    assert (out / "policy/README.md").read_text().count("text-generation") == 1
    assert main([*told, "--beta", "0"]) == 2
    assert main(["align", "ppo", str(data), "--out", str(out)]) == 2
    assert "got ppo, want dpo or rl first" in capsys.readouterr().err
