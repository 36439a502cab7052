import re
import xml.etree.ElementTree as ElementTree

import pytest

from outweigh.report.plots import DARK, LIGHT, PLOTS, draw_all
from outweigh.report.texts import present


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_every_colour_of_text_has_the_contrast_that_readers_need(palette):
    texts = [palette[name] for name in ("ink", "muted", "blue", "orange", "green", "purple")]
    # WCAG 2 AA for small text
    assert min(contrast(text, palette[ground]) for text in texts for ground in ("paper", "panel")) >= 4.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("plots")


@pytest.fixture(scope="module")
def plots(whole, folder):
    return draw_all(present(whole), PLOTS, folder)


def test_each_plot_is_on_the_page_and_in_a_file(plots, folder):
    assert set(plots) == set(PLOTS) == {path.stem for path in folder.glob("*.png")}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.iterdir())


def test_without_data_there_is_neither_plot_nor_folder(tmp_path):
    assert draw_all({}, PLOTS, tmp_path / "plots") == {} and not (tmp_path / "plots").exists()


def test_a_plot_takes_its_colours_from_the_page_and_can_be_read_aloud(plots):
    for plot in plots.values():
        root = ElementTree.fromstring(str(plot.svg))
        assert root.get("role") == "img" and len(root.get("aria-label")) > 30
        assert not re.findall(r"(?:fill|stroke): #(?!ffffff)\w+", plot.svg)
        assert "var(--ink)" in plot.svg and "<metadata" not in plot.svg


def test_no_two_plots_share_an_id_and_every_reference_has_its_target(plots):
    page = "".join(plot.svg for plot in plots.values())
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(ids)


@pytest.mark.filterwarnings("error")
def test_a_model_may_have_any_name(results, tmp_path):
    name = "漢字<script>$x^{$\x00" + "a" * 500
    evaluation = present({"evaluation": {name: results["evaluation"]["plain"]}})
    for plot in draw_all(evaluation, PLOTS, tmp_path).values():
        ElementTree.fromstring(str(plot.svg))
        assert "<script" not in plot.svg


def test_what_has_no_value_leaves_a_plot_whole(results, tmp_path):
    log = [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 0.6}, {"step": 3, "train_loss": 1.0}]
    results["train"] = {"model": {"log": log}}
    results["audit"]["strength"]["wrong_probability"][5] = None
    results["evaluation"]["plain"]["gap"]["counts"] = [1]  # not one fewer than the edges
    results["evaluation"]["repaired"]["calibration"]["after"] = None
    plots = draw_all(present(results), PLOTS, tmp_path)
    assert set(plots) == set(PLOTS) - {"training_accuracy"}
    assert ">plain<" not in plots["gaps"].svg and "with temperature" not in plots["reliability"].svg


def test_a_curve_of_many_steps_is_thinned(tmp_path):
    log = [{"step": step, "loss": 0.7} for step in range(50_000)]
    plots = draw_all({"train": {"model": {"log": log}}}, PLOTS, tmp_path)
    assert len(plots["training_loss"].svg) < 30_000
