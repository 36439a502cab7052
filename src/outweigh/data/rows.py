"""One raw row -> its pairs, its ranking or its candidates; whatever a row may look like."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from outweigh.data.fields import (
    NAMES,
    OPTIONAL,
    PROMPT_ALIASES,
    RELEASED,
    SHAPE_COLUMNS,
    Value,
    check_unicode,
    near,
    numbers,
    optional_columns,
    shown,
)
from outweigh.data.records import ROLES, Candidates, Message, Pair, Ranking, Text
from outweigh.data.transcripts import HUMAN, is_transcript, prompt_turns, split_shared, turns
from outweigh.errors import DataError

INPUT_ROLES = tuple(role for role in ROLES if role != "text")
GENERATED = ("logprobs", "response_tokens", "finished")
"""Columns that `outweigh generate` writes beside responses."""
SELECTED = ("rewards", "reward_ranks", "spreads", "kept", "response")
"""Columns that `outweigh select` writes beside them."""
_OTHER_ROLES = {"human": "user", "prompter": "user", "gpt": "assistant", "bot": "assistant"}


class RowPairs(NamedTuple):
    """The pairs of one row, and how many it held that carry no preference."""

    pairs: list[Pair]
    tied: int
    empty: int
    identical: int


class _Row(NamedTuple):
    """A row taken apart: its responses, and which of them the label prefers to which."""

    prompt: Text
    responses: tuple[Text, ...]
    ranks: tuple[float, ...] | None  # lower is better; None where the row is unlabelled
    ratings: tuple[float, ...] | None
    indices: tuple[int, ...]  # place of each response in the row's own list


def row_pairs(row: Mapping[str, Any], number: int, origin: str, keep: Sequence[str] = ()) -> RowPairs:
    """The pairs of a row: one, or those of its K responses that are not tied, empty or the same text.

    Pairs of K responses also have `chosen_index`, `rejected_index` (0-based places in the row's list, or
    in its two lists) and `row_pairs`, the number of pairs kept of the row.

    Raises:
        DataError: the row is not what it should be. The message has no origin.
    """
    columns = optional_columns(row, keep)
    if "responses" not in row and not has_lists(row):
        prompt, chosen, rejected = row_texts(row)
        return _kept_pairs([Pair(prompt, chosen, rejected, number, origin, columns)], tied=0)
    parts = _several(row)
    if parts.ranks is None:
        raise DataError(
            "no label for 'responses', want 'ranks', 'ratings' or 'gold'. Add one of them; "
            "responses without a label can be scored and selected from, not trained on."
        )
    found, tied = [], 0
    for one, other in combinations(range(len(parts.responses)), 2):
        if parts.ranks[one] == parts.ranks[other]:
            # Within the lists chosen and rejected of one row nothing is ranked, so nothing is tied.
            tied += "responses" in row
            continue
        better, worse = (one, other) if parts.ranks[one] < parts.ranks[other] else (other, one)
        own: dict[str, Value] = {
            **columns,
            "chosen_index": float(parts.indices[better]),
            "rejected_index": float(parts.indices[worse]),
        }
        if parts.ratings is not None:
            own |= {"rating_chosen": parts.ratings[better], "rating_rejected": parts.ratings[worse]}
        texts = parts.responses[better], parts.responses[worse]
        found.append(Pair(parts.prompt, *texts, row=number, origin=origin, columns=own))
    kept = _kept_pairs(found, tied)
    for pair in kept.pairs:
        pair.columns["row_pairs"] = float(len(kept.pairs))  # type: ignore[index]  # its dict was made above
    return kept


def row_ranking(row: Mapping[str, Any], number: int, origin: str) -> Ranking:
    """The responses of a row with their ranks; a pair is a ranking of two.

    Raises:
        DataError: the row is not what it should be, or is unlabelled. The message has no origin.
    """
    if "responses" not in row and not has_lists(row):
        prompt, chosen, rejected = row_texts(row)
        return Ranking(prompt, (chosen, rejected), (1.0, 2.0), number, origin)
    parts = _several(row)
    if parts.ranks is None:
        raise DataError("no label for 'responses', want 'ranks', 'ratings' or 'gold'. Add one of them.")
    return Ranking(parts.prompt, parts.responses, parts.ranks, number, origin)


def row_candidates(row: Mapping[str, Any], number: int, origin: str) -> Candidates:
    """The responses of a row to choose from, with their gold scores where it has them; of a pair its two.

    Raises:
        DataError: the row is not what it should be. The message has no origin.
    """
    if "responses" not in row and {"chosen", "rejected"} <= set(row):
        prompt, chosen, rejected = row_texts(row)
        return Candidates(prompt, (chosen, rejected), None, number, origin)
    if "responses" not in row:
        raise DataError(_missing("responses", row))
    prompt, responses = prompt_text(row), _responses(row["responses"], "responses", 1)
    gold = _aligned(row, "gold", len(responses)) if row.get("gold") is not None else None
    return Candidates(prompt, responses, gold, number, origin)


def row_prompt(row: Mapping[str, Any], number: int, origin: str) -> tuple[Text, dict[str, Any]]:
    """The prompt of a row of any shape, and the row as it is without what was said to it: its prompt, and
    columns that are neither texts nor labels of them.

    Raises:
        DataError: it has no prompt. The message has no origin.
    """
    inside = "prompt" not in row and {"chosen", "rejected"} <= set(row)
    prompt = row_texts(row)[0] if inside else prompt_text(row)
    if _is_blank(prompt):
        raise DataError("no prompt to answer, got an empty one. Add it, or drop the row.")
    said = {*SHAPE_COLUMNS, *OPTIONAL, *NAMES, *SELECTED, *GENERATED} - {"prompt", "source"}
    kept = {name: value for name, value in row.items() if name not in said}
    return prompt, kept | ({"prompt": [message._asdict() for message in prompt]} if inside else {})


def unread_columns(row: Mapping[str, Any], keep: Sequence[str] = ()) -> dict[str, str]:
    """The columns that nothing reads, each with the column it may misspell (empty where none is near)."""
    read = {*SHAPE_COLUMNS, *PROMPT_ALIASES, *OPTIONAL, *NAMES, *keep}
    absent = [name for name in (*OPTIONAL, *SHAPE_COLUMNS) if name not in row]
    return {str(name): near(str(name), absent) for name in row if name not in read}


def _kept_pairs(pairs: list[Pair], tied: int) -> RowPairs:
    kept, empty, identical = [], 0, 0
    for pair in pairs:
        if _is_blank(pair.chosen) or _is_blank(pair.rejected):
            empty += 1
        elif pair.chosen == pair.rejected:
            identical += 1
        else:
            kept.append(pair)
    return RowPairs(kept, tied, empty, identical)


def _is_blank(text: Text) -> bool:
    return not any(content and not content.isspace() for _, content in text)


def _missing(name: str, row: Mapping[str, Any]) -> str:
    got = ", ".join(map(str, row)) or "nothing"
    hint = near(name, [str(column) for column in row if column not in SHAPE_COLUMNS])
    repair = f"Did you mean '{hint}'? Rename it" if hint else "Add it, or rename the column that holds it"
    return f"no column '{name}', got {got}, want prompt, chosen, rejected or prompt, responses. {repair}."


def row_texts(row: Mapping[str, Any]) -> tuple[Text, Text, Text]:
    """Prompt, chosen and rejected of a row that is one pair, however it writes them.

    Raises:
        DataError: it is not one. The message has no origin.
    """
    for name in ("chosen", "rejected"):
        if name not in row:
            raise DataError(_missing(name, row))
    chosen, rejected = row["chosen"], row["rejected"]
    if {type(chosen), type(rejected)} == {str, list}:
        got = f"{type(chosen).__name__} and {type(rejected).__name__}"
        raise DataError(f"'chosen' and 'rejected' differ in type, got {got}, want the same. Correct the row.")
    if isinstance(chosen, str):
        return _string_texts(row, _content(chosen, "chosen"), _content(rejected, "rejected"))
    if _is_released(row):
        return _split(_history(chosen, "chosen"), _history(rejected, "rejected"))
    prompt = prompt_text(row)
    apart = _messages(chosen, "chosen"), _messages(rejected, "rejected")
    if not prompt:
        return _split(*apart)
    shared, *rest = split_shared(*apart)
    return (shared, rest[0], rest[1]) if _contains(shared, prompt) else (prompt, *apart)


def _split(chosen: Text, rejected: Text) -> tuple[Text, Text, Text]:
    """Prompt, chosen and rejected of two conversations that hold their prompt."""
    shared, *rest = split_shared(chosen, rejected)
    if not shared and {chosen[0].role, rejected[0].role} & {"system", "user"}:
        what = "are not both answered" if chosen[0] == rejected[0] else "begin unlike each other"
        raise DataError(
            f"'chosen' and 'rejected' {what}, got {shown(chosen[0].content)} and "
            f"{shown(rejected[0].content)}, want answers to one prompt. Drop the row."
        )
    return shared, rest[0], rest[1]


def _string_texts(row: Mapping[str, Any], chosen: str, rejected: str) -> tuple[Text, Text, Text]:
    if is_transcript(chosen) and is_transcript(rejected):
        return _split(turns(chosen), turns(rejected))
    if prompt := prompt_text(row):
        return prompt, (Message("assistant", chosen),), (Message("assistant", rejected),)
    return (), (Message("text", chosen),), (Message("text", rejected),)


def _contains(messages: Text, part: Text) -> bool:
    return any(messages[at : at + len(part)] == part for at in range(len(messages) - len(part) + 1))


def prompt_text(row: Mapping[str, Any]) -> Text:
    """The prompt's messages; empty where the row has none."""
    name = next((name for name in ("prompt", *PROMPT_ALIASES) if name in row), None)
    if name is None:
        others = [str(column) for column in row if column not in SHAPE_COLUMNS and column not in OPTIONAL]
        # A prompt under another name would be lost without a sound, and the reward be of the answer alone.
        if hint := "instruction" if "instruction" in row else near("prompt", others):
            raise DataError(f"no column 'prompt' but '{hint}', want 'prompt'. Rename it, or drop it.")
        return ()
    value = row[name]
    if isinstance(value, str):
        text = _content(value, name)
        if text.startswith(HUMAN):
            return prompt_turns(text)
        return (Message("user", text),) if text else ()
    return _messages(value, name, at_least=0)


