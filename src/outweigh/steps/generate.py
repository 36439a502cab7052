"""`outweigh generate`: prompts in, n sampled responses to each out; what is done stays done."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from outweigh.data.files import raw_rows
from outweigh.data.pairs import Data, OnBadRows, parsed
from outweigh.data.records import Text
from outweigh.data.rows import row_prompt
from outweigh.data.writing import json_line
from outweigh.errors import DataError
from outweigh.generation.config import SamplingConfig
from outweigh.generation.local import LocalPolicy
from outweigh.generation.samples import Refused, Sample, Sampler
from outweigh.generation.server import ServedPolicy
from outweigh.models.features import checkpoint_identity
from outweigh.progress import progress
from outweigh.servers.client import HOPELESS
from outweigh.servers.config import ServerConfig, is_server, masked
from outweigh.steps.record import check_apart, headed, peak_memory
from outweigh.steps.unfinished import check_free, finished_rows, unfinished_rows

TRIED = 16  # tokens of the answers that a dry run times


class Asked(NamedTuple):
    """A row to answer."""

    row: dict[str, Any]  # its columns but the responses and labels that it came with
    prompt: Text
    origin: str


def generate(
    data: Data,
    *,
    policy: str | Path,
    out: str | Path,
    config: SamplingConfig | None = None,
    server: ServerConfig | None = None,
    on_bad_rows: OnBadRows = "error",
    resume: bool = False,
) -> dict[str, Any]:
    """What was done; each row of the data goes to `out` with `responses` (n), `logprobs`, `response_tokens`
    and `finished` (False where a response was cut at max_new_tokens).

    `policy` is a folder, a Hub name, `smollm2`, or the URL of an OpenAI-compatible server. A log-probability
    is in nats under the policy at temperature 1, null where a server does not tell. A row keeps its prompt
    and what it has beside texts and labels; one that a server refuses is a bad row. While it goes on, what
    is finished stands in `out`.unfinished; with `resume` it is taken from there, and on one machine the file
    becomes what it would have become. `out`.identity tells which prompts, policy and settings either is of;
    with `resume` a finished file of the same is left as it is.

    Raises:
        DataError: a row has no prompt or one that the policy can't take, and `on_bad_rows` is error; or none
            is answered.
        ConfigError: there is a file, finished or not, and no `resume`, what is there is of other prompts,
            weights or settings, another run is writing it, or `out` is the data itself.
        ModelError, ServerError: the policy can't be loaded, or does not answer.
    """
    config, path = config or SamplingConfig(), Path(out)
    check_apart(path, data)
    check_free(path, resume)
    sampler = _sampler(policy, config, server)
    asked, bad = asked_rows(data, sampler.refusal, on_bad_rows, written=True)
    model = sampler.server.model if isinstance(sampler, ServedPolicy) else checkpoint_identity(str(policy))
    identity = json.dumps([masked(policy), model, asdict(config), _digest(asked)])
    if resume and (rows := finished_rows(path, identity)) is not None:
        return headed("generate", config.seed) | {"rows": rows, "already_there": True}
    started, tokens = time.monotonic(), 0
    with unfinished_rows(path, identity, resume=resume) as kept:
        done = kept.read
        with (
            closing(sampler.samples((each.prompt for each in asked[done:]), done)) as samples,
            progress("responses", len(asked) * config.n, done=done * config.n) as advance,
        ):
            drawn = zip(asked[done:], samples, strict=True)
            while batch := list(islice(drawn, sampler.batch_prompts)):  # whole ones, drawn together
                answered, refused = _answers(batch, on_bad_rows)
                kept.add([json_line(row) for row in answered], len(batch), refused)
                tokens += sum(each or 0 for row in answered for each in row["response_tokens"])
                per_second = tokens / (time.monotonic() - started)
                advance(len(batch) * config.n, f"{per_second:,.0f} tokens/s")
                if not kept.written and len(kept.bad) >= HOPELESS:
                    break  # so would be all others
        if not kept.written:
            raise DataError(f"none of {kept.read:,} prompts was answered. The first: {kept.bad[0]}")
    seconds = time.monotonic() - started
    return headed("generate", config.seed) | {
        "rows": kept.written,
        "already_there": False,
        "bad_rows": bad + kept.bad,
        "resumed_at": done,
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "peak_memory_bytes": peak_memory(),
    }


def _answers(
    drawn: Sequence[tuple[Asked, Sequence[Sample] | Refused]], on_bad_rows: OnBadRows
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows with their responses, and what is wrong with those whose prompt was refused."""
    rows, bad = [], []
    for each, samples in drawn:
        if not isinstance(samples, Refused):
            rows.append(_answered(each.row, samples))
        elif on_bad_rows == "error":
            raise DataError(f"{each.origin}: {samples.reason} Drop the row, or skip bad rows.")
        else:
            bad.append(f"{each.origin}: {samples.reason}")
    return rows, bad


