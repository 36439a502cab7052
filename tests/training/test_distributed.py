"""Two gloo processes on this machine must train the same model as one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

SCRIPT = """
import json, os, sys
from pathlib import Path
from transformers import Trainer
from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet
from outweigh.models import batches
from outweigh.training.config import ContrastConfig, MetaConfig, TrainConfig
from outweigh.training.fit import fit
from outweigh.training.trainer import PairTrainer

rows, settings, out = *(json.loads(Path(each).read_text()) for each in sys.argv[1:3]), sys.argv[3]
batches.CPU_TOKENS = settings.pop("pass_tokens", batches.CPU_TOKENS)
settings |= {"contrast": ContrastConfig(**settings.pop("contrast", {}))}
settings |= {"meta": MetaConfig(**settings.pop("meta", {}))}
config = TrainConfig(
    tokens=TokenConfig(max_tokens=96), precision="fp32", validation=0.2, batch_pairs=8,
    **{"learning_rate": 1e-3} | settings,
)
if config.dropout:  # the same masks whichever process has the text: a smooth function of its values and view
    import torch
    from outweigh.training import trainer

    view, real = [1], trainer.read_texts

    def counted(*arguments, **how):
        view[0] = 1 - view[0]
        return real(*arguments, **how)

    def dropped(self, values):
        return values * (1 + 0.3 * torch.sin((5 + view[0]) * values)) if self.training else values

    trainer.read_texts, torch.nn.Dropout.forward = counted, dropped
real_step, parts_of_steps = Trainer.training_step, []

def step(self, *given):
    parts_of_steps[-1:] = [parts_of_steps[-1] + 1]
    return real_step(self, *given)

def batch(self, *given):
    parts_of_steps.append(0)
    return real_batch(self, *given)

real_batch, PairTrainer.training_step, Trainer.training_step = PairTrainer.training_step, batch, step
fit(PairSet.from_rows(rows), config, Path(out))
if os.environ.get("RANK"):
    Path(out, "parts_of_" + os.environ["RANK"]).write_text(json.dumps(parts_of_steps))
"""


PLAIN_STEPS = {"dropout": 1e-12, "learning_rate": 0.005, "trainer": {"optim": "sgd"}}  # AdamW blows noise up
SIMCSE = PLAIN_STEPS | {"contrast": {"kind": "simcse", "coefficient": 1.0}}
SWAV = PLAIN_STEPS | {"contrast": {"kind": "swav", "coefficient": 1.0}}
SETTINGS = {
    "plain": {},
    "in parts": {"pass_tokens": 300},  # not always as many in each process
    "batch margin": {"margin": "batch"},
    "batch margin, accumulated": {"margin": "batch", "device_pairs": 2},
    "batch sum, accumulated": {"auxiliary": {"batch-sum": 0.5}, "device_pairs": 2},
    "simcse, accumulated": SIMCSE | {"device_pairs": 2},
    "swav": SWAV,
    "metarm, accumulated, in parts": {"pass_tokens": 200}
    | {"meta": {"rho": 0.05, "responses": 3, "prompts": 5}, "device_pairs": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_train_the_model_that_one_trains(tiny_llama, lively_bert, wordy_pairs, tmp_path, name):
    # what is of the optimizer step is of both processes' pairs, in one batch a process or in several; of 42
    # pairs the last step has two, and what fills it up on the second process counts for nothing
    settings = dict(SETTINGS[name])
    settings["backbone"] = str(lively_bert if "contrast" in settings else tiny_llama)
    if "meta" in settings:
        shifted = [{"prompt": f"Ask {n}.", "responses": [f"{n}.", "Please.", "Now!"]} for n in range(9)]
        (tmp_path / "shifted.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shifted))
        settings["meta"] = settings["meta"] | {"data": str(tmp_path / "shifted.jsonl")}
    unlike = [row | {"prompt": row["prompt"] * (1 + place % 3)} for place, row in enumerate(wordy_pairs[:53])]
    (tmp_path / "rows.json").write_text(json.dumps(unlike))
    (tmp_path / "train.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    whole = {name: value for name, value in settings.items() if name not in ("device_pairs", "pass_tokens")}
    runs = {"two": (launch, settings), "one": ([sys.executable], whole)}
    for run, (command, told) in runs.items():
        (tmp_path / f"{run}.json").write_text(json.dumps(told))
        arguments = [tmp_path / "train.py", tmp_path / "rows.json", tmp_path / f"{run}.json", tmp_path / run]
        done = subprocess.run(
            [*command, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=500
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (
        AutoModelForSequenceClassification.from_pretrained(Path(tmp_path, run, "model")).state_dict()
        for run in ("one", "two")
    )
    assert max((one[key] - two[key]).abs().max().item() for key in one) < 1e-5
    if "pass_tokens" in settings:
        parts = [json.loads((tmp_path / "two" / f"parts_of_{rank}").read_text()) for rank in (0, 1)]
        assert len(parts[0]) == len(parts[1]) and parts[0] != parts[1] and max(parts[0]) > 1
