"""How a policy is asked: a prompt as the token ids that it reads before it answers."""

import logging
from pathlib import Path

from transformers import AutoConfig

from outweigh.data.records import Text
from outweigh.data.rendering import Renderer
from outweigh.errors import DataError
from outweigh.models.loading import explained, load_tokenizer, resolve

log = logging.getLogger(__name__)


class Asking:
    """The tokenizer of a policy, its chat template, and how much the policy can read.

    Raises:
        ModelError: there is none under this name.
    """

    def __init__(self, name: str | Path) -> None:
        self.tokenizer = load_tokenizer(name, own_pad=False)
        if not self.tokenizer.chat_template:
            log.warning("%s: has no chat template. Prompts are written as 'User: ...', 'Assistant:'.", name)
        self.renderer = Renderer(self.tokenizer)
        with explained(name):
            config = AutoConfig.from_pretrained(resolve(name))
        self.context = int(getattr(config, "max_position_embeddings", None) or 2**31)

    def ids(self, prompt: Text) -> list[int]:
        """Token ids of the prompt and of what opens an answer.

        Raises:
            DataError: the chat template refuses the messages.
        """
        text = self.renderer.opened(prompt)
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def refusal(self, prompt: Text, max_new_tokens: int) -> str:
        """Why this prompt can't be answered in so many tokens; empty where it can."""
        try:
            tokens = len(self.ids(prompt))
        except DataError as error:
            return str(error)
        if tokens + max_new_tokens <= self.context:
            return ""
        return (
            f"prompt of {tokens:,} tokens and a response of {max_new_tokens:,} do not fit the policy's "
            f"{self.context:,}. Shorten it, or lower max_new_tokens."
        )
