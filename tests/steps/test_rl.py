"""Rounds of reinforcement learning on files, with tiny models: TRL for real, MetaRM between, killed and
resumed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

import outweigh
from outweigh.align.config import RLConfig
from outweigh.align.shaping import ShapingConfig
from outweigh.data.config import TokenConfig
from outweigh.errors import ConfigError, DataError
from outweigh.integrations import verl
from outweigh.models.loading import load_classifier, load_tokenizer
from outweigh.models.policy import load_policy
from outweigh.models.reward import RewardModel
from outweigh.steps.rl import _parted as parted_prompts
from outweigh.training.config import ContrastConfig, MetaConfig, TrainConfig

pytest.importorskip("trl")

QUICK = {
    "n": 2,
    "batch_prompts": 4,
    "device_responses": 4,
    "max_new_tokens": 8,
    "eval_prompts": 4,
    "eval_n": 2,
    "learning_rate": 1e-3,
    "precision": "fp32",
}
PROMPTS = [{"prompt": f"Name prime number {number}."} for number in range(12)]
REWARD = TrainConfig(batch_pairs=16, precision="fp32", meta=MetaConfig(prompts=4))


@pytest.fixture(scope="module")
def judge(tiny_chat, tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    torch.manual_seed(0)
    tokenizer = load_tokenizer(tiny_chat)
    RewardModel(load_classifier(tiny_chat, tokenizer), tokenizer, TokenConfig(max_tokens=96)).save(folder)
    return folder


@pytest.fixture(scope="module")
def pairs_file(wordy_pairs, tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in wordy_pairs))
    return path


@pytest.fixture(scope="module")
def two_rounds(tiny_chat, judge, pairs_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("rl") / "out"
    config = RLConfig(policy=str(tiny_chat), rounds=2, **QUICK)
    found = outweigh.align_rl(
        PROMPTS, reward_model=judge, pairs=pairs_file, reward=REWARD, out=out, config=config
    )
    return out, found


def test_two_rounds_leave_policies_reward_models_curves_and_facts(two_rounds, tiny_chat):
    out, found = two_rounds
    assert [facts.round for facts in found["rounds"]] == [0, 1, 2]
    assert found["data"].pop("files")[0]["path"] == "rows in memory"
    assert found["data"] == {"prompts": 8, "followed": 4, "bad_rows": []}
    assert RewardModel.load(found["reward_models"][1]).tokens.max_tokens == 96  # the reward model's own
    assert found["reward_models"][1] == str(out / "round_2" / "reward" / "model")
    assert found["rounds"][0].divergence.value == 0 != found["rounds"][2].divergence.value
    assert all(len(log) == 2 for log in found["log"])  # two batches of four prompts a round
    assert sum(found["rounds"][1].wins.values()) == pytest.approx(1)
    assert [facts.own_gain is None for facts in found["rounds"]] == [True, True, False]
    assert (out / "plots" / "round_gains.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "report.html").read_text()
    assert "The rounds, on the followed prompts" in page and 'id="plot-round_divergence"' in page
    assert "by its own model" in page
    written = json.loads((out / "results.json").read_text())
    assert written["rounds"][2]["reward_gain"]["value"] == found["rounds"][2].reward_gain.value
    load_policy(out / "policy")
    kept = (out / "policy" / "model.safetensors").read_bytes()
    assert kept == (out / f"round_{found['kept']}" / "policy" / "model.safetensors").read_bytes()


def test_a_round_goes_on_from_the_weights_of_the_one_before_with_the_first_as_reference(
    two_rounds, tiny_chat
):
    out, _ = two_rounds
    first, one, two = (
        dict(load_policy(each).named_parameters())
        for each in (tiny_chat, out / "round_1" / "policy", out / "round_2" / "policy")
    )

    def apart(a, b):
        return sum(float((a[name] - b[name]).detach().norm()) for name in a)

    assert apart(first, two) > apart(first, one) > 0  # as where steps add up
    assert apart(one, two) < apart(first, two)  # from where the first round ended
    kl = [json.loads((out / f"round_{n}" / "log.json").read_text())["log"][0]["kl"] for n in (1, 2)]
    assert (
        kl[0] == 0 != kl[1]
    )  # an estimate, of either sign: the second round begins away from the first policy


def test_the_prompts_lie_there_as_verl_reads_them_for_its_reward_function(two_rounds, judge):
    out, _ = two_rounds
    asked = []
    for name, count in (("prompts", 8), ("followed", 4)):
        table = pd.read_parquet(out / f"{name}.parquet")  # as verl does: lists become arrays
        assert len(table) == count and set(table["data_source"]) == {"outweigh"}
        for place, row in table.iterrows():
            assert list(row["prompt"]) == list(row["extra_info"]["prompt"])
            assert (row["extra_info"]["split"], row["extra_info"]["index"]) == (name, place)
            asked.append(row["prompt"][0]["content"])
            score = verl.compute_score(
                row["data_source"],
                "Two.",
                row["reward_model"]["ground_truth"],
                row["extra_info"],
                model=str(judge),
            )
            expected = RewardModel.load(judge).score([asked[-1]], ["Two."])
            assert score["score"] == pytest.approx(expected[0], rel=1e-5)
    assert sorted(asked) == sorted(row["prompt"] for row in PROMPTS)


def test_no_round_writes_the_prompts_and_judges_the_first_policy_alone(
    two_rounds, tiny_chat, judge, tmp_path, capsys
):
    from outweigh.cli.main import main

    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    flags = [part for name, value in QUICK.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    out = tmp_path / "out"
    how = [
        "align",
        "rl",
        str(data),
        "--reward-model",
        str(judge),
        "--policy",
        str(tiny_chat),
        "--out",
        str(out),
    ]
    assert main([*how, "--rounds", "0", *flags]) == 0
    assert "prompts for other trainers are in" in capsys.readouterr().out
    _, found = two_rounds
    (facts,) = json.loads((out / "results.json").read_text())["rounds"]
    assert facts["reward"]["value"] == pytest.approx(found["rounds"][0].reward.value)
    assert not (out / "policy").exists() and (out / "prompts.parquet").exists()
    assert "The first policy is judged; no round has been run." in (out / "report.html").read_text()
    assert main([*how, "--resume", *flags]) == 0  # one round after all
    assert (out / "policy").exists()
    assert main([*how, "--resume", "--rounds", "0", *flags]) == 2  # which would be lost
    assert "holds more than 0 rounds" in capsys.readouterr().err and (out / "policy").exists()


def test_metarm_saw_what_the_policy_says_now(two_rounds):
    out, _ = two_rounds
    shifted = [json.loads(line) for line in (out / "round_2" / "shifted.jsonl").read_text().splitlines()]
    assert len(shifted) == 8 and all(len(row["responses"]) == 5 for row in shifted)


def test_a_folder_with_a_run_is_gone_on_with_only_by_the_same_settings(
    two_rounds, tiny_chat, judge, pairs_file
):
    out, found = two_rounds
    config = RLConfig(policy=str(tiny_chat), rounds=2, **QUICK)
    how = {"reward_model": judge, "pairs": pairs_file, "reward": REWARD, "out": out}
    with pytest.raises(ConfigError, match=r"holds a run\. Go on with --resume"):
        outweigh.align_rl(PROMPTS, config=config, **how)
    with pytest.raises(ConfigError, match="of other prompts or settings"):
        outweigh.align_rl(PROMPTS[:11], config=config, resume=True, **how)
    began = time.monotonic()
    again = outweigh.align_rl(PROMPTS, config=config, resume=True, **how)
    assert again["rounds"][2].reward == found["rounds"][2].reward
    assert time.monotonic() - began < 20  # nothing is trained or drawn again


def test_a_folder_that_another_command_made_is_left_alone(tiny_chat, judge, tmp_path):
    shutil.copytree(tiny_chat, tmp_path / "policy")
    config = RLConfig(policy=str(tmp_path / "policy"), **QUICK)
    with pytest.raises(ConfigError, match="holds what another command made"):
        outweigh.align_rl(PROMPTS, reward_model=judge, out=tmp_path, config=config)
    assert [each.name for each in tmp_path.iterdir()] == ["policy"]
    file = tmp_path / "policy" / "config.json"
    with pytest.raises(ConfigError, match=r"is a file\. Name a folder"):
        outweigh.align_rl(PROMPTS, reward_model=judge, out=file, config=config)
    served = RLConfig(policy="http://127.0.0.1:1/v1", **QUICK)
    with pytest.raises(ConfigError, match=r"is served\. Name one that can be trained"):
        outweigh.align_rl(PROMPTS, reward_model=judge, out=tmp_path / "new", config=served)


@pytest.mark.parametrize(
    "reached", ["round_1/checkpoints/checkpoint-*", "round_2/reward/checkpoints/identity"]
)
def test_a_run_killed_within_a_round_goes_on_to_its_end(reached, tiny_chat, judge, pairs_file, tmp_path):
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"Say {number}."}) + "\n" for number in range(44)))
    options = {**QUICK, "batch_prompts": 2, "policy": str(tiny_chat), "rounds": 2}
    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    out = tmp_path / "out"
    program = [sys.executable, "-m", "outweigh", "align", "rl", str(data), "--out", str(out)]
    program += ["--reward-model", str(judge), "--pairs", str(pairs_file), "--reward.batch-pairs", "16"]
    program += ["--reward.precision", "fp32", "--reward.meta.prompts", "4", *flags]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 240
    while time.monotonic() < until and not list(out.glob(reached)):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / reached.partition("/")[0] / "policy").exists()
    done = subprocess.run([*program, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "The policy of round 2 (the last one, as nothing tells gold)" in done.stdout
    assert "FutureWarning" not in done.stderr
    whole = tmp_path / "whole"
    program[program.index(str(out))] = str(whole)
    subprocess.run(program, capture_output=True, check=True)
    for name in ("round_1/policy", "round_2/reward/model", "round_2/policy"):
        load = RewardModel.load if name.endswith("model") else load_policy
        ends = [load(each / name) for each in (out, whole)]
        killed, unbroken = (getattr(each, "model", each).state_dict() for each in ends)
        for name in killed:
            torch.testing.assert_close(killed[name], unbroken[name], atol=1e-6, rtol=1e-4)


def test_full_training_and_a_reference_reward_work_without_gold(tiny_chat, judge, tmp_path):
    config = RLConfig(
        policy=str(tiny_chat),
        method="full",
        algorithm="grpo",
        rounds=2,
        shaping=ShapingConfig(against="reference"),
        **QUICK,
    )
    found = outweigh.align_rl(PROMPTS, reward_model=judge, out=tmp_path / "out", config=config)
    assert all(0 < entry["reward"] < 1 for log in found["log"] for entry in log)  # chances
    assert found["rounds"][2].gold is None and found["kept"] == 2
    start = load_policy(tiny_chat).state_dict()
    end = load_policy(tmp_path / "out" / "policy").state_dict()
    assert any(not torch.equal(start[name], end[name]) for name in start)


def test_a_reward_that_wants_a_letter_is_raised(tiny_chat, tmp_path, monkeypatch):
    """A rule in place of a model: the share of responses' characters that are a lower e."""
    from outweigh.models.reward import Scorer
    from outweigh.steps import rl

    class LikesE(Scorer):
        def score_texts(self, texts):
            said = [response[0].content for _, response in texts]
            return np.array([10.0 * each.count("e") / max(1, len(each)) for each in said])

    monkeypatch.setattr(rl, "load_scorer", lambda name, server=None: LikesE())
    monkeypatch.setattr(rl, "_weights", lambda *models: [])
    quick = QUICK | {"n": 8, "device_responses": 32, "epochs": 15.0, "learning_rate": 5e-3, "eval_n": 16}
    config = RLConfig(policy=str(tiny_chat), method="full", kl=0.0, **quick)
    found = outweigh.align_rl(PROMPTS, reward_model="rule", out=tmp_path / "out", config=config)
    assert found["rounds"][1].reward_gain.low > 0


