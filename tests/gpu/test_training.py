"""The same training on an accelerator as on a CPU."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from outweigh.data.config import TokenConfig
from outweigh.data.pairs import read_pairs
from outweigh.models.reward import RewardModel
from outweigh.training.config import TrainConfig
from outweigh.training.fit import fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator on this machine"),
]


@pytest.mark.parametrize("backbone", ["tiny_llama", "tiny_bert"])
def test_float32_rewards_are_those_of_a_cpu(backbone, wordy_pairs, tmp_path, request):
    folder = request.getfixturevalue(backbone)
    pairs = read_pairs(wordy_pairs)
    config = TrainConfig(backbone=str(folder), tokens=TokenConfig(max_tokens=96), precision="fp32")
    here = fit(pairs, config, tmp_path / "here").model
    assert here.device.type == "cuda"
    there = RewardModel.load(tmp_path / "here" / "model", device="cpu", precision="fp32")
    for ours, theirs in zip(here.score_pairs(pairs), there.score_pairs(pairs), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_bfloat16_trains_and_its_model_scores_on_a_machine_without(tiny_llama, wordy_pairs, tmp_path):
    pairs = read_pairs(wordy_pairs)
    config = TrainConfig(backbone=str(tiny_llama), tokens=TokenConfig(max_tokens=96), learning_rate=3e-3)
    fit(pairs, config, tmp_path / "bf16")
    data = tmp_path / "pairs.jsonl"
    data.write_text('{"prompt": "Ask.", "chosen": "Tea, please.", "rejected": "Tea now."}\n')
    model, out = str(tmp_path / "bf16" / "model"), str(tmp_path / "scored.jsonl")
    subprocess.run(
        [sys.executable, "-m", "outweigh", "score", model, str(data), "--out", out],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        check=True,
        timeout=300,
    )
    assert (tmp_path / "scored.jsonl").read_text().count("reward_chosen") == 1
