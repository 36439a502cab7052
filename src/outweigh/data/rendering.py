"""A prompt and a response -> the one string that a model reads, special tokens included."""

from typing import Any, NamedTuple

from outweigh.data.records import Message, Text
from outweigh.errors import ConfigError, DataError

_MARK = "\N{WHITE SQUARE}response\N{WHITE SQUARE}"


class Rendered(NamedTuple):
    """The text, and the number of its characters that stand before the response."""

    text: str
    prompt_characters: int


class Renderer:
    """Renders texts for one tokenizer. Special tokens are part of the string, so encode it with
    `add_special_tokens=False`: whoever renders with the saved chat template gets the same ids.

    Messages go through the tokenizer's chat template, a plain one where it has none. Verbatim texts (and all
    texts with `template="none"`) are concatenated as they are, after the tokenizer's own special tokens, and
    closed once, as a text of the template is: a reward is read at one last token, whoever wrote the text.

    Raises:
        ConfigError: the template is neither "auto" nor "none".
    """

    def __init__(self, tokenizer: Any, template: str = "auto") -> None:
        if template not in ("auto", "none"):
            raise ConfigError(f"template: got {template!r}, want auto or none.")
        self.tokenizer = tokenizer
        self.verbatim = template == "none"
        self.start, self.end = surrounding_tokens(tokenizer)
        self.suffix = self.end
        """What closes a text after the response: an end of turn, an end of sequence."""
        if not self.verbatim:
            if not tokenizer.chat_template:
                tokenizer.chat_template = plain_template(self.start, self.end)
            self.suffix = self._chat((Message("user", "x"), Message("assistant", _MARK))).split(_MARK)[-1]

    def __call__(self, prompt: Text, response: Text) -> Rendered:
        """The rendered text of one response to one prompt.

        Raises:
            DataError: the chat template refuses the messages (an order of roles that it does not know).
        """
        if self.verbatim or any(message.role == "text" for message in response):
            before = self.start + "".join(message.content for message in prompt).removeprefix(self.start)
            after = "".join(message.content for message in response)
            for closing in (self.end, self.suffix, self.suffix.rstrip()):  # a policy ends before the newline
                after = after.removesuffix(closing)
            after += self.suffix
            return Rendered(before + (after if prompt else after.removeprefix(self.start)), len(before))
        whole = self._chat((*prompt, *response))
        if not prompt:
            return Rendered(whole, 0)
        # A template may open an answer otherwise than it then writes it (a think tag): what agrees is prompt.
        opened = self._chat(prompt, generation=True)
        differs = (at for at, (a, b) in enumerate(zip(whole, opened, strict=False)) if a != b)
        return Rendered(whole, next(differs, min(len(whole), len(opened))))

    def opened(self, prompt: Text) -> str:
        """What a policy reads before it answers: the prompt, and what opens a response.

        Raises:
            DataError: the chat template refuses the messages.
        """
        if self.verbatim or any(message.role == "text" for message in prompt):
            return self.start + "".join(message.content for message in prompt).removeprefix(self.start)
        return self._chat(prompt, generation=True)

    def lead(self) -> str:
        """What the template puts between an opened prompt and a response: a space, as a rule nothing."""
        if self.verbatim:
            return ""
        asked = (Message("user", "x"),)
        before = self._chat((*asked, Message("assistant", _MARK))).split(_MARK)[0]
        return before.removeprefix(self._chat(asked, generation=True))

    def _chat(self, messages: Text, generation: bool = False) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                [message._asdict() for message in messages], tokenize=False, add_generation_prompt=generation
            )
        except Exception as error:  # jinja raises what the template's author chose
            roles = ", ".join(message.role for message in messages)
            raise DataError(
                f"chat template of {self.tokenizer.name_or_path}: refuses messages with the roles {roles} "
                f"({error}). Change the roles, or set template=none."
            ) from None
        return text


def surrounding_tokens(tokenizer: Any) -> tuple[str, str]:
    """The special tokens, as text, that the tokenizer puts before and after a text; EOS where none follows.

    A reward is read at the last token, so a text must end in one that says it has ended.
    """
    ids = tokenizer("a")["input_ids"]
    special = set(tokenizer.all_special_ids)
    first = next((i for i, token in enumerate(ids) if token not in special), len(ids))
    last = next((i for i, token in enumerate(reversed(ids)) if token not in special), 0)
    start = "".join(tokenizer.convert_ids_to_tokens(ids[:first]))
    end = "".join(tokenizer.convert_ids_to_tokens(ids[len(ids) - last :]))
    return start, end or tokenizer.eos_token or ""


def plain_template(start: str, end: str) -> str:
    """A chat template that names each role: blank lines between turns, `start` and `end` around all."""
    return (
        f"{{{{ {start!r} }}}}"
        "{% for message in messages %}{{ '' if loop.first else '\\n\\n' }}"
        "{{ message['role'] | capitalize }}: {{ message['content'] }}{% endfor %}"
        f"{{{{ '\\n\\nAssistant:' if add_generation_prompt else {end!r} }}}}"
    )