@pytest.mark.parametrize(
    ("prompts", "settings", "said"),
    [
        (PROMPTS[:4], {}, "got 4 distinct prompts, want more than the 4"),
        (PROMPTS[:6], {}, "got 2 prompts to train on, want a batch of 4"),
        ([{"prompt": "long " * 200}, *PROMPTS], {}, r"row 1: prompt of 1,\d+ tokens .* do not fit"),
        ([{"prompt": ""}, *PROMPTS], {}, "row 1: no prompt to answer"),
    ],
)
def test_prompts_that_will_not_do_are_refused_before_anything_is_trained(
    prompts, settings, said, tiny_chat, judge, tmp_path
):
    config = RLConfig(policy=str(tiny_chat), **(QUICK | settings))
    with pytest.raises(DataError, match=said):
        outweigh.align_rl(prompts, reward_model=judge, out=tmp_path / "out", config=config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"pairs": []}, "got rounds 1, and the reward model is trained between two"),
        ({"reward": TrainConfig(epochs=2.0)}, "got epochs, but no pairs"),
        ({"pairs": [], "rounds": 2, "reward": TrainConfig(seed=3)}, "got seed, which the rounds decide"),
        ({"pairs": [], "rounds": 2, "model": "mean:{0},{0}"}, "several reward models as one"),
        (
            {"pairs": [], "rounds": 2, "model": "http://127.0.0.1:9/get_reward"},
            "is served, and MetaRM needs its weights. Name its folder or Hub name .* or leave pairs out",
        ),
    ],
)
def test_what_would_have_no_effect_is_refused(told, said, tiny_chat, judge, tmp_path):
    config = RLConfig(policy=str(tiny_chat), rounds=told.pop("rounds", 1), **QUICK)
    model = told.pop("model", "{0}").format(judge)
    with pytest.raises(ConfigError, match=said):
        outweigh.align_rl(PROMPTS, reward_model=model, out=tmp_path / "out", config=config, **told)


