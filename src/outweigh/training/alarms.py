"""Alarms while training: what has gone wrong, what it means, what to do. Each speaks once."""

import json
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from outweigh.errors import ConfigError
from outweigh.training.config import TrainConfig

logger = logging.getLogger(__name__)

MEMORISED_LOG_LOSS = 0.1
"""Mean training log loss under which labels are learnt by heart: 0.1 nats is a mean chance of .90, more than
noisy preferences support."""
ACCURACY_DROP = 0.15
"""Training accuracy minus validation accuracy that means overfitting."""
LARGEST_GAP = 20.0
"""Nats, root mean square; at a gap of 20 the model claims one error in 5e8."""
LEAST_CHANGE = 1e-3
"""Of the gradient, relative; under it MetaRM's step is a no-op."""
MOST_CONTRAST = 0.8
"""Share of a loss that its contrastive term makes up, above which it and not the ranking is trained."""
MOST_CAPPED = 0.5
"""Share of pairs whose gap is where its cap lets it rest: it, not the labels, then says what is learnt."""
LARGEST_MARGIN = 3.0
"""Mean size of the margin in standard deviations of the gap; above it nearly every pair falls short."""
ALIKE = ("epochs", "batch_pairs", "evaluations", "validation", "seed")
"""What two trainings must share for their validation accuracies to be compared evaluation by evaluation."""
SPIKE = 5.0
"""Times the median of the logs before, each of which has the largest of its steps."""
SPIKE_LOGS = 5
"""Logs before the last that a spike is judged by, at least."""
MOST_TIES = 0.5
"""Share of pairs with equal rewards; honest float32 rewards of different texts are hardly ever equal."""


@dataclass
class Watch:
    """What training has shown so far: logs of the training pairs, the newest last, and every evaluation."""

    logs: list[Mapping[str, float]] = field(default_factory=list)
    evaluations: list[Mapping[str, float]] = field(default_factory=list)
    plain: list[Mapping[str, float]] = field(default_factory=list)  # evaluations of the training beside it
    pad_token: int | None = None
    eos_token: int | None = None
    tokenizer_pad_token: int | None = None

    @property
    def training(self) -> Mapping[str, float]:
        """The newest log of the training pairs."""
        return self.logs[-1] if self.logs else {}


class Alarm(NamedTuple):
    """When it sounds (the cause in words, or None) and what to do about it."""

    cause: Callable[[Watch], str | None]
    remedy: str


def memorised(watch: Watch) -> str | None:
    """The cause where the training loss goes towards 0 while the validation loss no longer falls."""
    loss, losses = watch.training.get("log_loss"), [each["eval_log_loss"] for each in watch.evaluations]
    if loss is None or loss >= MEMORISED_LOG_LOSS or len(losses) < 2:
        return None
    if losses[-1] < min(losses[:-1]) or losses[-1] < 2 * MEMORISED_LOG_LOSS:  # it still falls, or is as low
        return None
    return f"training log loss {loss:.3f} while validation stands at {losses[-1]:.3f}"


def overfitted(watch: Watch) -> str | None:
    """The cause where validation accuracy is far under training accuracy."""
    accuracy = watch.training.get("accuracy")
    if accuracy is None or not watch.evaluations:
        return None
    held_out = watch.evaluations[-1]["eval_accuracy"]
    # Two standard errors of the difference, so that a few pairs alone can't sound it
    noise = math.sqrt(1 / watch.training["pairs"] + 1 / watch.evaluations[-1]["eval_pairs"])
    if accuracy - held_out <= ACCURACY_DROP + noise:
        return None
    return f"accuracy {accuracy:.3f} on the training pairs, {held_out:.3f} on the validation part"


def under_plain(watch: Watch) -> str | None:
    """The cause where validation accuracy is under that of plain training after as many steps."""
    place = len(watch.evaluations) - 1
    if not 0 <= place < len(watch.plain):
        return None
    accuracy, plain = (each[place]["eval_accuracy"] for each in (watch.evaluations, watch.plain))
    # About two standard errors of the difference of two models on the same pairs
    if plain - accuracy <= 1 / math.sqrt(watch.evaluations[place]["eval_pairs"]):
        return None
    return f"accuracy {accuracy:.3f} on the validation part, {plain:.3f} after as much plain training"


def running_away(watch: Watch) -> str | None:
    """The cause where the scale of the gaps has left every probability behind."""
    scale = math.hypot(watch.training.get("gap", 0.0), watch.training.get("gap_std", 0.0))
    return f"the gaps are {scale:.1f} nats (root mean square)" if scale > LARGEST_GAP else None


def equal_rewards(watch: Watch) -> str | None:
    """The cause where chosen and rejected get the same reward."""
    ties = watch.training.get("ties", 0.0)
    return f"{ties:.0%} of the pairs have two equal rewards" if ties > MOST_TIES else None


def not_a_number(watch: Watch) -> str | None:
    """The cause where a loss, a gap or the gradient's norm is NaN or infinite."""
    latest = {**watch.training, **(watch.evaluations[-1] if watch.evaluations else {})}
    bad = [name for name, value in latest.items() if isinstance(value, float) and not math.isfinite(value)]
    return f"{', '.join(bad)} is not finite" if bad else None


def meta_idle(watch: Watch) -> str | None:
    """The cause where MetaRM's step changes the gradient by next to nothing."""
    change = watch.training.get("meta_change", math.inf)
    return f"the meta step changes the gradient by {change:.1g} of it" if change < LEAST_CHANGE else None


def contrast_heavy(watch: Watch) -> str | None:
    """The cause where the contrastive term drowns the ranking."""
    share = watch.training.get("contrast_share", 0.0)
    return f"{share:.0%} of the loss is the contrastive term" if share > MOST_CONTRAST else None


