"""What a configuration refuses by itself, before data or a model is read."""

import pytest

from outweigh.align.config import DPOConfig
from outweigh.align.shaping import ShapingConfig
from outweigh.data.config import TokenConfig
from outweigh.errors import ConfigError
from outweigh.servers.config import ServerConfig
from outweigh.steps.config import AuditConfig
from outweigh.training.config import ContrastConfig, MetaConfig, SimilarityConfig, TrainConfig
from outweigh.voting.config import VoteConfig


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"batch_pairs": 0}, "batch_pairs: got 0, want a whole number, 1 or more"),
        ({"batch_pairs": 8.5}, "batch_pairs: got 8.5, want a whole number"),
        ({"batch_pairs": None}, "batch_pairs: got None"),
        ({"batch_pairs": True}, "batch_pairs: got True"),
        ({"device_pairs": 0}, "device_pairs: got 0, want a whole number, 1 or more"),
        ({"epochs": 0}, "epochs: got 0, want more than 0"),
        ({"learning_rate": "fast"}, "learning_rate: got 'fast', want 0 or more"),
        ({"warmup_fraction": 2}, "warmup_fraction: got 2, want 0 or more, and at most 1"),
        ({"dropout": 1.0}, "dropout: got 1.0"),
        ({"lora_rank": 0}, "lora_rank: got 0"),
        ({"evaluations": 0}, "evaluations: got 0, want a whole number, 1 or more"),
        ({"lora_rank": 8}, "lora_rank: has no meaning with method full, want method lora"),
        ({"seed": -1}, "seed: got -1"),
        ({"layers": 0}, "layers: got 0"),
        ({"keep": "Best"}, "keep: got 'Best', want one of last, best"),
        ({"keep": "best", "validation": 0}, "keep best: got validation 0"),
        ({"patience": 1, "validation": 0}, "patience: got validation 0"),
        ({"method": "half"}, "method: got 'half', want one of full, lora, frozen"),
        ({"precision": "fp16"}, "precision: got 'fp16', want one of auto, bf16, fp32"),
        ({"loss_at": "first"}, "loss_at: got 'first', want one of last, tokens"),
        ({"objective": "triples"}, "objective: got 'triples', want one of pairs, listwise"),
        ({"auxiliary": {"centring": -0.1}}, "auxiliary centring: got -0.1, want a number of 0 or more"),
        ({"auxiliary": {"centring": "1e-3"}}, "auxiliary centring: got '1e-3', want a number"),
        ({"method": "frozen", "gradient_checkpointing": True}, "saves nothing with method frozen"),
    ],
)
def test_what_training_can_not_mean_is_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        TrainConfig(**given)


def test_none_is_taken_where_its_type_has_it():
    assert ShapingConfig(clip=None).clip is None  # its default is a number
    assert ServerConfig(requests_per_minute=None).requests_per_minute is None


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: MetaConfig(rho=-1), "meta rho: got -1, want more than 0"),
        (lambda: MetaConfig(rho=0.1, eta=0.1), "got eta 0.1 and rho 0.1, want one of them"),
        (lambda: MetaConfig(responses=1), "meta responses: got 1, want a whole number, 2 or more"),
        (lambda: ContrastConfig(kind="moco"), "contrast kind: got 'moco', want one of none, simcse, swav"),
        (lambda: ContrastConfig(kind="swav", epsilon=0), "contrast epsilon: got 0, want more than 0"),
        (lambda: SimilarityConfig(pooling="last"), "similarity pooling: got 'last', want one of mean, first"),
        (lambda: ContrastConfig(kind="simcse", rounds=5), "contrast rounds: has no meaning with kind simcse"),
        (lambda: DPOConfig(beta=0), "beta: got 0, want more than 0"),
        (lambda: DPOConfig(lora_alpha=8), "lora_alpha: has no meaning with method full"),
        (
            lambda: VoteConfig(voters=("a",), trainings=3),
            "votes trainings: has no meaning beside votes.voters",
        ),
        (
            lambda: VoteConfig(method="probes", jobs=2),
            "votes jobs: has no meaning with probes, want votes.me",
        ),
        (lambda: VoteConfig(folds=3), "votes folds: has no meaning with votes in-sample"),
        (
            lambda: VoteConfig(method="full", vote="out-of-fold", depth=0.5),
            "votes depth: has no meaning with f",
        ),
        (lambda: DPOConfig(batch_pairs=0), "batch_pairs: got 0"),
        (lambda: TokenConfig(max_tokens=7), "max_tokens: got 7, want a whole number, 8 or more"),
        (lambda: TokenConfig(on_long="wrap"), "on_long: got 'wrap', want one of truncate, drop, error"),
        (lambda: ServerConfig(concurrency=1.5), "server concurrency: got 1.5, want a whole number"),
        (lambda: ServerConfig(timeout=None), "server timeout: got None, want more than 0"),
        (lambda: ShapingConfig(clip=0), "clip: got 0, want more than 0"),
        (lambda: AuditConfig(seed=-1), "seed: got -1, want a whole number, 0 or more"),
        (lambda: DPOConfig(loss="hinge"), "loss: got 'hinge', want one of logistic, squared"),
    ],
)
def test_its_parts_and_a_policys_are_refused_alike(made, said):
    with pytest.raises(ConfigError, match=said):
        made()
