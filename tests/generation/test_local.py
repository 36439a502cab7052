"""Sampling with a shared prompt beside transformers' own, and the policy's log-probabilities."""

import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from outweigh.data.records import Message
from outweigh.errors import ConfigError, ModelError
from outweigh.generation.config import SamplingConfig
from outweigh.generation.local import LocalPolicy
from outweigh.models.policy import Policy


def asked(text):
    return (Message("user", text),)


PROMPTS = [asked("Name a prime."), asked("Why is the sky blue, and the sea too?"), asked("Hi")]


def policy(folder, **settings):
    return LocalPolicy(folder, SamplingConfig(precision="fp32", **settings))


def test_the_likeliest_answer_is_what_transformers_generates_from_the_prompt_alone(tiny_chat):
    found = list(policy(tiny_chat, temperature=0.0, max_new_tokens=12).samples(PROMPTS, 0))
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tiny_chat),
        AutoTokenizer.from_pretrained(tiny_chat),
    )
    for prompt, (sample,) in zip(PROMPTS, found, strict=True):
        text = tokenizer.apply_chat_template(
            [prompt[0]._asdict()], tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        alone = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        assert sample.text == tokenizer.decode(alone[0, ids.shape[1] :], skip_special_tokens=True)


def test_the_log_probability_of_a_response_is_the_policys_own(tiny_chat, monkeypatch):
    sampler, said = policy(tiny_chat, n=3, temperature=0.7, top_p=0.9, max_new_tokens=300), []
    monkeypatch.setattr(sampler.tokenizer, "decode", lambda ids, **_: said.append(ids.tolist()) or "")
    found = [sample for samples in sampler.samples(PROMPTS, 0) for sample in samples]
    prompts = [sampler.asking.ids(prompt) for prompt in PROMPTS for _ in range(3)]
    scorer = Policy.load(tiny_chat, precision="fp32")
    whole = [prompt + response for prompt, response in zip(prompts, said, strict=True)]
    expected = scorer.score_ids(whole, [len(prompt) for prompt in prompts])
    np.testing.assert_allclose([sample.logprob for sample in found], expected, rtol=1e-4)
    assert any(sample.finished for sample in found)  # an end token is counted, what pads after it is not


def test_a_job_that_goes_on_at_a_batch_draws_what_it_would_have_drawn(tiny_chat):
    sampler = policy(tiny_chat, batch_responses=4, n=2, max_new_tokens=8)
    whole = list(sampler.samples(PROMPTS * 2, 0))
    assert sampler.batch_prompts == 2
    assert list(sampler.samples((PROMPTS * 2)[2:], 2)) == whole[2:]
    assert [len(each) for each in whole] == [2] * 6


def test_the_seed_decides_and_nothing_outside_moves(tiny_chat):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    one, again, other = (
        list(policy(tiny_chat, n=2, max_new_tokens=8, seed=seed).samples(PROMPTS, 0)) for seed in (0, 0, 1)
    )
    assert one == again != other
    assert torch.equal(state, torch.get_rng_state())


def test_a_prompt_that_leaves_no_room_is_refused_with_both_lengths(tiny_chat):
    refusal = policy(tiny_chat, max_new_tokens=500).refusal(PROMPTS[1])
    assert "tokens and a response of 500 do not fit the policy's 512" in refusal
    assert policy(tiny_chat, max_new_tokens=8).refusal(PROMPTS[1]) == ""


def test_a_policy_without_a_template_says_how_it_is_asked(tiny_llama, caplog):
    sampler = policy(tiny_llama, max_new_tokens=4)
    assert "has no chat template. Prompts are written as 'User: ...'" in caplog.text
    assert (
        sampler.asking.renderer.opened(asked("Hi")).endswith("User: Hi\n\nAssistant:") and sampler.lead == " "
    )
    assert len(list(sampler.samples(PROMPTS, 0))) == 3


def test_a_response_ends_before_its_end_token_or_is_cut(tiny_chat):
    (samples,) = policy(tiny_chat, n=8, max_new_tokens=300).samples(PROMPTS[:1], 0)
    assert any(sample.finished for sample in samples) and all(sample.tokens <= 300 for sample in samples)
    assert all("</s>" not in sample.text for sample in samples)
    assert all(sample.tokens == 300 for sample in samples if not sample.finished)


def test_a_penalty_of_the_checkpoint_shapes_nothing(tiny_chat, tmp_path):
    folder = tmp_path / "penal"
    shutil.copytree(tiny_chat, folder)
    GenerationConfig(eos_token_id=1, repetition_penalty=1.5, no_repeat_ngram_size=2).save_pretrained(folder)
    how = {"temperature": 0.0, "max_new_tokens": 20}
    assert list(policy(folder, **how).samples(PROMPTS, 0)) == list(
        policy(tiny_chat, **how).samples(PROMPTS, 0)
    )


def test_more_responses_than_a_batch_holds_are_drawn_in_parts(tiny_chat):
    (samples,) = policy(tiny_chat, batch_responses=4, n=10, max_new_tokens=6).samples(PROMPTS[:1], 0)
    assert len(samples) == 10 and len({sample.text for sample in samples}) > 5


def test_an_encoder_can_not_answer(tiny_bert):
    with pytest.raises(ModelError, match="no causal model"):
        policy(tiny_bert)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"n": 0}, "n: got 0, want a whole number, 1 or more"),
        ({"top_p": 0.0}, "top_p: got 0.0, want more than 0, and at most 1"),
        ({"temperature": float("nan")}, "temperature: got nan, want 0 or more"),
        ({"temperature": 0.0, "n": 2}, "at which all are alike"),
        ({"seed": -1}, "seed: got -1, want a whole number, 0 or more"),
        ({"batch_responses": 0}, "batch_responses: got 0, want a whole number, 1 or more"),
    ],
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        SamplingConfig(**settings)
