"""Best of n where the gold is a domain's own: how near a translation comes to a human one, by chrF.

    pip install -c constraints.txt django sacrebleu
    python bench/translation.py --n 8 --max-new-tokens 64 --reward-model DIR --work DIR

The policy (SmolLM2) is asked for the French of English sentences: those of 5 to 20 words among Django's own
messages, whose translations come with it. The gold is sentence chrF (Popovic 2015), 0 to 1, of the answer's
first line that is not empty. Prints JSON: the mean gold, that of the English itself handed in, and with a
reward model the best-of-n curve, beside the longest answer. What --work has is not drawn again.
"""

import gettext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from domain import judged, parser_of, tell, told_of

NOT_PLAIN = "%<{\n"
"""What a sentence with blanks or mark-up has, or two of them."""


def sentences(language: str) -> dict[str, str]:
    """English messages and their translation."""
    place = Path(import_module("django").__path__[0])
    catalogs = sorted(place.rglob(f"locale/{language}/LC_MESSAGES/django.mo"))
    pairs: dict[str, str] = {}
    for catalog in catalogs:
        with catalog.open("rb") as file:
            messages = gettext.GNUTranslations(file)
        pairs |= {each: messages.gettext(each) for each in _ids(messages) if _is_plain(each)}
    return pairs


def _ids(messages: gettext.GNUTranslations) -> list[str]:
    catalog: dict[object, str] = vars(messages)["_catalog"]  # it offers no other list of what it has
    return [each for each in catalog if isinstance(each, str)]  # not of several numbers


def _is_plain(text: str) -> bool:
    return 5 <= len(text.split()) <= 20 and text.endswith(".") and not any(each in text for each in NOT_PLAIN)


def first_line(answer: str) -> str:
    """Of an answer that goes on to explain itself, what it begins with."""
    return next((line.strip() for line in answer.splitlines() if line.strip()), "")


def main() -> None:
    """Draws, compares and prints."""
    told = parser_of(__doc__).parse_args()
    if missing := [name for name in ("django", "sacrebleu") if find_spec(name) is None]:
        needed = " ".join(missing)
        raise SystemExit(f"translation: needs {needed}. Run: pip install -c constraints.txt {needed}")
    chrf = import_module("sacrebleu.metrics").CHRF()
    pairs = sentences("fr")
    french = list(pairs.values())

    def gold(place: int, answer: str) -> float:
        return float(chrf.sentence_score(first_line(answer), [french[place]]).score / 100)

    asked = [f"Translate into French. Answer with the translation alone.\n\n{each}" for each in pairs]
    rows = judged(told, asked, gold)
    copied = [gold(place, each) for place, each in enumerate(pairs)]
    tell(told_of(told, rows) | {"gold_of_the_english": sum(copied) / len(copied)})


if __name__ == "__main__":
    main()
