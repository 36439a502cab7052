"""`outweigh denoise`: the rows of the data again, each with what was done to its pair."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from outweigh.data.files import content_hash, raw_rows
from outweigh.data.pairs import Data
from outweigh.data.rows import row_pairs
from outweigh.data.writing import IGNORED_BY, PEER_ROWS, row_of_pair, write_rows
from outweigh.denoising.policies import Repair, RepairOptions, check_options, repair
from outweigh.denoising.rows import RowCounts, repaired_row
from outweigh.errors import ConfigError, DataError
from outweigh.steps.record import AUDIT, STRENGTH, check_apart, sources


def denoise(
    data: Data,
    *,
    audit: str | Path,
    out: str | Path | None,
    policy: str | None = None,
    options: RepairOptions | None = None,
    peer: str | None = None,
    margin_is_signed: bool = False,
) -> dict[str, Any]:
    """What was done to how many pairs; the rows go to `out`, those of audited pairs alone. With None nothing
    is written.

    `policy` and `options` None take what the audit recommends. With `peer` the rows are those that this
    trainer reads.

    Raises:
        DataError: there is no audit, or it is of other data.
        ConfigError: no such policy or peer.
    """
    if peer is not None and peer not in PEER_ROWS:
        raise ConfigError(f"for: got {peer!r}, want one of {', '.join(PEER_ROWS)}.")
    if out is not None:
        check_apart(Path(out), data)
    policy, values, found = _decided(data, Path(audit), policy, options)
    counts = RowCounts()
    rows = _repaired(data, values, found, counts, margin_is_signed)
    if peer is not None:
        rows = map(PEER_ROWS[peer], rows)
    written = sum(1 for _ in rows) if out is None else write_rows(out, rows)
    return {
        "policy": policy,
        "actions": counts.actions,
        "written": written,
        "margins_zeroed": counts.margins_zeroed,
        "margins_negated": counts.margins_negated,
        "flip_rates_zeroed": counts.flip_rates_zeroed,
        "ignored_by_peer": list(IGNORED_BY[peer]) if peer else [],
    }


def _decided(
    data: Data, audit: Path, policy: str | None, options: RepairOptions | None
) -> tuple[str, dict[str, np.ndarray], Repair]:
    """The policy, the audit's values, and what the policy does to each pair."""
    values, about = read_audit(audit, data)
    policy = policy or str(about["denoise"]["policy"])
    own = options or RepairOptions(**about["denoise"]["options"])
    strength, spread, wrong = (
        values[name].astype(np.float64) for name in ("strength", "spread", "wrong_probability")
    )
    found = repair(policy, strength, spread, wrong, own)  # which knows the policies
    if options is not None:
        check_options(policy, options)
    if found.drop.all():
        raise ConfigError(f"policy {policy}: drops all {len(found.drop):,} pairs. Lower fraction.")
    return policy, values, found


def read_audit(folder: Path, data: Data) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The values of each pair, and what audit.json holds.

    Raises:
        DataError: there is no whole audit, or it is of other data.
    """
    try:
        about = json.loads((folder / AUDIT).read_text(encoding="utf-8"))
        hashes = [each.get("sha256") for each in about["data"]["files"]]
        own = content_hash(folder / STRENGTH)
        if about.get("strength_sha256", own) != own:  # older audits don't tell
            raise ValueError(f"{STRENGTH} is not the one of {AUDIT}")
        table = pq.read_table(folder / STRENGTH)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: no whole audit ({error}). Run: outweigh audit DATA --out DIR") from None
    if hashes != [each.get("sha256") for each in sources(data)]:
        raise DataError(f"{folder}: is the audit of other data. Run: outweigh audit DATA --out DIR")
    return {name: table.column(name).to_numpy() for name in table.column_names}, about


def _repaired(
    data: Data, strength: dict[str, np.ndarray], found: Repair, counts: RowCounts, margin_is_signed: bool
) -> Iterator[dict[str, Any]]:
    """The output rows, in the data's order; a row is read again and matched with its pairs in the audit."""
    place, pairs = 0, len(strength["row"])
    for raw in raw_rows(data):
        if place == pairs:
            return
        if raw.values is None or raw.row != strength["row"][place]:
            continue  # skipped, dropped or held out, and counted, when the audit read the data
        for pair in row_pairs(raw.values, raw.row, raw.origin).pairs:
            if place == pairs or not _is_at(pair.columns, strength, place, raw.row):
                continue
            row = row_of_pair(raw.values, pair)
            done = repaired_row(
                row, found, place, row_number=raw.row, counts=counts, margin_is_signed=margin_is_signed
            )
            place += 1
            if done is not None:
                yield done


def _is_at(columns: Any, strength: dict[str, np.ndarray], place: int, row: int) -> bool:
    return strength["row"][place] == row and all(
        strength[name][place] == columns[name]
        for name in ("chosen_index", "rejected_index")
        if name in strength
    )
