"""Conversations taken apart: `Human:`/`Assistant:` transcripts, and the prompt that two texts share."""

import re

from outweigh.data.records import Message, Text

HUMAN = "\n\nHuman:"
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLE = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: str) -> bool:
    """True if the text opens with a `Human:` turn and has an `Assistant:` one."""
    return text.startswith(HUMAN) and "\n\nAssistant:" in text


def turns(transcript: str) -> Text:
    """The turns of a transcript, each stripped of the white space that separates them.

    `"\\n\\nHuman: Hi\\n\\nAssistant: Hello"` is `(user Hi, assistant Hello)`. A marker in the middle of a
    line is text: only one after an empty line opens a turn.
    """
    _, *parts = _TURN.split(transcript)
    return tuple(
        Message(_ROLE[role], content.strip()) for role, content in zip(parts[::2], parts[1::2], strict=True)
    )


def split_shared(chosen: Text, rejected: Text) -> tuple[Text, Text, Text]:
    """Prompt, chosen and rejected of two conversations: their common leading messages, and the rest.

    Each response keeps at least its last message, so that where one conversation is the beginning of the
    other, or both are the same, no response is without one.
    """
    limit = min(len(chosen), len(rejected)) - 1
    shared = 0
    while shared < limit and chosen[shared] == rejected[shared]:
        shared += 1
    return chosen[:shared], chosen[shared:], rejected[shared:]


def prompt_turns(prompt: str) -> Text:
    """The messages of a prompt that is a transcript; an open last `Assistant:` is not a message."""
    found = turns(prompt)
    return found[:-1] if found and found[-1] == Message("assistant", "") else found
