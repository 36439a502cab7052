"""`outweigh judge`: which of two responses is better, and how far the judge agrees with people."""

from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from outweigh.data.files import RawRow, raw_rows
from outweigh.data.pairs import Data, OnBadRows, parsed, read_pairs
from outweigh.data.records import Candidates, Pair, Text, plain
from outweigh.data.rows import row_candidates
from outweigh.data.writing import check_lines_name, write_rows
from outweigh.errors import ConfigError, DataError
from outweigh.models.ensemble import load_scorer
from outweigh.models.reward import Scorer
from outweigh.selection.judges import MAX_TOKENS, TIE, GoldJudge, Judge, Match, ModelJudge, ServerJudge
from outweigh.selection.winrate import agreement, win_rate
from outweigh.servers.config import ServerConfig, is_server, masked, serves_rewards
from outweigh.steps.record import check_apart, headed, peak_memory

GOLD = "gold"
MILLION = 1_000_000


def judge(
    data: Data,
    against: Data | None = None,
    *,
    by: str | Path | Scorer | Judge,
    out: str | Path | None = None,
    server: ServerConfig | None = None,
    prices: tuple[float, float] | None = None,
    max_tokens: int = MAX_TOKENS,
    on_bad_rows: OnBadRows = "error",
    seed: int = 0,
) -> dict[str, Any]:
    """The verdicts in figures; each goes to `out`, where it is named.

    With `against`, both are rows of one prompt with `responses`, matched by their prompts: of each row the
    response that `kept` names (as `outweigh select` writes it), else its first. Without it `data` are pairs,
    and the judge is set beside the label and, where they are, the votes of people. `by` is a reward model,
    the URL of an OpenAI-compatible server, which says at most `max_tokens` a question, or `gold`, the rows'
    own scores. `prices` are of a million tokens read and said. Bad rows that are skipped are told in
    `bad_rows`.

    Raises:
        DataError: a row is not what it should be and `on_bad_rows` is error, no two prompts match, or there
            is no verdict.
        ConfigError: `out` is the data itself, or a folder.
        ModelError, ServerError: the judge can't be loaded, or does not answer.
    """
    if out is not None:
        check_apart(Path(out), data, against)
        check_lines_name(Path(out))
    _check_asked(by, prices, max_tokens)
    asked = _judge(by, server or ServerConfig(), max_tokens)
    results: dict[str, Any] = headed("judge", seed) | {"by": masked(by)}
    if against is None:
        pairs, bad = _pairs(data, on_bad_rows)
        matches, turned = _sides(pairs, seed)
    else:
        matches, unmatched, bad = _matched(data, against, on_bad_rows)
        results |= {"unmatched": unmatched}
    verdicts = asked.verdicts(matches)
    prompts = [plain(match.prompt) for match in matches]
    if against is None:
        said = np.array([np.nan if each is None else each for each in verdicts])
        of_chosen = np.where(turned, 1.0 - said, said)
        verdicts = [None if np.isnan(each) else float(each) for each in of_chosen]
    results["first" if against is not None else "chosen"] = win_rate(verdicts, prompts, seed=seed)
    if out is not None:  # before anything else is said of them: they are paid for
        rows = zip(prompts, verdicts, strict=True)
        write_rows(out, ({"prompt": prompt, "verdict": verdict} for prompt, verdict in rows))
    if against is None:
        results |= _with_people(pairs, said, turned, prompts, seed)
    if asked.tally is not None:
        tally = asked.tally
        sided = tally.first + tally.second
        results["asked"] = tally.to_dict() | {"chose_the_first_shown": tally.first / sided if sided else None}
        if prices is not None:
            spent = tally.prompt_tokens * prices[0] + tally.completion_tokens * prices[1]
            results["cost"] = spent / MILLION
    return results | {"bad_rows": bad, "peak_memory_bytes": peak_memory()}


def planned_judging(
    data: Data,
    against: Data | None = None,
    *,
    by: str | Path,
    out: str | Path | None = None,
    prices: tuple[float, float] | None = None,
    max_tokens: int = MAX_TOKENS,
    on_bad_rows: OnBadRows = "error",
) -> dict[str, int]:
    """How many pairs of responses would be judged, and how many questions a server would be asked.

    Raises:
        DataError, ConfigError: as `judge`.
    """
    if out is not None:
        check_apart(Path(out), data, against)
        check_lines_name(Path(out))
    _check_asked(by, prices, max_tokens)
    told = _pairs(data, on_bad_rows) if against is None else _matched(data, against, on_bad_rows)
    matches = len(told[0])
    return {"matches": matches, "asked": 2 * matches if _chats(by) else 0}


