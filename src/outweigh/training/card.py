"""The model card that lies beside the weights."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml


class Kind(NamedTuple):
    """What a card calls its model."""

    title: str
    pipeline: str
    tags: tuple[str, ...]
    about: str


REWARD_MODEL = Kind(
    "Reward model",
    "text-classification",
    ("reward-model", "outweigh"),
    "A sequence classifier with one label; its logit is the reward, in nats of log-odds: the chance that "
    "response a is preferred to b is sigma(r_a - r_b). Only differences between responses to one prompt mean "
    "anything.",
)
POLICY = Kind(
    "Policy",
    "text-generation",
    ("dpo", "outweigh"),
    "A causal model trained on preference pairs, in which a response's reward is "
    "beta log(policy / reference). Accuracy is of that reward.",
)


def write_card(folder: Path, kind: Kind, backbone: str, results: dict[str, Any]) -> None:
    """Nothing; writes README.md: what the model is, from which data and how it was made, how well it did."""
    front = {
        "library_name": "transformers",
        "pipeline_tag": kind.pipeline,
        "tags": list(kind.tags),
        "base_model": backbone,
    }
    evaluations = [each for each in results["log"] if "eval_accuracy" in each]
    kept = [each for each in evaluations if each["step"] == results["best_step"]] or evaluations[-1:]
    measured = (
        f"On {results['validation']['pairs']} validation pairs (unit: {results['validation']['unit']}), with "
        f"the labels as they came: accuracy {kept[0]['eval_accuracy']:.3f}, log loss "
        f"{kept[0]['eval_log_loss']:.3f} nats. The run's results.json has the figures on held-out pairs."
        if kept
        else "Not validated while training."
    )
    alarms = "".join(f"- {name}: {each['cause']}\n" for name, each in results["alarms"].items()) or "None.\n"
    settings = {key: value for key, value in results["config"].items() if value not in (None, {}, "auto")}
    (folder / "README.md").write_text(
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {kind.title}\n\n{kind.about}\n\n"
        f"Trained with outweigh from `{backbone}` on {results['pairs']} pairs "
        f"(content sha256 `{results['data_sha256'][:16]}`), {results['steps']} steps.\n\n"
        f"## Measured\n\n{measured}\n\n## Alarms while training\n\n{alarms}\n"
        f"## Settings\n\n```yaml\n{yaml.safe_dump(settings, sort_keys=False)}```\n"
    )
