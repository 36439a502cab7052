"""outweigh generate PROMPTS --policy P --n N --out FILE"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from outweigh.cli.parse import Common, OnBadRows, Shared, parse
from outweigh.generation.config import SamplingConfig
from outweigh.servers.config import ServerConfig


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Sampled responses to prompts, by a policy in memory or behind a server."""

    data: tyro.conf.Positional[str]
    """File, folder or Hub data set of rows with a prompt; of pairs the prompts are taken."""
    policy: str
    """A causal model: a folder, a Hub name, smollm2; or the URL of an OpenAI-compatible server, http://.../v1."""
    out: Path
    """File for the rows, .jsonl or .jsonl.gz; one that is there is not written over."""
    sampling: Annotated[SamplingConfig, tyro.conf.arg(name="")] = field(default_factory=SamplingConfig)
    """How responses are drawn."""
    server: ServerConfig = field(default_factory=ServerConfig)
    """How a server is asked."""
    on_bad_rows: OnBadRows = "error"
    """skip leaves out rows without a prompt, with one too long for the policy, or that its server refuses,
    and counts them."""
    resume: bool = False
    """Go on with what an interrupted run has finished."""
    common: Shared = field(default_factory=Common)


def main(arguments: Sequence[str]) -> None:
    """Parses and generates."""
    told = parse(Generate, arguments)
    from outweigh.cli.show import generation_lines, generation_plan_lines, show
    from outweigh.steps.generate import generate, planned_generation

    if told.common.dry_run:
        plan = planned_generation(
            told.data,
            policy=told.policy,
            out=told.out,
            config=told.sampling,
            server=told.server,
            on_bad_rows=told.on_bad_rows,
            resume=told.resume,
        )
        return show(told.common, plan, generation_plan_lines(plan))
    results = generate(
        told.data,
        policy=told.policy,
        out=told.out,
        config=told.sampling,
        server=told.server,
        on_bad_rows=told.on_bad_rows,
        resume=told.resume,
    )
    show(told.common, results, generation_lines(results, told.out))
