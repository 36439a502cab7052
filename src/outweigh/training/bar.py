"""A progress bar over the optimizer steps, with the time left."""

from contextlib import ExitStack
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from outweigh.progress import progress


class StepBar(TrainerCallback):
    """Shows how many steps are done, on the main process."""

    def __init__(self, label: str = "training") -> None:
        self.label = label
        self._open = ExitStack()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            bar = progress(self.label, state.max_steps, done=state.global_step)
            self._advance = self._open.enter_context(bar)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self._advance()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._open.close()
