"""What denoise writes trains, unmodified, in TRL's own command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import outweigh
from outweigh.data.config import TokenConfig
from outweigh.denoising.policies import RepairOptions
from outweigh.steps.config import AuditConfig
from outweigh.voting.config import ProbeConfig, VoteConfig


@pytest.mark.slow
@pytest.mark.parametrize("peer", [None, "trl"])
def test_the_output_trains_in_trl_reward(peer, wordy_pairs, tiny_llama, tiny_bert, tmp_path):
    pytest.importorskip("trl")
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in wordy_pairs * 2))
    votes = VoteConfig(
        backbone=str(tiny_bert),
        tokens=TokenConfig(max_tokens=96),
        probes=ProbeConfig(models=3, batch_pairs=16),
    )
    config = AuditConfig(votes=votes, policy="flip+margin", repair=RepairOptions(fraction=0.1))
    outweigh.audit(data, out=tmp_path / "audit", config=config)
    clean = tmp_path / "clean.jsonl"
    outweigh.denoise(data, audit=tmp_path / "audit", out=clean, peer=peer)
    settings = {
        "model_name_or_path": str(tiny_llama),
        "datasets": [{"path": "json", "data_files": str(clean), "split": "train"}],
        "output_dir": str(tmp_path / "trl"),
        "use_cpu": True,
        "bf16": False,
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "logging_steps": 1,
        "report_to": "none",
    }
    (tmp_path / "reward.yaml").write_text(yaml.safe_dump(settings))
    trl = Path(sys.executable).parent / "trl"
    done = subprocess.run(
        [str(trl), "reward", "--config", str(tmp_path / "reward.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "trl" / "model.safetensors").exists()
