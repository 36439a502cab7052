"""`outweigh VERB ...`: finds the verb, turns errors into one line and an exit code."""

import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version

from outweigh.errors import OutweighError, what_to_do

DONE, OUR_FAULT, USERS_INPUT, INTERRUPTED = 0, 1, 2, 130

ONWARDS = dict.fromkeys(("run", "train", "align", "generate", "score", "demo"), "--resume") | {
    "study": "the same command"
}
"""How an interrupted verb goes on."""
VERBS: dict[str, str] = {
    "run": "audit -> denoise -> train -> evaluate -> report, in one command",
    "audit": "how good the labels are: strength and wrong_probability of every pair",
    "denoise": "the pairs with their labels flipped, smoothed, margined or dropped",
    "train": "a reward model from pairs",
    "align": "a policy: align dpo, from pairs on the same equation; align rl, against a reward model",
    "score": "rewards of the texts of a file",
    "evaluate": "accuracy, calibration and correlation of one or several reward models",
    "generate": "sampled responses to prompts, by a policy in memory or behind a server",
    "select": "of K responses the kept one, and what the best of n is worth",
    "judge": "a win rate, by gold scores, a reward model or a model behind a server",
    "study": "a grid of runs -> one table: which methods help on which data",
    "demo": "run, on the pairs that come with the package",
}

HELP = """outweigh turns noisy preference pairs into a reward model that can be trusted, and shows why it can.

usage: outweigh VERB ...

{verbs}

outweigh VERB --help shows a verb's options. DATA is a .jsonl, .json, .csv or .parquet file (or .gz), a folder
of them, or a Hub data set; MODEL and NAME are a folder, a Hub name, or bundled: minilm, smollm2."""


def _help() -> str:
    return HELP.format(verbs="\n".join(f"  {verb:<10}{about}" for verb, about in VERBS.items()))


SAID: dict[str, Callable[[], str]] = {
    "-h": _help,
    "--help": _help,
    "--version": lambda: f"outweigh {version('outweigh')}",
}
"""What stands in a verb's place and is answered with a text."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 our fault, 2 the user's input, 130 interrupted."""
    verb, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if verb not in (*VERBS, *SAID):
        near = get_close_matches(verb, VERBS, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Want one of {', '.join(VERBS)}."
        return _told(f"outweigh: no verb {verb!r}. {hint}", USERS_INPUT)
    try:
        if verb in SAID:
            print(SAID[verb](), flush=True)
        else:
            import_module(f"outweigh.cli.{verb}").main(rest)
    except OutweighError as error:
        return _told(f"outweigh {verb}: {error}", USERS_INPUT)
    except KeyboardInterrupt:
        onwards = ONWARDS.get(verb)
        kept = f" What was finished is kept; {onwards} goes on." if onwards else ""
        return _told(f"\noutweigh {verb}: interrupted.{kept}", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOENT, errno.EDQUOT):
            return _fault(verb, error)
        where = f"{error.filename}: " if error.filename else ""
        return _told(f"outweigh {verb}: {where}{error.strerror}. {what_to_do(error)}", USERS_INPUT)
    except UnicodeEncodeError as error:
        what = error.object[error.start : error.end]
        said = f"{what!r} can't be written as {error.encoding}. Set a UTF-8 locale, or rename the file."
        return _told(f"outweigh {verb}: {said}", USERS_INPUT)
    except Exception as error:
        return _fault(verb, error)
    return DONE


def _told(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _fault(verb: str, error: Exception) -> int:
    if os.environ.get("OUTWEIGH_TRACEBACK"):
        traceback.print_exc()
    reason = f"{type(error).__name__}: {error}"
    return _told(
        f"outweigh {verb}: a fault of outweigh, not of your input: {reason}. Set OUTWEIGH_TRACEBACK=1 to see "
        "where, and please report it.",
        OUR_FAULT,
    )
