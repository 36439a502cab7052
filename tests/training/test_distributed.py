"""Two gloo processes on this machine must train the same model as one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

SCRIPT = """
import json, sys
from pathlib import Path
from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet
from outweigh.training.config import TrainConfig
from outweigh.training.fit import fit

rows, backbone, margin, device_pairs, out = json.loads(Path(sys.argv[1]).read_text()), *sys.argv[2:]
config = TrainConfig(
    backbone=backbone, tokens=TokenConfig(max_tokens=96), precision="fp32", validation=0.2, batch_pairs=8,
    margin=margin, device_pairs=int(device_pairs) or None, learning_rate=1e-3,
)
fit(PairSet.from_rows(rows), config, Path(out))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("margin", "device_pairs"), [("none", 0), ("batch", 0), ("batch", 2)])
def test_two_processes_train_the_model_that_one_trains(
    tiny_llama, wordy_pairs, tmp_path, margin, device_pairs
):
    # a margin from the step's gaps, in one batch a process or in several, is of both processes' pairs
    (tmp_path / "rows.json").write_text(json.dumps(wordy_pairs))
    (tmp_path / "train.py").write_text(SCRIPT)
    arguments = [str(tmp_path / "train.py"), str(tmp_path / "rows.json"), str(tiny_llama), margin]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29533"]
    for command in (
        [*launch, *arguments, str(device_pairs), str(tmp_path / "two")],
        [sys.executable, *arguments, "0", str(tmp_path / "one")],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (
        AutoModelForSequenceClassification.from_pretrained(Path(tmp_path, name, "model")).state_dict()
        for name in ("one", "two")
    )
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-5
