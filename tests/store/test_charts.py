"""Charts of counts: what is drawn stands where its figure says, and what is written is escaped."""

import re
from xml.etree import ElementTree

import pytest

from volant.store.charts import bars, columns, forest
from volant.store.page import contents, section
from volant.store.plots import Mark


def drawn(figure, tag):
    return [element.attrib for element in ElementTree.fromstring(figure).iter(tag)]


def test_columns_are_as_high_as_their_counts_and_the_limit_is_drawn():
    figure = columns("A", "b", [1, 0, 4], ["0", "3"], limit=0.5)
    low, high = sorted(float(rect["height"]) for rect in drawn(figure, "rect"))
    assert high == pytest.approx(4 * low)
    (goal,) = [line for line in drawn(figure, "line") if line["class"] == "goal"]
    assert float(goal["x1"]) == 210
    assert not [line for line in drawn(columns("A", "b", [2], ["0"]), "line") if line["class"] == "goal"]


def test_bars_are_as_long_as_their_counts():
    figure = bars("<A>", "b & c", [("many <i>", 30), ("a name that is longer than there is room for", 10)])
    long, short = (float(rect["width"]) for rect in drawn(figure, "rect"))
    assert long == pytest.approx(3 * short, abs=0.1)
    shown = [text.text for text in ElementTree.fromstring(figure).iter("text")]
    assert "many <i>" in shown and any(str(text).endswith("…") for text in shown) and "<i>" not in figure
    assert drawn(bars("A", "b", []), "rect") == []


def test_a_forest_of_ratios_has_equal_factors_equally_far_apart():
    marks = [Mark("half", 0.5, 0.25, 1, "down"), Mark("even", 1, 0.5, 2), Mark("far", 100, 2, 9999)]
    figure = forest("A", "b", marks, band=(0.8, 1.25), ratio=True)
    half, even, far = (float(circle["cx"]) for circle in drawn(figure, "circle"))
    (band,) = drawn(figure, "rect")
    start, wide = float(band["x"]), float(band["width"])
    assert start < even < start + wide and start + wide / 2 == pytest.approx(even, abs=0.1)
    assert far - even == pytest.approx(3 * (even - half), abs=0.1), "cut off at 8"
    assert [circle["class"] for circle in drawn(figure, "circle")] == ["down", "b", "b"]


def test_a_forest_of_differences_is_even_around_nothing():
    figure = forest("A", "b", [Mark("left", -2, -3, -1, "a"), Mark("right", 2, 1, 3, "a")])
    left, right = (float(circle["cx"]) for circle in drawn(figure, "circle"))
    (zero,) = [line for line in drawn(figure, "line") if line["class"] == "zero"]
    assert float(zero["x1"]) == pytest.approx((left + right) / 2, abs=0.1)


def test_contents_lead_to_headings():
    parts = [section("What was dropped", "x"), section("A < B", "y")]
    links = re.findall(r'href="#([^"]+)">([^<]+)<', contents(parts).replace("&lt;", "lt"))
    assert links == [("what-was-dropped", "What was dropped"), ("a-b", "A lt B")]
    assert all(f'id="{anchor}"' in "".join(parts) for anchor, _ in links)
