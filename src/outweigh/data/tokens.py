"""Texts -> token ids on disk: rendered, truncated by a stated policy, each change counted."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow as pa

from outweigh.data.cache import appearing_whole, cache_folder
from outweigh.data.config import TokenConfig
from outweigh.data.records import Text
from outweigh.data.rendering import Renderer
from outweigh.errors import DataError, ModelError

BATCH = 1000  # examples rendered and encoded at once: a few MB, and the tokenizer's threads stay busy
LAYOUT = 2  # raised when the cached files' content changes
SCHEMA = pa.schema(
    {
        "response_ids": pa.list_(pa.list_(pa.int32())),
        "response_starts": pa.list_(pa.int32()),
        "ranks": pa.list_(pa.float32()),
        "item": pa.int64(),
    }
)


class Item(NamedTuple):
    """K responses to one prompt with their ranks, lower is better: a pair is K = 2 with ranks 0, 1."""

    prompt: Text
    responses: tuple[Text, ...]
    ranks: tuple[float, ...]
    origin: str


@dataclass
class TokenCounts:
    """What truncation did, in texts and items."""

    items: int = 0
    tokens: int = 0
    truncated_prompts: int = 0
    truncated_responses: int = 0
    dropped_long: int = 0
    dropped_identical: int = 0


class Tokenised(NamedTuple):
    """Memory-mapped examples: `response_ids` (K lists of ids), `response_starts` (tokens before each
    response), `ranks`, and `item`, the 0-based place among the items given."""

    dataset: datasets.Dataset
    counts: TokenCounts


def tokenise(
    items: Iterable[Item], renderer: Renderer, config: TokenConfig, *, key: str, cache_dir: Path | None = None
) -> Tokenised:
    """The items' token ids, from the cache where `key` (the data's hash) and the settings are known there.

    Items whose responses are all identical after truncation carry no preference: dropped and counted.

    Raises:
        DataError: a text is too long and `on_long` is "error", or no item is left.
        ModelError: the tokenizer can't tell which characters a token stands for.
    """
    if not renderer.tokenizer.is_fast:
        raise ModelError(f"{renderer.tokenizer.name_or_path}: want a fast tokenizer, which keeps offsets.")
    folder = (cache_dir or cache_folder()) / f"tokens-{_cache_key(renderer, config, key)}"
    if not folder.exists():
        _write(items, renderer, config, folder)
    counts = TokenCounts(**json.loads((folder / "counts.json").read_text()))
    dataset = datasets.Dataset.from_file(str(folder / "tokens.arrow"))
    if len(dataset) == 0:
        raise DataError(
            f"tokens: no pair is left of {counts.items}; {counts.dropped_long} were longer than "
            f"{config.max_tokens} tokens, {counts.dropped_identical} identical after truncation. "
            "Raise max_tokens."
        )
    return Tokenised(dataset, counts)


def _cache_key(renderer: Renderer, config: TokenConfig, key: str) -> str:
    tokenizer = renderer.tokenizer
    parts = (LAYOUT, key, tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template, asdict(config))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def _write(items: Iterable[Item], renderer: Renderer, config: TokenConfig, folder: Path) -> None:
    counts = TokenCounts()
    with appearing_whole(folder) as unfinished:
        with (
            pa.OSFile(str(unfinished / "tokens.arrow"), "wb") as file,
            pa.ipc.new_stream(file, SCHEMA) as out,
        ):
            for rows in _examples(items, renderer, config, counts):
                out.write_batch(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
        (unfinished / "counts.json").write_text(json.dumps(asdict(counts)))


def _examples(
    items: Iterable[Item], renderer: Renderer, config: TokenConfig, counts: TokenCounts
) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        encoded = iter(encode([(item.prompt, r) for item in batch for r in item.responses], renderer))
        rows = []
        for item in batch:
            texts = [truncate(next(encoded), config.max_tokens) for _ in item.responses]
            counts.items += 1
            if config.on_long != "truncate" and any(text.cut_prompt or text.cut_response for text in texts):
                if config.on_long == "error":
                    longest = max(len(t.ids) + t.cut_prompt + t.cut_response for t in texts)
                    raise DataError(
                        f"{item.origin}: {longest} tokens, want at most {config.max_tokens}. "
                        "Raise max_tokens, or set on_long to truncate or drop."
                    )
                counts.dropped_long += 1
            elif all(text.ids == texts[0].ids for text in texts):
                counts.dropped_identical += 1
            else:
                counts.tokens += sum(len(text.ids) for text in texts)
                counts.truncated_prompts += sum(text.cut_prompt > 0 for text in texts)
                counts.truncated_responses += sum(text.cut_response > 0 for text in texts)
                rows.append(
                    {
                        "response_ids": [text.ids for text in texts],
                        "response_starts": [text.start for text in texts],
                        "ranks": item.ranks,
                        "item": counts.items - 1,
                    }
                )
        yield rows


class Encoded(NamedTuple):
    """Ids of one text; its first `start` are prompt, its last `suffix` close it; what truncation has cut."""

    ids: list[int]
    start: int
    suffix: int
    cut_prompt: int = 0
    cut_response: int = 0


def encode(texts: Sequence[tuple[Text, Text]], renderer: Renderer) -> list[Encoded]:
    """The untruncated ids of each (prompt, response)."""
    rendered = [renderer(prompt, response) for prompt, response in texts]
    batch = renderer.tokenizer(
        [text for text, _ in rendered], add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    encoded = []
    for (text, characters), ids, offsets in zip(
        rendered, batch["input_ids"], batch["offset_mapping"], strict=True
    ):
        closing = len(text) - len(renderer.suffix)
        start = sum(begin < characters for begin, _ in offsets)
        encoded.append(Encoded(ids, start, sum(begin >= closing for begin, _ in offsets)))
    return encoded


def truncate(text: Encoded, max_tokens: int) -> Encoded:
    """The text within `max_tokens`: cut from the left of the prompt, its first token kept, then from the
    right of the response, what closes it kept."""
    excess = len(text.ids) - max_tokens
    if excess <= 0:
        return text
    opening = min(1, text.start)  # BOS or CLS, or the first token of a turn
    from_prompt = min(excess, text.start - opening)
    from_response = excess - from_prompt
    closing = len(text.ids) - min(text.suffix, max_tokens - opening - 1)
    ids = text.ids[:opening] + text.ids[opening + from_prompt : closing - from_response] + text.ids[closing:]
    return Encoded(ids, text.start - from_prompt, text.suffix, from_prompt, from_response)
