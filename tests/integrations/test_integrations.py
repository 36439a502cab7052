"""Each function, called as its trainer calls it; TRL for real."""

import importlib.util
import inspect
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from outweigh.align.shaping import ShapingConfig
from outweigh.data.records import Message
from outweigh.errors import ConfigError, DataError
from outweigh.integrations import openrlhf, verl
from outweigh.integrations.trl import RewardFunction, reward_func
from outweigh.models.ensemble import load_scorer
from outweigh.models.loading import load_classifier, load_tokenizer
from outweigh.models.reward import RewardModel


@pytest.fixture(scope="module")
def model(tiny_chat, tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("reward")
    tokenizer = load_tokenizer(tiny_chat)
    RewardModel(load_classifier(tiny_chat, tokenizer), tokenizer).save(folder)
    return folder


@pytest.fixture
def named(model, monkeypatch):
    monkeypatch.setenv("OUTWEIGH_REWARD_MODEL", str(model))


def as_the_peer_loads_it(module, name):
    """The function out of the module's file, as verl and OpenRLHF import it."""
    spec = importlib.util.spec_from_file_location("custom_module", inspect.getfile(module))
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return getattr(loaded, name)


PROMPTS, RESPONSES = ["Name a prime.", "Name another."], ["Seven.", "Eleven, I think."]


def test_trl_gets_a_reward_for_strings_and_for_messages(model, named):
    expected = RewardModel.load(model).score(PROMPTS, RESPONSES)
    asked = [[{"role": "user", "content": each}] for each in PROMPTS]
    said = [[{"role": "assistant", "content": each}] for each in RESPONSES]
    extra = {"completion_ids": [[1], [2]], "trainer_state": None, "log_extra": print, "environments": None}
    for prompts, completions in ((PROMPTS, RESPONSES), (asked, said)):
        found = reward_func(prompts=prompts, completions=completions, **extra)
        assert all(type(each) is float for each in found)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_completion_in_which_nothing_is_said_is_an_empty_one(named):
    asked = [[{"role": "user", "content": each}] for each in PROMPTS]
    silent, empty = ([[{"role": "assistant", "content": said}]] * 2 for said in (None, ""))
    found = [reward_func(prompts=asked, completions=each) for each in (silent, empty)]
    assert found[0] == found[1]
    called = [{"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}]
    with pytest.raises(DataError, match="has tool_calls, which are not read"):
        reward_func(prompts=asked[:1], completions=[called])


def test_a_completion_that_a_server_refuses_has_no_reward_and_shapes_no_other(server, caplog):
    server.answer = lambda body: (
        (413, b"too long")
        if any(len(text) > 100 for text in body["query"])
        else {"rewards": [float(len(text)) for text in body["query"]]}
    )
    served = load_scorer(server.url.replace("/v1", "/get_reward"))
    said = ["a", "aaa", "much " * 30]
    function = RewardFunction(served, ShapingConfig(whiten=True, clip=None))
    found = function(["?"] * 3, said)
    assert found == [pytest.approx(-1.0), pytest.approx(1.0), None]  # whitened as the two that they are
    assert "1 of 3 completions have no reward" in caplog.text


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_trl_trains_a_policy_on_our_rewards(algorithm, model, tiny_chat, tmp_path):
    trl = pytest.importorskip("trl")
    import datasets

    config, trainer = {
        "grpo": (trl.GRPOConfig, trl.GRPOTrainer),
        "rloo": (trl.RLOOConfig, trl.RLOOTrainer),
    }[algorithm]
    arguments = config(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        max_steps=2,
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=6,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
    )
    asked = [{"prompt": [{"role": "user", "content": f"Name prime {n}."}]} for n in range(8)]
    seen = []
    function = RewardFunction(model)
    original = function.model.score_taken
    function.model.score_taken = lambda texts, **how: seen.append(len(texts)) or original(texts, **how)
    run = trainer(
        model=str(tiny_chat),
        reward_funcs=[function],
        args=arguments,
        train_dataset=datasets.Dataset.from_list(asked),
    )
    run.train()
    assert seen and all(count == 4 for count in seen)
    assert any("rewards/outweigh/mean" in entry for entry in run.state.log_history)


def test_rewards_are_shaped_as_told(model):
    raw = np.array(RewardFunction(model)(PROMPTS, RESPONSES))
    against = ShapingConfig(against="reference", clip=None)
    found = RewardFunction(model, against)(PROMPTS, RESPONSES, reference_reward=[raw[0], raw[1] - 2.0])
    np.testing.assert_allclose(found, [0.5, 1 / (1 + np.exp(-2.0))], rtol=1e-6)
    with pytest.raises(ConfigError, match="no reference reward is given"):
        RewardFunction(model, against)(PROMPTS, RESPONSES)


def test_verl_gets_the_score_of_one_solution(model, named):
    compute_score = as_the_peer_loads_it(verl, "compute_score")
    found = compute_score(
        data_source="mine",
        solution_str=RESPONSES[0],
        ground_truth=None,
        extra_info={"index": 0, "prompt": PROMPTS[0]},
    )
    expected = RewardModel.load(model).score(PROMPTS[:1], RESPONSES[:1])[0]
    assert found == {"score": pytest.approx(expected, rel=1e-5)}
    chat = {"question": [{"role": "user", "content": PROMPTS[0]}]}
    same = compute_score("mine", RESPONSES[0], None, chat, model=str(model), prompt_key="question", reward=0)
    assert same == pytest.approx(found)
    read = {"question": np.array(chat["question"], dtype=object)}
    assert compute_score("mine", RESPONSES[0], None, read, prompt_key="question") == pytest.approx(found)
    with pytest.raises(DataError, match="extra_info has no 'prompt', got index"):
        compute_score("mine", RESPONSES[0], None, {"index": 0})


def test_from_many_threads_each_text_gets_its_own_reward(model):
    texts = ["e" * length for length in range(1, 33)]
    alone = RewardModel.load(model)
    expected = [alone.score(PROMPTS[:1], [text])[0] for text in texts]
    with ThreadPoolExecutor(8) as threads:
        found = threads.map(
            lambda text: verl.compute_score("mine", text, None, {"prompt": PROMPTS[0]}, model=str(model)),
            texts * 4,
        )
        got = [each["score"] for each in found]
    assert len({round(each, 6) for each in got}) > 8
    np.testing.assert_allclose(got, expected * 4, atol=1e-3 * np.ptp(expected))


def test_openrlhf_gets_tensors_for_rendered_texts(model, named):
    ours = RewardModel.load(model)
    rendered = [
        ours.renderer((Message("user", prompt),), (Message("assistant", response),)).text
        for prompt, response in zip(PROMPTS, RESPONSES, strict=True)
    ]
    reward = as_the_peer_loads_it(openrlhf, "reward_func")
    for texts in (rendered, rendered[:1]):
        found = reward(texts, PROMPTS[: len(texts)], [None] * len(texts))
        assert found["rewards"].shape == (len(texts),) and found["rewards"].dtype == torch.float32
        expected = ours.score(PROMPTS, RESPONSES)[: len(texts)]
        np.testing.assert_allclose(found["scores"], expected, rtol=1e-5)
    assert set(found) == {"rewards", "scores", "extra_logs"}


def test_openrlhf_gets_our_own_reward_of_a_query_that_ends_where_the_policy_ended(tmp_path, monkeypatch):
    torch.manual_seed(0)
    tokenizer = load_tokenizer("smollm2")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_labels=1,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    ours = RewardModel(LlamaForSequenceClassification(config), tokenizer)
    ours.save(tmp_path)
    monkeypatch.setenv("OUTWEIGH_REWARD_MODEL", str(tmp_path))
    opened = [ours.renderer.opened((Message("user", prompt),)) for prompt in PROMPTS]
    queries = [f"{asked}{said}{tokenizer.eos_token}" for asked, said in zip(opened, RESPONSES, strict=True)]
    found = as_the_peer_loads_it(openrlhf, "reward_func")(queries)["rewards"]
    np.testing.assert_allclose(found, RewardModel.load(tmp_path).score(PROMPTS, RESPONSES), rtol=1e-5)


def test_without_a_model_the_variable_is_named(monkeypatch):
    monkeypatch.delenv("OUTWEIGH_REWARD_MODEL", raising=False)
    with pytest.raises(ConfigError, match="Set OUTWEIGH_REWARD_MODEL"):
        reward_func(prompts=PROMPTS, completions=RESPONSES)