def test_pairs_that_will_not_do_are_told_before_the_first_round(tiny_chat, judge, wordy_pairs, tmp_path):
    out, config = tmp_path / "out", RLConfig(policy=str(tiny_chat), rounds=2, **QUICK)
    bad = [*wordy_pairs, {"prompt": "Ask.", "chosen": "Please."}]
    for pairs, reward, error, said in (
        (bad, None, DataError, "row 61: no column 'rejected'"),
        (wordy_pairs, TrainConfig(margin="column"), ConfigError, "the data has no column margin"),
        (wordy_pairs, TrainConfig(objective="listwise"), ConfigError, "listwise: got pairs"),
        (wordy_pairs, TrainConfig(contrast=ContrastConfig(kind="simcse")), ConfigError, "dropout"),
    ):
        with pytest.raises(error, match=said):
            outweigh.align_rl(PROMPTS, reward_model=judge, pairs=pairs, reward=reward, out=out, config=config)
    assert not out.exists()


def test_bad_rows_of_the_pairs_are_skipped_where_that_is_asked_and_listed(
    tiny_chat, judge, wordy_pairs, tmp_path
):
    config = RLConfig(policy=str(tiny_chat), rounds=2, **QUICK)
    pairs = [*wordy_pairs, {"prompt": "Ask.", "chosen": "Please."}]
    how = {"pairs": pairs, "reward": REWARD, "config": config, "on_bad_rows": "skip"}
    found = outweigh.align_rl(PROMPTS, reward_model=judge, out=tmp_path / "out", **how)
    assert (tmp_path / "out" / "round_2" / "reward" / "model").exists() and found["kept"] == 2
    assert "no column 'rejected'" in (tmp_path / "out" / "bad_rows.jsonl").read_text()