def planned_generation(
    data: Data,
    *,
    policy: str | Path,
    out: str | Path,
    config: SamplingConfig,
    server: ServerConfig,
    on_bad_rows: OnBadRows = "error",
    resume: bool = False,
) -> dict[str, Any]:
    """What would be asked and, of a policy in memory, the seconds at most, from a batch of short answers.

    Raises:
        DataError, ConfigError, ModelError, ServerError: as `generate`.
    """
    check_apart(Path(out), data)
    check_free(Path(out), resume)
    sampler = _sampler(policy, config, server)
    asked, bad = asked_rows(data, sampler.refusal, on_bad_rows, written=True)
    tokens = len(asked) * config.n * config.max_new_tokens
    found = {"rows": len(asked), "bad_rows": bad, "responses": len(asked) * config.n, "tokens": tokens}
    if isinstance(sampler, LocalPolicy):
        sampler.generation.max_new_tokens = min(config.max_new_tokens, TRIED)
        prompts = [each.prompt for each in asked[: sampler.batch_prompts]]
        started = time.monotonic()
        drawn = sum(sample.tokens or 0 for each in sampler.samples(prompts, 0) for sample in each)
        found["seconds"] = round(tokens * (time.monotonic() - started) / drawn, 1)
        found["device"] = str(sampler.device)
    return found | {"writes": [str(out)]}


def _sampler(policy: str | Path, config: SamplingConfig, server: ServerConfig | None) -> Sampler:
    if is_server(policy):
        return ServedPolicy(str(policy), config, server or ServerConfig())
    return LocalPolicy(policy, config)


def asked_rows(
    data: Data, refusal: Callable[[Text], str], on_bad_rows: OnBadRows, *, written: bool = False
) -> tuple[list[Asked], list[str]]:
    """The rows to answer, and what is wrong with those left out; `refusal` says why one can't be answered.
    Where they are to be `written` with their columns, one that has no place in JSON is bad, too.

    Raises:
        DataError: a row is bad and `on_bad_rows` is error, or none can be answered.
    """
    found, bad = [], []
    for raw in raw_rows(data):
        try:
            prompt, kept = parsed(raw, _written_prompt if written else row_prompt)
            if reason := refusal(prompt):
                raise DataError(f"{raw.origin}: {reason}")
        except DataError as error:
            if on_bad_rows == "error":
                raise
            bad.append(str(error))
        else:
            found.append(Asked(kept, prompt, raw.origin))
    if not found:
        raise DataError(f"none of {len(bad):,} rows can be answered. The first: {bad[0]}")
    return found, bad


def _written_prompt(row: Mapping[str, Any], number: int, origin: str) -> tuple[Text, dict[str, Any]]:
    """As `row_prompt`, of a row whose columns can be written."""
    prompt, kept = row_prompt(row, number, origin)
    json_line(kept)
    return prompt, kept


def _answered(row: Mapping[str, Any], samples: Sequence[Sample]) -> dict[str, Any]:
    return {
        **row,
        "responses": [sample.text for sample in samples],
        "logprobs": [sample.logprob for sample in samples],
        "response_tokens": [sample.tokens for sample in samples],
        "finished": [sample.finished for sample in samples],
    }


def _digest(asked: Sequence[Asked]) -> str:
    digest = hashlib.sha256()
    for each in asked:
        digest.update(json.dumps([each.row, each.prompt], default=str).encode())
    return digest.hexdigest()
