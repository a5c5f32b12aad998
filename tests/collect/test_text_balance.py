"""`collect.balance` of texts: what is planted is found with its size, what is even is not pointed out."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from test_collect import made, run_in, snapshot_of

from volant.core.errors import DataError
from volant.core.sample import Label, Sample, Source, sample_id
from volant.core.spec import Goal
from volant.modalities import demography
from volant.stages import collect

SOURCE = Source(uri="t", licence="MIT")


def text(content, drop="", label="", split="train"):
    labels = [Label(name="grade", value=label, by="us")] if label else []
    return Sample(
        id=sample_id(content), shape="text", source=SOURCE, content=content, split=split, group="g", drop=drop,
        labels=labels,
    )  # fmt: skip


def said(who, number, more=""):
    return f"On day {number} {who} walked along the river and came home late. {more}"


def people(count, *, women_gone=0.2, men_gone=0.2, good_women=0.5, good_men=0.5):
    """Texts of women and of men, of which a rule takes shares away, graded; every tenth of the rest by turns."""
    found = []
    for who, gone, good in (("the woman", women_gone, good_women), ("the man", men_gone, good_men)):
        for i in range(count):
            drop = "max_symbols: 0.2 against 0.1" if i % 20 < gone * 20 else ""
            found.append(text(said(who, i), drop, "high" if (i // 20) % 10 < good * 10 else "low"))
    return found


def balanced(folder, samples, step="balance", goal=None, terms=None, **settings):
    folder.mkdir(exist_ok=True)
    run = run_in(folder, step, goal=goal or Goal())
    if terms:
        (folder / f"{step}.txt").write_text(terms)
        run.outside["terms"] = snapshot_of(folder, [f"{step}.txt"])
    result = collect.balance(run, made(folder, samples, f"{step}-in"), **settings)
    return {s.name: s for s in run.watcher.scores}, json.loads((result.path / "balance.json").read_text()), result


def test_who_is_spoken_of_is_counted(tmp_path):
    samples = [text(said("she", i)) for i in range(6)] + [text(said("he", i)) for i in range(3)]
    samples += [text("A Muslim and a Hindu met a black dog, a black woman and her son."), text(said("it", 1))]
    scores, body, _ = balanced(tmp_path, samples, protected=["gender", "religion", "race or ethnicity"])
    named = {group: n["kept"] for own in body["mentions"].values() for group, n in own.items() if n["kept"]}
    assert named == {"women": 7, "men": 4, "muslims": 1, "hindus": 1, "black people": 1}
    assert scores["balance_gender"].value == 0 and "non-binary" in scores["balance_gender"].note
    with pytest.raises(DataError, match="no axis 'gendre'.*Did you mean 'gender'"):
        balanced(tmp_path, samples, step="typo", protected=["gendre"])


@pytest.mark.parametrize(
    ("women", "ratio", "state"), [(0.2, 1.0, "inside"), (0.5, 2.5, "outside"), (0.05, 0.25, "outside")]
)
def test_a_rule_that_takes_one_group_is_pointed_out(tmp_path, women, ratio, state):
    scores, body, result = balanced(tmp_path, people(400, women_gone=women), protected=["gender"])
    (found,) = [r for r in body["removal"] if r["group"] == "women"]
    assert found["ratio"] == pytest.approx(ratio, rel=0.03) and found["state"] == state
    assert found["gone"] == women * 400 and found["low"] < ratio < found["high"]
    worst = scores["removal_disparity"]
    assert worst.value == pytest.approx(max(ratio, 1 / ratio), rel=0.06) and worst.low <= worst.value <= worst.high
    page = (result.path / "index.html").read_text()
    assert ('badge pass">inside' if state == "inside" else 'badge fail">outside') in page


def test_a_bound_on_removal_stops_the_step_for_certain_only(tmp_path):
    goal = Goal(accept={"removal_disparity": "<= 1.25"})
    balanced(tmp_path, people(400), goal=goal, protected=["gender"])
    with pytest.raises(DataError, match=r"removal_disparity is 2\.4.*max_symbols took away .*men.*goal asks"):
        balanced(tmp_path, people(400, women_gone=0.5), step="unfair", goal=goal, protected=["gender"])
    few = people(40, women_gone=0.35, men_gone=0.25)
    scores, _, _ = balanced(tmp_path, few, step="few", goal=goal, protected=["gender"])
    assert scores["removal_disparity"].value > 1.25 and scores["removal_disparity"].low == 1


def test_occupations_stand_beside_a_gender(tmp_path):
    lines = [f"The nurse said that she saw {i} birds." for i in range(45)]
    lines += [f"The nurse said that he saw {i} birds." for i in range(5)]
    lines += [f"The lawyer said that {who} saw {i} birds." for who in ("she", "he") for i in range(60)]
    lines += [f"In town {i} he told her of a teacher." for i in range(50)]
    scores, body, _ = balanced(tmp_path, [text(" ".join(lines[i::30])) for i in range(30)])
    found = {b["occupation"]: b for b in body["occupations"]}
    assert set(found) == {"nurse", "lawyer"} and found["nurse"]["women"] == 45 and found["nurse"]["men"] == 5
    assert found["nurse"]["low"] > 0 > found["lawyer"]["low"] and found["nurse"]["pmi_women"] > 0
    most = scores["occupation_gender"]
    assert most.note.startswith("nurse: 45 sentences") and 0 < most.low < most.value < most.high
    even = [text(f"The lawyer said that {w} saw {i} birds.") for w in ("she", "he") for i in range(30)]
    scores, _, _ = balanced(tmp_path, even, step="even")
    assert scores["occupation_gender"].low == 0


def test_labels_that_fall_unevenly(tmp_path):
    even, _, _ = balanced(tmp_path, people(400), step="even", positive="high", protected=["gender"])
    uneven, body, _ = balanced(tmp_path, people(400, good_women=0.8, good_men=0.4), label="grade", positive="high")
    assert even["label_disparity_gender"].value < 0.01 and body["labels"] == {"high": 480, "low": 320}
    assert uneven["label_disparity_gender"].value == pytest.approx(0.4, abs=0.02)
    assert uneven["label_disparity"].low > 0.3
    with pytest.raises(DataError, match="no text has the label 'mark'"):
        balanced(tmp_path, people(20), step="none", label="mark")


def test_terms_of_ones_own(tmp_path):
    own = "# teams\nteam | reds | red fox, foxes\nteam | blues | blue jay\n"
    samples = [text("A red fox ran."), text("Foxes ran."), text("The blue jay sang."), text("She sang.")]
    scores, body, _ = balanced(tmp_path, samples, terms=own)
    assert body["mentions"] == {"team": {"reds": {"kept": 2, "dropped": 0}, "blues": {"kept": 1, "dropped": 0}}}
    assert scores["balance_team"].value == 0.5
    for step, wrong, says in (("a", "team | reds\n", r"a\.txt:1.*axis | group"), ("b", "# no\n", "no group")):
        with pytest.raises(DataError, match=says):
            balanced(tmp_path, samples, step=step, terms=wrong)


def test_the_terms_that_ship_hold_together():
    axes = demography.groups()
    assert {"gender", "religion", "age", "ability", "race or ethnicity"} <= set(axes) and len(axes) >= 12
    for axis, named in axes.items():
        terms = [term for own in named.values() for term in own]
        assert len(terms) == len(set(terms)), axis  # no term says two groups of an axis
    assert len(demography.occupations()) > 60
    for axis, named in axes.items():
        for group, terms in named.items():
            for term in terms:
                found = demography.mentions(pa.array([f"We met {term.title()}, there."]), {axis: {group: [term]}})
                assert found[axis, group].all(), term


def test_figures_of_bias():
    assert demography.pmi(10, 20, 20, 40) == 0 and demography.pmi(20, 20, 20, 40) == 1
    value, low, high = demography.log_odds(90, 10, 500, 500, 1.96)
    assert low < value < high and value == pytest.approx(2.37, abs=0.05)
    gone = pa.array([True, False] * 50).to_numpy(zero_copy_only=False)
    ratio, low, high = demography.removal(gone, gone | True, gone | True, 1.96)
    assert ratio == 1 and low < 1 < high


def test_none_at_all_is_evidence_too():
    """20 of 400 against 0 of 400, and 20 sentences with women against none with men, are no chance."""
    named = np.arange(800) < 400
    ratio, low, high = demography.removal(np.arange(800) < 20, named, ~named, 3.3)
    assert 1.25 < low < ratio < high < math.inf
    ratio, low, high = demography.removal(np.arange(800) >= 780, named, ~named, 3.3)
    assert 0 < low < ratio < high < 0.8
    value, low, high = demography.log_odds(20, 0, 320, 300, 3.3)
    assert 0 < low < value < high < math.inf
    assert demography.log_odds(0, 20, 300, 320, 3.3) == pytest.approx((-value, -high, -low))
    for few in ((2, 0, 320, 300), (10, 12, 310, 312)):
        value, low, high = demography.log_odds(*few, 3.3)
        assert low < 0 < high


def test_intervals_hold_as_often_as_they_say():
    draw = np.random.default_rng(0).binomial
    named = np.arange(360) < 60
    held = []
    for _ in range(400):
        gone = np.concatenate([np.arange(60) < draw(60, 0.1), np.arange(300) < draw(300, 0.1)])
        _, low, high = demography.removal(gone, named, ~named, 1.96)
        held.append(low <= 1 <= high)
    assert 0.92 < np.mean(held) < 0.985