def test_a_served_reward_model_does_what_the_same_one_in_memory_does(
    tiny_chat, judge, tmp_path, server, caplog
):
    loaded = RewardModel.load(judge)

    def answer(body):
        ids = [loaded.tokenizer(text, add_special_tokens=False)["input_ids"] for text in body["query"]]
        return {"rewards": loaded.score_ids(ids).tolist()}

    server.answer = answer
    served = server.url.replace("/v1", f"/get_reward#{tiny_chat}")
    config = RLConfig(policy=str(tiny_chat), rounds=2, **QUICK)
    found = [
        outweigh.align_rl(PROMPTS, reward_model=name, out=tmp_path / place, config=config)
        for name, place in ((judge, "memory"), (served, "served"))
    ]
    for one, other in zip(*(each["rounds"] for each in found), strict=True):
        assert other.reward.value == pytest.approx(one.reward.value, abs=1e-4)
    assert set(server.paths) == {"/get_reward"}


def test_a_rounds_own_gain_is_by_the_model_that_metarm_made_for_it(two_rounds):
    out, found = two_rounds
    texts = [
        [
            (row["prompt"], response)
            for row in map(json.loads, (out / place / "answers.jsonl").read_text().splitlines())
            for response in row["responses"]
        ]
        for place in ("start", "round_2")
    ]
    own = RewardModel.load(found["reward_models"][1])
    before, after = (own.score(*zip(*each, strict=True)).mean() for each in texts)
    assert found["rounds"][2].own_gain.value == pytest.approx(after - before, abs=1e-4)
    first = RewardModel.load(found["reward_models"][0])
    assert abs(first.score(*zip(*texts[1], strict=True)).mean() - after) > 4e-4  # another model


