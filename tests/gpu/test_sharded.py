"""Sharded training gives the model that plain training gives. On a CPU accelerate ignores both ways."""

import json
import subprocess
import sys

import pytest
import torch

SCRIPT = """
import json, sys
from pathlib import Path
from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet
from outweigh.training.config import TrainConfig
from outweigh.training.fit import fit

rows, backbone, out = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2], Path(sys.argv[3])
config = TrainConfig(
    backbone=backbone, tokens=TokenConfig(max_tokens=96), precision="fp32", validation=0.2, batch_pairs=8,
    trainer=json.loads(sys.argv[4]),
)
fit(PairSet.from_rows(rows), config, out)
"""
ZERO_3 = {
    "zero_optimization": {"stage": 3},
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
}
SETTINGS = {
    "fsdp2": {"fsdp": True, "fsdp_config": {"version": 2}},
    "deepspeed": {"deepspeed": ZERO_3, "optim": "adamw_torch"},
}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator on this machine"),
]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_sharded_run_trains_the_model_of_a_plain_one(name, tiny_llama, wordy_pairs, tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps(wordy_pairs))
    (tmp_path / "train.py").write_text(SCRIPT)
    processes = min(2, torch.cuda.device_count())
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    told = [str(tmp_path / "train.py"), str(tmp_path / "rows.json"), str(tiny_llama)]
    for command in (
        [*launch, *told, str(tmp_path / "sharded"), json.dumps(SETTINGS[name])],
        [sys.executable, *told, str(tmp_path / "plain"), "{}"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
        assert done.returncode == 0, done.stderr[-3000:]
    plain, sharded = (weights(tmp_path / name / "model") for name in ("plain", "sharded"))
    assert plain.keys() == sharded.keys()
    assert max((plain[each] - sharded[each]).abs().max().item() for each in plain) < 1e-4


def weights(folder):
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(folder).state_dict()
