"""The page in a real browser; skipped where there is none."""

import html
import re
import shutil
import subprocess

import pytest

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
    # A frame is as narrow as it is told to be; a window is not.
    frame = tmp_path / "frame.html"
    source = html.escape(page.read_text(encoding="utf-8"))
    frame.write_text(
        f'<iframe style="width:{width}px;height:800px;border:0" srcdoc="{source}"></iframe>'
        "<script>onload = () => { document.title = 'wide ' + "
        "document.querySelector('iframe').contentDocument.documentElement.scrollWidth; };</script>",
        encoding="utf-8",
    )
    dom, _ = opened(frame, tmp_path)
    assert int(re.search(r"<title>wide (\d+)", dom)[1]) <= width
