import itertools
import re
from html.parser import HTMLParser

import pytest

from outweigh.report import DoubtfulPair, write_report

VOID = {"meta", "link", "input", "br"}


class Page(HTMLParser):
    """The page's tags, headings and visible words; tags that are not closed in order are an error."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.headings, self.words, self.open = [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in {"h1", "h2", "h3", "h4", "h5"}:
            self.headings.append((int(tag[1]), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)
        if self.open and re.fullmatch("h[1-5]", self.open[-1]):
            self.headings[-1] = (self.headings[-1][0], self.headings[-1][1] + data)

    @property
    def text(self):
        return " ".join(self.words)

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


def page(results, doubtful, folder):
    return Page(write_report(results, doubtful, folder).read_text(encoding="utf-8"))


def pair(text, **changes):
    given = {"origin": "a.jsonl:1", "prompt": "p", "chosen": text, "rejected": "r", "strength": -1.0}
    return DoubtfulPair(**given | {"spread": 0.1, "wrong_probability": 0.9, "action": "flip"} | changes)


@pytest.fixture(scope="module")
def built(whole, doubtful, tmp_path_factory):
    return page(whole, doubtful, tmp_path_factory.mktemp("whole"))


def test_it_says_what_to_type_to_have_it_again(tmp_path):
    files = {"files": [{"path": "my pairs.jsonl", "sha256": "0"}]}
    run = {"command": "run", "data": files, "eval_data": files | {"unit": "prompt"}}
    assert "outweigh run 'my pairs.jsonl' --config run.yaml --out DIR" in page(run, [], tmp_path).text
    run["eval_data"]["unit"] = "given"
    assert "--eval 'my pairs.jsonl' --config run.yaml" in page(run, [], tmp_path).text
    run["data"] = {"files": [{"path": f"pairs/{name}.jsonl"} for name in "ab"]}
    assert "outweigh run pairs --eval" in page(run, [], tmp_path).text
    assert "outweigh demo --seed 3 --out DIR" in page({"command": "demo", "seed": 3}, [], tmp_path).text


def test_the_whole_run_fills_every_section(built, doubtful):
    assert [title for level, title in built.headings if level == 2] == [
        "The data",
        "What is wrong with it",
        "The repair",
        "The reward model",
        "The proof",
        "What it cost",
        "How to reproduce it",
    ]
    assert built.count("article") == len(doubtful) and built.count("svg") == 7
    assert "Trusted: repair" in built.text and "outweigh run arguments.train.jsonl" in built.text


SECTIONS = [
    "data", "eval_data", "tokens", "audit", "denoise", "train", "evaluation", "comparison", "planted",
    "seconds", "peak_memory_bytes", "command", "machine", "versions",
]  # fmt: skip


ALONE = {
    "nothing": [],
    "an audit": ["data", "audit", "denoise", "seconds"],
    "an audit with planted flips": ["audit", "planted"],
    "a training": ["data", "tokens", "train", "machine"],
    "an evaluation": ["eval_data", "evaluation"],
    "a comparison": ["evaluation", "comparison", "versions"],
    **{f"{part} alone": [part] for part in SECTIONS},
}


@pytest.mark.parametrize("parts", ALONE.values(), ids=ALONE)
def test_any_part_of_the_results_makes_a_page_without_empty_sections(parts, whole, tmp_path):
    partial = page({part: whole[part] for part in parts}, [], tmp_path)
    assert not re.search(r"\b(None|nan|inf|Undefined|Markup)\b", partial.text)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    for section in re.findall(r"<section.*?</section>", html, flags=re.S):
        assert re.search("<(table|figure|p|pre|dl)", section)
    assert bool(parts) == ("<section" in html)


def test_a_part_that_holds_nothing_is_a_part_that_is_absent(tmp_path):
    nothing = page({}, [], tmp_path).tags
    assert page(dict.fromkeys(SECTIONS), [], tmp_path).tags == nothing
    assert page({part: {} for part in SECTIONS}, [], tmp_path).tags == nothing


def test_numbers_that_are_none_or_nan_leave_no_trace(results, doubtful, tmp_path):
    def hollow(value):
        if isinstance(value, dict):
            return {key: hollow(each) for key, each in value.items()}
        if isinstance(value, list):
            return [hollow(each) for each in value]
        return float("nan") if isinstance(value, float) else None if isinstance(value, int) else value

    built = page(hollow(results), doubtful, tmp_path)
    assert not re.search(r"\b(None|nan|inf)\b", built.text)


def test_headings_step_down_one_level_at_a_time(built):
    levels = [level for level, _ in built.headings]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_every_table_names_its_rows_and_columns(built):
    assert built.count("table") == built.count("caption") == 18
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs in built.tags if tag == "th")
    assert all(attrs.get("aria-label") for tag, attrs in built.tags if tag == "svg")


def test_nothing_on_the_page_is_fetched(built):
    links = [
        value
        for _, attrs in built.tags
        for key, value in attrs.items()
        if key in ("src", "href", "xlink:href")
    ]
    assert links and all(link.startswith(("#", "data:")) for link in links)
    policy = next(attrs["content"] for tag, attrs in built.tags if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none';") and "unsafe-eval" not in policy


ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'</style>&amp;{{ 7 * 7 }}"


def test_a_text_is_never_markup(results, tmp_path):
    doubtful = [pair(ATTACK, prompt=ATTACK, rejected=ATTACK, origin=ATTACK, source=ATTACK, action=ATTACK)]
    results["command"] = results["denoise"]["policy"] = results["audit"]["trust"]["reason"] = ATTACK
    results["audit"]["by_source"][0]["source"] = ATTACK
    results["data"]["unread_columns"] = {ATTACK: ATTACK}
    results["data"]["files"][0]["path"] = ATTACK
    results["versions"] = {ATTACK: ATTACK}
    for part in ("evaluation", "train"):
        results[part] = {ATTACK: results[part]["plain"]}
    results["train"][ATTACK]["alarms"] = {ATTACK: {"cause": ATTACK, "remedy": ATTACK, "step": 1}}
    results["comparison"]["name_a"] = ATTACK
    built = page(results, doubtful, tmp_path)
    assert built.count("script") == built.count("style") == 1 and built.count("img") == 0
    assert not any(key.startswith("on") for _, attrs in built.tags for key in attrs)
    assert ATTACK in built.text  # as it was written, `{{ }}` and `&amp;` too


def test_invisible_characters_are_named(tmp_path):
    built = page({}, [pair("good\u202edab\u200b", source="so\u2066urce")], tmp_path)
    assert "good[U+202E]dab[U+200B]" in built.text and "so[U+2066]urce" in built.text


def test_half_a_surrogate_pair_does_not_stop_the_page(tmp_path):
    assert "[U+D83D]" in page({"command": "x\ud83d"}, [pair("\ud83d")], tmp_path).text


def test_a_text_of_a_million_characters_is_cut_with_its_length(tmp_path):
    built = page({}, [pair("\u00e4" * 1_000_000)], tmp_path)
    assert "ä" * 4000 + " … [cut: 1,000,000 characters in all]" in built.text
    assert (tmp_path / "report.html").stat().st_size < 60_000


@pytest.mark.parametrize("letter", ["a", "<", "\u6f22", "\U0001f600"])
def test_the_page_stays_under_three_megabytes_whatever_the_texts(letter, tmp_path):
    text = letter * 10_000
    built = page({}, [pair(text, prompt=text, rejected=text)] * 1000, tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 2_500_000  # a run adds 200 kB
    shown = built.count("article")
    assert 20 <= shown <= 200 and f"The first {shown} of 1,000 pairs" in " ".join(built.text.split())


def test_short_pairs_are_shown_up_to_two_hundred(tmp_path):
    built = page({}, [pair(f"text {i}") for i in range(300)], tmp_path)
    assert built.count("article") == 200 and "The first 200 of 300 pairs" in built.text


def test_the_filter_offers_each_action_by_itself(doubtful, tmp_path):
    html = write_report({}, doubtful, tmp_path).read_text(encoding="utf-8")
    assert re.findall(r"<option>(.*?)</option>", html) == ["drop", "flip", "keep", "margin", "smooth"]


def test_the_same_results_give_the_same_files(whole, doubtful, tmp_path):
    for name in "ab":
        write_report({"evaluation": whole["evaluation"]}, doubtful, tmp_path / name)
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.*")} for name in "ab"
    )
    assert len(first) == 4 and first == second  # the page and three plots
