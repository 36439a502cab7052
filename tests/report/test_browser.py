"""The page in a real browser; skipped where there is none."""

import html
import re
import shutil
import subprocess

import pytest

from outweigh.align.rounds import ALARMS
from outweigh.report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=2000",
    "--dump-dom",
]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")]


def opened(path, folder):
    """The page's DOM after its script has run, and what the console said."""
    command = [BROWSER, *QUIET, f"--user-data-dir={folder / 'profile'}", path.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return ran.stdout, re.findall(r"CONSOLE.*", ran.stderr)


def test_the_console_is_silent_and_the_script_has_run(results, doubtful, tmp_path):
    # The page's policy forbids every request: one that was tried would stand in the console as an error.
    dom, console = opened(write_report(results, doubtful, tmp_path), tmp_path)
    assert console == []
    assert '<output id="found" aria-live="polite">10 of 36 shown</output>' in dom
    assert len(re.findall(r'<article data-action="[^"]*" hidden="">', dom)) == 26


def test_a_request_or_a_foreign_script_would_have_been_seen(results, doubtful, tmp_path):
    page = write_report(results, doubtful, tmp_path)
    foreign = '<img src="http://127.0.0.1:9/x.png"><script>document.title = "changed"</script></main>'
    page.write_text(page.read_text(encoding="utf-8").replace("</main>", foreign), encoding="utf-8")
    dom, console = opened(page, tmp_path)
    assert len(console) == 2 and all("Content Security Policy" in line for line in console)
    assert "<title>changed" not in dom


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_never_scrolls_sideways(width, results, doubtful, tmp_path):
    wide = doubtful[0]._replace(chosen="x" * 3000, origin="y" * 300, source="z" * 300)
    results["evaluation"] = {f"{name}-{'n' * 60}": each for name, each in results["evaluation"].items()}
    page = write_report(results, [wide, *doubtful], tmp_path)
    assert measured(page, width, "documentElement.scrollWidth", tmp_path) <= width


def rounds():
    """Three rounds that gave every alarm, each figure with its interval."""
    estimate = {"value": -1.234, "low": -2.345, "high": -1.023}
    names = ("reward_gain", "gold_gain", "divergence", "tokens", "diversity")
    facts = dict.fromkeys(names, estimate) | {"finished": 1.0, "wins": {"win": 1.0, "tie": 0.0, "lose": 1.0}}
    told = {name: {"cause": cause, "remedy": remedy} for name, (cause, remedy) in ALARMS.items()}
    return [{**facts, "round": number, "alarms": told if number else {}} for number in range(4)]


@pytest.mark.parametrize("width", [390, 1200])
def test_the_rounds_break_no_word_and_scroll_within_their_table_alone(width, tmp_path):
    page = write_report({"rounds": rounds(), "kept": 3}, [], tmp_path)
    assert measured(page, width, "documentElement.scrollWidth", tmp_path) <= width
    words = "querySelector('#table-round_alarms thead').offsetHeight"
    assert measured(page, width, words, tmp_path) < 40  # 'round' stands in one line, not in five
    hidden = "querySelector('#table-rounds').scrollWidth - d.querySelector('#table-rounds').clientWidth"
    assert (measured(page, width, hidden, tmp_path) == 0) == (width > 1000)


def measured(page, width, what, folder):
    """A number of the page's document where it is so wide: a frame is as narrow as it is told to be; a window
    is not."""
    frame = folder / "frame.html"
    source = html.escape(page.read_text(encoding="utf-8"))
    frame.write_text(
        f'<iframe style="width:{width}px;height:800px;border:0" srcdoc="{source}"></iframe>'
        "<script>onload = () => { const d = document.querySelector('iframe').contentDocument; "
        f"document.title = 'found ' + (d.{what}); }};</script>",
        encoding="utf-8",
    )
    dom, _ = opened(frame, folder)
    return int(re.search(r"<title>found (\d+)", dom)[1])