def _content(value: object, name: str) -> str:
    if isinstance(value, str):
        if not value.isascii():
            check_unicode(value, name)
        return value
    got = "null" if value is None else f"{shown(value)} ({type(value).__name__})"
    raise DataError(f"'{name}' is {got}, want a string or a list of messages. Correct or drop the row.")


def _messages(value: object, name: str, at_least: int = 1) -> Text:
    """The messages of a list of {role, content}.

    Raises:
        DataError: no list, an empty one, an unknown role, or content that is not a string.
    """
    if not isinstance(value, (list, tuple)):
        _content(None if isinstance(value, str) else value, name)
    items: Sequence[Any] = value  # type: ignore[assignment]  # narrowed by the line above, which raises
    if len(items) < at_least:
        raise DataError(f"'{name}' is an empty list, want at least one message. Correct or drop the row.")
    return tuple(_message(item, f"{name}[{index}]") for index, item in enumerate(items))


def _message(item: object, where: str) -> Message:
    if not isinstance(item, Mapping) or "role" not in item or "content" not in item:
        raise DataError(f"{where} is {shown(item)}, want {{'role': ..., 'content': ...}}. Correct the row.")
    role, content = item["role"], item["content"]
    if role not in INPUT_ROLES:
        hint = _OTHER_ROLES.get(str(role)) or near(str(role), INPUT_ROLES)
        repair = f"Did you mean '{hint}'?" if hint else "Correct the row."
        raise DataError(
            f"{where} has the unknown role {shown(role)}, want {', '.join(INPUT_ROLES)}. {repair}"
        )
    if not isinstance(content, str):
        got = f"{shown(content)} ({type(content).__name__})"
        raise DataError(f"{where}: 'content' is {got}, want a string. Correct the row.")
    if item.get("tool_calls"):
        raise DataError(
            f"{where} has tool_calls, which are not read. Write them into content, or drop the row."
        )
    return Message(role, _content(content, where))


