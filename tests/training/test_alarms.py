"""Each alarm sounds where it should, and stays silent where it should not."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet
from outweigh.errors import ConfigError
from outweigh.steps.train import train
from outweigh.training.alarms import ALARMS, AlarmCallback, Watch
from outweigh.training.config import TrainConfig
from outweigh.training.fit import fit

HEALTHY = {
    "loss": 0.6, "log_loss": 0.6, "accuracy": 0.7, "gap": 0.5, "gap_std": 1.0, "ties": 0.0, "pairs": 400.0,
    "largest_loss": 0.9,
}  # fmt: skip
HELD_OUT = {"eval_accuracy": 0.68, "eval_log_loss": 0.6, "eval_pairs": 400.0, "eval_gap": 0.4}


def watching(evaluations=(HELD_OUT,), **training):
    logs = [HEALTHY] * 10 + [HEALTHY | training]
    return Watch(logs, list(evaluations), pad_token=5, eos_token=1, tokenizer_pad_token=5)


SOUNDING = {
    "memorised": watching([HELD_OUT, HELD_OUT | {"eval_log_loss": 0.7}], log_loss=0.05),
    "overfitted": watching(accuracy=0.95),
    "under-plain": Watch([HEALTHY], [HELD_OUT], [HELD_OUT | {"eval_accuracy": 0.74}]),  # by .06 of 1 / 20
    "running-away": watching(gap=15.0, gap_std=15.0),  # sqrt(15^2 + 15^2) = 21.2
    "equal-rewards": watching(ties=0.9),
    "not-finite": watching(loss=float("nan")),
    "meta-idle": watching(meta_change=4e-4),
    "contrast-heavy": watching(contrast_share=0.85),
    "capped": watching(capped=0.6),
    "margin-heavy": watching(margin=3.1),
    "spike": watching(largest_loss=4.6),
    "padding": Watch([HEALTHY], [], pad_token=1, eos_token=1, tokenizer_pad_token=1),
}
SILENT = {
    "memorised": watching(
        [HELD_OUT, HELD_OUT | {"eval_log_loss": 0.5}], log_loss=0.05
    ),  # validation still falls
    "overfitted": watching([HELD_OUT | {"eval_pairs": 8.0}], accuracy=0.95),  # 8 pairs say nothing
    "under-plain": Watch([HEALTHY], [HELD_OUT], [HELD_OUT | {"eval_accuracy": 0.72}]),
    "running-away": watching(gap=12.0, gap_std=12.0),
    "equal-rewards": watching(ties=0.2),
    "not-finite": watching(),
    "meta-idle": watching(meta_change=0.05),
    "contrast-heavy": watching(contrast_share=0.6),
    "capped": watching(capped=0.3),
    "margin-heavy": watching(margin=2.0),
    "spike": watching(largest_loss=2.0),
    "padding": watching(),
}


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_sounds_where_it_should(name):
    assert ALARMS[name].cause(SOUNDING[name])


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_is_silent_where_it_should_be(name):
    assert ALARMS[name].cause(SILENT[name]) is None


def test_a_jump_of_the_meta_gradient_is_a_spike_and_a_new_run_has_none():
    steady = [HEALTHY | {"largest_meta_gradient": 0.2}] * 8
    cause = ALARMS["spike"].cause(Watch([*steady, HEALTHY | {"largest_meta_gradient": 2.0}]))
    assert "meta gradient of a step is 2" in cause
    assert ALARMS["spike"].cause(Watch([HEALTHY, HEALTHY | {"largest_loss": 9.0}])) is None


def test_a_margin_over_gaps_that_have_not_grown_yet_is_no_alarm():
    new = HEALTHY | {"margin": 1.0, "gap_std": 0.01}
    assert ALARMS["margin-heavy"].cause(Watch([new] * 3)) is None
    assert ALARMS["margin-heavy"].cause(Watch([new] * 9))


class _Tokenizer:
    eos_token_id, pad_token_id = 1, 5


def test_an_alarm_speaks_once_and_stops_training_only_if_told(caplog):
    state, control = TrainerState(global_step=7), TrainerControl()
    with caplog.at_level(logging.WARNING):
        for stop in (False, True):
            callback = AlarmCallback(_Tokenizer(), stop=stop)
            callback.watch.pad_token = 5
            for _ in range(3):
                callback.on_log(None, state, control, logs=HEALTHY | {"gap_std": 99.0})
            assert control.should_training_stop is stop
    assert caplog.text.count("Alarm running-away at step 7: the gaps are 99.0 nats") == 2
    assert callback.fired["running-away"]["step"] == 7


def trained(tmp_path, backbone, rows, **settings):
    config = TrainConfig(
        backbone=str(backbone),
        tokens=TokenConfig(max_tokens=96),
        precision="fp32",
        validation=0.3,
        **settings,
    )
    return fit(PairSet.from_rows(rows), config, tmp_path).results["alarms"]


def test_a_learning_rate_far_too_high_sounds_an_alarm_and_can_stop_training(
    tiny_llama, wordy_pairs, tmp_path
):
    config = {"learning_rate": 2.0, "epochs": 20.0, "stop_on_alarm": True, "evaluations": 1}
    alarms = trained(tmp_path, tiny_llama, wordy_pairs, **config)
    ((name, alarm),) = alarms.items()
    assert name in ("running-away", "spike")  # whichever is seen first ends the run
    assert alarm["step"] < 30  # of 20 epochs of 3 steps


def test_pairs_that_are_held_by_their_cap_are_told_from_those_that_are_not(tiny_llama, wordy_pairs, tmp_path):
    course = {"learning_rate": 5e-3, "epochs": 10.0, "evaluations": 1}
    low = trained(tmp_path / "low", tiny_llama, wordy_pairs, cap=1.0, **course)
    assert "of the pairs are at their cap" in low["capped"]["cause"]
    assert "capped" not in trained(tmp_path / "high", tiny_llama, wordy_pairs, cap=50.0, **course)


def test_one_step_s_loss_is_seen_among_the_many_of_a_log(tiny_llama, wordy_pairs, tmp_path):
    rows = [
        row | {"weight": 1.0, "prompt": f"{row['prompt']} {turn}"} for turn in (1, 2) for row in wordy_pairs
    ]
    rows[0]["weight"] = 40.0  # ten times the loss of a step of four, 1.9 times the mean of ten steps
    course = {"batch_pairs": 4, "learning_rate": 1e-9, "epochs": 4.0, "trainer": {"logging_steps": 10}}
    alarms = trained(tmp_path, tiny_llama, rows, **course)
    assert "the loss of a step is" in alarms["spike"]["cause"]


def test_healthy_training_is_silent(tiny_llama, wordy_pairs, tmp_path):
    assert trained(tmp_path, tiny_llama, wordy_pairs, learning_rate=1e-3) == {}


def test_training_that_ends_under_plain_training_says_so(tiny_llama, wordy_pairs, tmp_path):
    config = TrainConfig(
        backbone=str(tiny_llama), tokens=TokenConfig(max_tokens=96), precision="fp32", validation=0.3,
        epochs=4.0, learning_rate=3e-3,
    )  # fmt: skip
    pairs = PairSet.from_rows(wordy_pairs)
    train(pairs, out=tmp_path / "plain", config=config)
    alike = replace(config, beside=str(tmp_path / "plain"))
    assert fit(pairs, alike, tmp_path / "alike").results["alarms"] == {}
    unlearnt = fit(pairs, replace(alike, learning_rate=1e-9), tmp_path / "unlearnt").results["alarms"]
    assert "after as much plain training" in unlearnt["under-plain"]["cause"]


def test_after_a_resume_evaluations_are_compared_with_those_of_the_same_step():
    done = [HELD_OUT | {"step": 1}, HELD_OUT | {"step": 2}]
    plain = [HELD_OUT, HELD_OUT, HELD_OUT | {"eval_accuracy": 0.9}]
    callback = AlarmCallback(_Tokenizer(), plain=plain)
    state = TrainerState(global_step=2, log_history=[HEALTHY | {"step": 1}, *done])
    model = SimpleNamespace(config=SimpleNamespace(pad_token_id=5))
    callback.on_train_begin(None, state, TrainerControl(), model=model)
    assert not callback.fired
    callback.on_log(None, state, TrainerControl(), logs=HELD_OUT)  # the third: .68 beside .9
    assert set(callback.fired) == {"under-plain"}


def test_an_alarm_of_before_a_resume_is_told_with_its_step():
    callback = AlarmCallback(_Tokenizer(), stop=True)
    before = [HEALTHY | {"step": 1}, HEALTHY | {"step": 2, "ties": 0.9}, HEALTHY | {"step": 3}]
    state, control = TrainerState(global_step=3, log_history=before), TrainerControl()
    model = SimpleNamespace(config=SimpleNamespace(pad_token_id=5))
    callback.on_train_begin(None, state, control, model=model)
    assert {name: each["step"] for name, each in callback.fired.items()} == {"equal-rewards": 2}
    assert control.should_training_stop and len(callback.watch.logs) == 3


def test_a_training_to_compare_with_must_be_there_and_be_alike(tiny_llama, wordy_pairs, tmp_path):
    pairs, tokens = PairSet.from_rows(wordy_pairs), TokenConfig(max_tokens=96)
    config = TrainConfig(backbone=str(tiny_llama), tokens=tokens, validation=0.3)
    with pytest.raises(ConfigError, match=r"nowhere/results\.json holds no results of a training"):
        fit(pairs, replace(config, beside="nowhere"), tmp_path / "one")
    train(pairs, out=tmp_path / "plain", config=config)
    with pytest.raises(ConfigError, match=r"plain differs in epochs, seed\. Train both on the same pairs"):
        fit(pairs, replace(config, epochs=2.0, seed=1, beside=str(tmp_path / "plain")), tmp_path / "two")
    turned = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in wordy_pairs]
    with pytest.raises(ConfigError, match="plain differs in pairs or labels"):
        fit(PairSet.from_rows(turned), replace(config, beside=str(tmp_path / "plain")), tmp_path / "three")