def _check_asked(by: object, prices: tuple[float, float] | None, max_tokens: int) -> None:
    """Nothing, if what is told of a judge that is asked can be, and there is one.

    Raises:
        ConfigError: it is out of its range, or nobody reads it.
    """
    if prices is not None and not all(0 <= price < np.inf for price in prices):
        raise ConfigError(f"prices: got {prices[0]} and {prices[1]}, want two numbers of 0 or more.")
    if max_tokens < 1:
        raise ConfigError(f"max_tokens: got {max_tokens}, want 1 or more.")
    given = {"prices": prices is not None, "max_tokens": max_tokens != MAX_TOKENS}
    unread = [name for name, is_given in given.items() if is_given]
    if unread and not _chats(by) and not isinstance(by, Judge):
        raise ConfigError(f"{unread[0]}: is read by no judge but a model behind a server. Leave it out.")


def _judge(by: str | Path | Scorer | Judge, server: ServerConfig, max_tokens: int) -> Judge:
    if isinstance(by, Judge):
        return by
    if str(by) == GOLD:
        return GoldJudge()
    if _chats(by):
        return ServerJudge(str(by), server, max_tokens=max_tokens)
    return ModelJudge(load_scorer(by, server))


def _chats(by: object) -> bool:
    return is_server(by) and not serves_rewards(by)


def _pairs(data: Data, on_bad_rows: OnBadRows) -> tuple[list[Pair], list[str]]:
    """The pairs, and what is wrong with the rows left out, of the first 1,000."""
    read = read_pairs(data, on_bad_rows=on_bad_rows)
    return list(read), [f"{origin}: {said}" for origin, said in read.bad_rows]


def _matched(data: Data, against: Data, on_bad_rows: OnBadRows) -> tuple[list[Match], int, list[str]]:
    """The two responses to each prompt that both have, how many rows have none to match, and what is wrong
    with those left out.

    Where a prompt stands in several rows the first is matched with the first, the second with the second.
    """
    bad = list[str]()

    def kept(each: Data) -> Iterator[tuple[Candidates, int]]:
        for raw in raw_rows(each):
            try:
                yield _kept(raw)
            except DataError as error:
                if on_bad_rows == "error":
                    raise
                bad.append(str(error))

    first, second = list(kept(data)), list(kept(against))
    others: dict[Text, deque[tuple[Candidates, int]]] = defaultdict(deque)
    for row, place in second:
        others[row.prompt].append((row, place))
    found = []
    for row, place in first:
        if others[row.prompt]:
            other, its = others[row.prompt].popleft()
            golds = (row.gold, other.gold)
            gold = None if golds[0] is None or golds[1] is None else (golds[0][place], golds[1][its])
            found.append(Match(row.prompt, row.responses[place], other.responses[its], gold))
    if not found:
        raise DataError(f"judge: no prompt stands in both, of {len(first)} and {len(second)} rows.")
    return found, len(first) + len(second) - 2 * len(found), bad


def _kept(raw: RawRow) -> tuple[Candidates, int]:
    row = parsed(raw, row_candidates)
    if not row.prompt:
        raise DataError(f"{raw.origin}: no prompt, want one to match rows by. Add it, or drop the row.")
    place = (raw.values or {}).get("kept", 0)
    if not isinstance(place, int) or not 0 <= place < len(row.responses):
        raise DataError(
            f"{raw.origin}: 'kept' is {place!r}, want a place among {len(row.responses)} responses."
        )
    return row, place


def _sides(pairs: list[Pair], seed: int) -> tuple[list[Match], np.ndarray]:
    """The pairs with their sides shuffled: else whoever always says the first would agree with all labels."""
    turned = np.random.default_rng(seed).random(len(pairs)) < 0.5
    matches = [
        Match(pair.prompt, *((pair.rejected, pair.chosen) if turn else (pair.chosen, pair.rejected)))
        for pair, turn in zip(pairs, turned, strict=True)
    ]
    return matches, turned


def _with_people(
    pairs: list[Pair], said: np.ndarray, turned: np.ndarray, prompts: list[str], seed: int
) -> dict[str, Any]:
    """Agreement with the labels, and with the majority of the votes for either side, where there are votes
    and one takes a side. Votes for neither count for none."""
    votes = [(pair.columns.get("votes_chosen"), pair.columns.get("votes_rejected")) for pair in pairs]
    chosen, rejected = np.array(votes, dtype=np.float64).T  # NaN of pairs without
    people = {"label": np.ones(len(pairs)), "votes": 0.5 * (np.sign(chosen - rejected) + 1.0)}
    found = {}
    for name, each in people.items():
        kept = np.flatnonzero(~np.isnan(said) & ~np.isnan(each))
        if (each[kept] != TIE).any():
            names = [prompts[place] for place in kept]
            found[name] = agreement(said[kept], np.where(turned, 1.0 - each, each)[kept], names, seed=seed)
    return found