def _is_released(row: Mapping[str, Any]) -> bool:
    return any(name in row for name in RELEASED)


def has_lists(row: Mapping[str, Any]) -> bool:
    """True if chosen and rejected are lists of responses (strings), not of messages."""
    return not _is_released(row) and any(
        isinstance(row.get(name), (list, tuple)) and any(isinstance(each, str) for each in row[name])
        for name in ("chosen", "rejected")
    )


def _history(value: object, name: str) -> Text:
    """Messages of a list of strings that are turns in order, the last one the assistant's response.

    Source: the columns `chosen` and `rejected` of the data that Wang et al. (2401.06080) released.
    """
    if not isinstance(value, (list, tuple)) or not value:
        raise DataError(f"'{name}' is {shown(value)}, want a list of turns. Correct or drop the row.")
    texts = [_content(each, f"{name}[{index}]") for index, each in enumerate(value)]
    roles = ("assistant", "user")  # from the last turn backwards
    return tuple(Message(roles[(len(texts) - 1 - at) % 2], text) for at, text in enumerate(texts))


def _several(row: Mapping[str, Any]) -> _Row:
    """A row of K responses, ranked, rated or as two lists."""
    prompt = prompt_text(row)
    if "responses" not in row:
        chosen, rejected = (_responses(row.get(name), name, 1) for name in ("chosen", "rejected"))
        ranks = (1.0,) * len(chosen) + (2.0,) * len(rejected)
        places = (*range(len(chosen)), *range(len(rejected)))
        return _Row(prompt, chosen + rejected, ranks, None, places)
    responses = _responses(row["responses"], "responses")
    ratings = next((_aligned(row, name, len(responses)) for name in ("ratings", "gold") if name in row), None)
    ranks_given = _aligned(row, "ranks", len(responses)) if "ranks" in row else None
    ranks_found = ranks_given or (tuple(-rating for rating in ratings) if ratings else None)
    return _Row(prompt, responses, ranks_found, ratings, tuple(range(len(responses))))


def _responses(value: object, name: str, at_least: int = 2) -> tuple[Text, ...]:
    if not isinstance(value, (list, tuple)) or len(value) < at_least:
        got = f"{len(value)} of them" if isinstance(value, (list, tuple)) else shown(value)
        raise DataError(f"'{name}' is {got}, want a list of at least {at_least} responses. Correct the row.")
    return tuple(response_text(each, f"{name}[{index}]") for index, each in enumerate(value))


def response_text(value: object, where: str) -> Text:
    """The messages of a response that is a string or a list of messages."""
    if isinstance(value, (list, tuple)):
        return _messages(value, where)
    return (Message("assistant", _content(value, where)),)


def _aligned(row: Mapping[str, Any], name: str, responses: int) -> tuple[float, ...]:
    found = numbers(row[name], name)
    if len(found) != responses:
        raise DataError(
            f"'{name}' has {len(found)} values for {responses} responses, want one each. Correct it."
        )
    return tuple(found)