def test_what_a_served_reward_model_refuses_ends_no_round(tiny_chat, judge, tmp_path, server, caplog):
    loaded = RewardModel.load(judge)

    def answer(body):
        if any("prime number 3" in text for text in body["query"]):
            return (413, b"too long")
        ids = [loaded.tokenizer(text, add_special_tokens=False)["input_ids"] for text in body["query"]]
        return {"rewards": loaded.score_ids(ids).tolist()}

    server.answer = answer
    served = server.url.replace("/v1", f"/get_reward#{tiny_chat}")
    config = RLConfig(policy=str(tiny_chat), rounds=1, **QUICK)
    found = outweigh.align_rl(PROMPTS, reward_model=served, eval=PROMPTS[2:6], out=tmp_path, config=config)
    assert [facts.round for facts in found["rounds"]] == [0, 1]
    assert np.isfinite([facts.reward.value for facts in found["rounds"]]).all()
    assert "answers have no reward. The first:" in caplog.text and "too long" in caplog.text
    assert [facts.refused for facts in found["rounds"]] == [QUICK["eval_n"]] * 2
    trained = outweigh.align_rl(
        PROMPTS[:8], reward_model=served, eval=PROMPTS[8:], out=tmp_path / "t", config=config
    )
    assert all(np.isfinite(entry["reward"]) for entry in trained["log"][0])
    assert "completions have no reward" in caplog.text


def test_where_no_round_has_more_gold_than_the_start_no_policy_is_kept(tiny_chat, tmp_path, monkeypatch):
    from outweigh.models.reward import Scorer
    from outweigh.steps import rl

    class Says(Scorer):
        def __init__(self, sign):
            self.sign = sign

        def score_texts(self, texts):
            return self.sign * np.array([each[1][0].content.count("e") for each in texts], dtype=np.float64)

    monkeypatch.setattr(rl, "load_scorer", lambda name, server=None: Says(-1.0 if name == "gold" else 1.0))
    monkeypatch.setattr(rl, "_weights", lambda *models: [])
    quick = QUICK | {"n": 8, "device_responses": 32, "epochs": 10.0, "learning_rate": 5e-3, "eval_n": 16}
    config = RLConfig(policy=str(tiny_chat), method="full", kl=0.0, **quick)
    found = outweigh.align_rl(
        PROMPTS, reward_model="r", gold_model="gold", out=tmp_path / "out", config=config
    )
    assert found["kept"] == 0 and not (tmp_path / "out" / "policy").exists()
    assert "over-optimisation" in found["rounds"][1].alarms and found["stopped"] == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"n": 1},
        {"device_responses": 0},
        {"temperature": 0.0},
        {"kl": -1.0},
        {"seed": -1},
        {"rounds": -1},
        {"algorithm": "ppo"},
        {"method": "frozen"},
        {"device_responses": 5},
    ],
)
def test_settings_without_a_sense_are_refused(settings):
    with pytest.raises(ConfigError, match="got"):
        RLConfig(**settings)


