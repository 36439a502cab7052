"""The end of a training that no longer gets better."""

import math
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

METRIC = "eval_log_loss"


class Patience(TrainerCallback):
    """Ends training after so many evaluations in a row whose log loss is not the lowest.

    It goes by the log alone, which a checkpoint has: a resumed training ends where it would have, or a step
    later where it was killed after that.
    """

    def __init__(self, evaluations: int) -> None:
        self.evaluations = evaluations

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._judge(state, control)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._judge(state, control)

    def _judge(self, state: TrainerState, control: TrainerControl) -> None:
        losses = [each[METRIC] for each in state.log_history if METRIC in each]
        if losses:
            lowest = min(math.inf if math.isnan(each) else each for each in losses)
            best = losses.index(lowest) if lowest in losses else 0
            control.should_training_stop |= len(losses) - 1 - best >= self.evaluations
