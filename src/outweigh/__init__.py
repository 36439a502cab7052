"""outweigh turns noisy preference pairs into a reward model that can be trusted, and shows why it can.

    import outweigh

    audit = outweigh.audit("pairs.jsonl", out="audit")
    outweigh.denoise("pairs.jsonl", audit="audit", out="pairs.clean.jsonl")
    outweigh.train("pairs.clean.jsonl", out="trained")
    model = outweigh.RewardModel.load("trained/model")
    model.score(["Name a prime."], ["Seven."])

Names are loaded when they are first used: `import outweigh` itself loads neither torch nor transformers.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outweigh.align.config import DPOConfig, RLConfig
    from outweigh.data.config import TokenConfig
    from outweigh.data.pairs import PairSet, read_pairs
    from outweigh.denoising.policies import RepairOptions
    from outweigh.generation.config import SamplingConfig
    from outweigh.models.reward import RewardModel
    from outweigh.objectives.listwise import plackett_luce
    from outweigh.objectives.pairwise import pairwise_loss
    from outweigh.servers.config import ServerConfig
    from outweigh.steps.align import align_dpo
    from outweigh.steps.audit import audit
    from outweigh.steps.config import AuditConfig, RunConfig
    from outweigh.steps.demo import demo
    from outweigh.steps.denoise import denoise
    from outweigh.steps.evaluate import evaluate
    from outweigh.steps.generate import generate
    from outweigh.steps.judge import judge
    from outweigh.steps.rl import align_rl
    from outweigh.steps.run import run
    from outweigh.steps.score import score
    from outweigh.steps.select import select
    from outweigh.steps.train import train
    from outweigh.study.run import run_study
    from outweigh.training.config import TrainConfig
    from outweigh.voting.config import ProbeConfig, VoteConfig

__version__ = version("outweigh")

_HOME = {
    "AuditConfig": "steps.config",
    "DPOConfig": "align.config",
    "PairSet": "data.pairs",
    "ProbeConfig": "voting.config",
    "RLConfig": "align.config",
    "RepairOptions": "denoising.policies",
    "RewardModel": "models.reward",
    "RunConfig": "steps.config",
    "SamplingConfig": "generation.config",
    "ServerConfig": "servers.config",
    "TokenConfig": "data.config",
    "TrainConfig": "training.config",
    "VoteConfig": "voting.config",
    "align_dpo": "steps.align",
    "align_rl": "steps.rl",
    "audit": "steps.audit",
    "demo": "steps.demo",
    "denoise": "steps.denoise",
    "evaluate": "steps.evaluate",
    "generate": "steps.generate",
    "judge": "steps.judge",
    "pairwise_loss": "objectives.pairwise",
    "plackett_luce": "objectives.listwise",
    "read_pairs": "data.pairs",
    "run": "steps.run",
    "run_study": "study.run",
    "score": "steps.score",
    "select": "steps.select",
    "train": "steps.train",
}

__all__ = [
    "AuditConfig",
    "DPOConfig",
    "PairSet",
    "ProbeConfig",
    "RLConfig",
    "RepairOptions",
    "RewardModel",
    "RunConfig",
    "SamplingConfig",
    "ServerConfig",
    "TokenConfig",
    "TrainConfig",
    "VoteConfig",
    "align_dpo",
    "align_rl",
    "audit",
    "demo",
    "denoise",
    "evaluate",
    "generate",
    "judge",
    "pairwise_loss",
    "plackett_luce",
    "read_pairs",
    "run",
    "run_study",
    "score",
    "select",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'outweigh' has no attribute {name!r}")
    return getattr(import_module(f"outweigh.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