def capped(watch: Watch) -> str | None:
    """The cause where most gaps are where their cap lets them rest."""
    share = watch.training.get("capped", 0.0)
    return f"{share:.0%} of the pairs are at their cap" if share > MOST_CAPPED else None


def margin_heavy(watch: Watch) -> str | None:
    """The cause where the margin asks for far more than the gaps differ by."""
    margin, spread = watch.training.get("margin", 0.0), watch.training.get("gap_std", 0.0)
    grown = len(watch.logs) > SPIKE_LOGS  # before that a new model's gaps are all near 0
    if not grown or margin <= LARGEST_MARGIN * spread:
        return None
    return f"the mean margin is {margin:.2g} nats, the gaps' standard deviation {spread:.2g}"


def spike(watch: Watch) -> str | None:
    """The cause where a step's loss, or the gradient that MetaRM ascends, has jumped."""
    for name, words in (("largest_loss", "loss"), ("largest_meta_gradient", "meta gradient")):
        values = [log[name] for log in watch.logs if name in log]
        usual = median(values[:-1]) if len(values) > SPIKE_LOGS else 0.0
        if 0 < SPIKE * usual < values[-1]:  # of a loss that may be negative nothing is said
            return f"the {words} of a step is {values[-1]:.3g}, before it was {usual:.3g} (median)"
    return None


def padding_mismatch(watch: Watch) -> str | None:
    """The cause where the reward would be read at the wrong token."""
    if watch.pad_token is not None and watch.pad_token == watch.eos_token:
        return f"pad and EOS are one token ({watch.pad_token})"
    if watch.pad_token != watch.tokenizer_pad_token:
        return f"the model pads with {watch.pad_token}, the tokenizer with {watch.tokenizer_pad_token}"
    return None


ALARMS: dict[str, Alarm] = {
    "memorised": Alarm(memorised, "Train fewer epochs, lower the learning rate, or repair the labels first."),
    "overfitted": Alarm(overfitted, "Train fewer epochs, use more pairs, or fewer trainable layers."),
    "under-plain": Alarm(under_plain, "Go back to plain training, or weaken what you added to it."),
    "running-away": Alarm(running_away, "Add auxiliary centring (0.01), a cap, or lower the learning rate."),
    "equal-rewards": Alarm(
        equal_rewards, "Check that the responses differ after truncation, and that pad is not EOS."
    ),
    "not-finite": Alarm(not_a_number, "Lower the learning rate, or set precision to fp32."),
    "meta-idle": Alarm(meta_idle, "Raise meta.rho, or meta.eta: what is trained is the plain loss."),
    "contrast-heavy": Alarm(contrast_heavy, "Lower contrast.coefficient."),
    "capped": Alarm(capped, "Raise the cap, or train without: it alone now says what is learnt."),
    "margin-heavy": Alarm(margin_heavy, "Scale the margin down, or clip it."),
    "spike": Alarm(spike, "Lower the learning rate, or meta.rho, or look at the pairs of that step."),
    "padding": Alarm(padding_mismatch, "Give the tokenizer a pad token of its own, and the model the same."),
}


def plain_course(config: TrainConfig, data_sha256: str) -> list[Mapping[str, float]]:
    """The evaluations of the training in `config.beside`; none where no folder is named.

    Raises:
        ConfigError: no watched training lies there, or one of other pairs or labels, length or seed.
    """
    if config.beside is None:
        return []
    path = Path(config.beside) / "results.json"
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))["train"]["model"]
        found = [each for each in theirs["log"] if "eval_accuracy" in each]
        differ = [name for name in ALIKE if theirs["config"][name] != getattr(config, name)]
        differ += ["pairs or labels"] if theirs["data_sha256"] != data_sha256 else []
        differ += [] if found else ["that it was not watched"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"beside: {path} holds no results of a training. Give the folder of an outweigh train."
        ) from None
    if differ:
        raise ConfigError(
            f"beside: {config.beside} differs in {', '.join(differ)}. Train both on the same pairs, as long, "
            "with a validation part and the same seed."
        )
    return found


class AlarmCallback(TrainerCallback):
    """Sounds each alarm once, keeps what was said in `fired`, and ends training if it is told to."""

    def __init__(
        self,
        tokenizer: Any,
        *,
        stop: bool = False,
        silent: Collection[str] = (),
        plain: Sequence[Mapping[str, float]] = (),
    ) -> None:
        self.watch = Watch(
            plain=list(plain), eos_token=tokenizer.eos_token_id, tokenizer_pad_token=tokenizer.pad_token_id
        )
        self.stop = stop
        self.silent = silent
        self.fired: dict[str, dict[str, str | int]] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.watch.pad_token = kwargs["model"].config.pad_token_id
        self._sound(0, control)
        for logs in state.log_history:  # those before a resume
            self._see(logs, int(logs["step"]), control)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._see(kwargs["logs"], state.global_step, control)

    def _see(self, logs: Mapping[str, float], step: int, control: TrainerControl) -> None:
        if "eval_log_loss" in logs:
            self.watch.evaluations.append(logs)
        elif "loss" in logs:
            self.watch.logs.append(logs)
        self._sound(step, control)

    def _sound(self, step: int, control: TrainerControl) -> None:
        for name, alarm in ALARMS.items():
            if name not in (*self.fired, *self.silent) and (cause := alarm.cause(self.watch)):
                self.fired[name] = {"cause": cause, "remedy": alarm.remedy, "step": step}
                logger.warning("Alarm %s at step %d: %s. %s", name, step, cause, alarm.remedy)
                control.should_training_stop |= self.stop