def followed(config, tiny_chat, prompts=PROMPTS, **how):
    return parted_prompts(prompts, how.get("eval"), RLConfig(policy=str(tiny_chat), **config), "error")


def test_the_followed_prompts_are_as_many_as_told_drawn_by_the_seed_and_never_trained_on(tiny_chat):
    seen = []
    for seed in (0, 0, 1):
        config = QUICK | {"eval_prompts": 5, "seed": seed}
        trained, apart, _ = followed(config, tiny_chat)
        assert (len(trained), len(apart)) == (7, 5) and not set(trained) & set(apart)
        asked = [row["prompt"] for row in PROMPTS]
        assert sorted(said for ((_, said),) in (*trained, *apart)) == sorted(asked)
        places = [asked.index(prompt[0].content) for prompt in apart]
        assert places == sorted(places)  # in the order of the file
        seen.append(apart)
    assert seen[0] == seen[1] != seen[2]


def test_of_equal_prompts_one_counts_before_any_is_kept_apart(tiny_chat):
    trained, apart, _ = followed(QUICK | {"eval_prompts": 8}, tiny_chat, PROMPTS * 3)
    assert (len(trained), len(apart)) == (4, 8)


def test_with_a_file_of_prompts_to_follow_none_is_kept_apart_but_theirs(tiny_chat):
    others = [{"prompt": "Name a lake."}, PROMPTS[3], {"prompt": "Name a lake."}]
    trained, apart, _ = followed(QUICK | {"eval_prompts": 9}, tiny_chat, eval=others)
    assert [prompt[0].content for prompt in apart] == ["Name a lake.", PROMPTS[3]["prompt"]]
    assert len(trained) == 11  # the one that both files have is not trained on


def test_fewer_than_two_followed_prompts_have_no_interval_and_are_refused(tiny_chat):
    with pytest.raises(ConfigError, match="eval_prompts: got 1, want a whole number, 2 or more"):
        RLConfig(eval_prompts=1)
    trained, apart, _ = followed(QUICK | {"eval_prompts": 8}, tiny_chat)
    assert (len(trained), len(apart)) == (4, 8)  # the most that leave one batch
    with pytest.raises(DataError, match="got 3 prompts to train on, want a batch of 4"):
        followed(QUICK | {"eval_prompts": 9}, tiny_chat)


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_an_encoder_as_policy_a_folder_in_use_and_several_processes_are_refused(
    dry, tiny_bert, tiny_chat, judge, tmp_path, capsys, monkeypatch
):
    from outweigh.cli.main import main

    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "identity").write_text("another")
    flags = ["--eval-prompts", "4", "--batch-prompts", "4", "--reward-model", str(judge)]

    def refused(policy, out):
        how = ["align", "rl", str(data), "--policy", str(policy), "--out", str(tmp_path / out)]
        assert main([*how, *flags, *dry]) == 2
        return capsys.readouterr().err

    assert "no causal model" in refused(tiny_bert, "new")
    assert not (tmp_path / "new").exists()
    assert "holds a run. Go on with --resume" in refused(tiny_chat, "used").replace("\n", " ")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "runs in one process, got 2" in refused(tiny_chat, "new")


def test_a_dry_run_counts_what_would_be_drawn(tiny_chat, judge, tmp_path, capsys):
    from outweigh.cli.main import main

    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    flags = [part for name, value in QUICK.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    how = ["align", "rl", str(data), "--reward-model", str(judge), "--policy", str(tiny_chat)]
    assert main([*how, "--out", str(tmp_path / "o"), "--dry-run", *flags]) == 0
    said = capsys.readouterr().out
    assert "1 rounds of 2 steps over 8 prompts, followed on 4 others" in said
    assert "Up to 32 responses to draw, 256 tokens at most" in said
