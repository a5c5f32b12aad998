"""What is known of public sets on bias comes out of `collect.balance`: even where made even, uneven where it is."""

import csv
import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from test_text_balance import balanced, text

from volant.modalities import demography

DATA = Path(__file__).parents[2].parent / "shared" / "data"
AXES = {
    "race-color": "race or ethnicity", "gender": "gender", "religion": "religion", "age": "age",
    "disability": "ability", "sexual-orientation": "sexual orientation", "socioeconomic": "class",
    "physical-appearance": "body",
}  # fmt: skip


def needs(name):
    return pytest.mark.skipif(not (DATA / name).is_dir(), reason=f"the shared data {name} are not here")


def named(texts):
    """By axis and group, the share of texts that name it."""
    found = demography.mentions(pa.array(texts, pa.large_string()), demography.groups())
    return {key: flags.mean() for key, flags in found.items()}


def winobias(side):
    files = sorted((DATA / "winobias").glob(f"{side}_stereotyped_type*"))
    return [re.sub(r"^\d+ |[\[\]]", "", line) for file in files for line in file.read_text("utf-8").splitlines()]


@needs("winobias")
@pytest.mark.parametrize("side", ["pro", "anti"])
def test_winobias_is_even_by_its_making(tmp_path, side):
    """Each sentence names two occupations, of which the pronoun means one; so together they are even."""
    lines = winobias(side)
    scores, body, _ = balanced(tmp_path, [text(" ".join(lines[i::50])) for i in range(50)])
    assert len(lines) == 1584 and len(body["occupations"]) >= 35
    assert all(abs(bond["value"]) < 0.1 and bond["low"] < 0 < bond["high"] for bond in body["occupations"])
    assert scores["occupation_gender"].low == 0


@needs("winobias")
def test_winobias_with_its_pronouns_sorted_is_uneven(tmp_path):
    """Only sentences whose pronoun means the stereotyped occupation, cut to that one: all lean to their side."""
    sides = {}
    for kind in ("female", "male"):
        sides |= dict.fromkeys(
            (DATA / "winobias" / f"{kind}_occupations.txt").read_text("utf-8").lower().split("\n"), kind
        )
    pronouns = {"he": "male", "him": "male", "his": "male", "she": "female", "her": "female"}
    lines = []
    for file in sorted((DATA / "winobias").glob("pro_stereotyped_type1*")):
        for line in file.read_text("utf-8").splitlines():
            meant, pronoun = re.findall(r"\[([^\]]*)\]", line)[:2]
            if pronoun in pronouns:
                lines.append(f"{meant.capitalize()} said that {pronoun} did it.")
    _, body, _ = balanced(tmp_path, [text(" ".join(lines[i::50])) for i in range(50)])
    found = {bond["occupation"]: bond for bond in body["occupations"]}
    assert len(found) >= 25
    for occupation, bond in found.items():
        low, high = (bond["low"], bond["high"]) if sides[occupation] == "female" else (-bond["high"], -bond["low"])
        assert 0 < low < high, occupation


@needs("bold")
def test_bold_tells_who_its_articles_are_about():
    people = json.loads((DATA / "bold" / "gender_wiki.json").read_text("utf-8"))
    actors, actresses = (
        [t for own in people[f"American_{who}"].values() for t in own] for who in ("actors", "actresses")
    )
    men, women = ("gender", "men"), ("gender", "women")
    assert named(actors)[men] > 8 * named(actors)[women] and named(actresses)[women] > 5 * named(actresses)[men]
    faiths = json.loads((DATA / "bold" / "religious_ideology_wiki.json").read_text("utf-8"))
    wanted = {"judaism": "jews", "christianity": "christians", "islam": "muslims", "hinduism": "hindus",
              "buddhism": "buddhists", "sikhism": "sikhs", "atheism": "people of none"}  # fmt: skip
    for faith, group in wanted.items():
        shares = {
            g: n
            for (axis, g), n in named([t for own in faiths[faith].values() for t in own]).items()
            if axis == "religion"
        }
        assert max(shares, key=shares.get) == group and shares[group] > 0.15, faith


@needs("crows-pairs")
def test_crows_pairs_are_named_on_their_axis():
    """Half of the pairs or more on most axes; `black` alone is a colour here, and first names say nothing."""
    with (DATA / "crows-pairs" / "crows_pairs_anonymized.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for kind, axis in AXES.items():
        pairs = [f"{row['sent_more']} {row['sent_less']}" for row in rows if row["bias_type"] == kind]
        flags = demography.mentions(pa.array(pairs, pa.large_string()), {axis: demography.groups()[axis]})
        found[kind] = sum(flags.values()).astype(bool).mean()
    assert found["gender"] > 0.8 and found["religion"] > 0.85
    assert all(found[kind] > 0.5 for kind in ("race-color", "sexual-orientation", "disability", "age")), found
    assert all(share > 0.35 for share in found.values()), found


@needs("holistic-bias")
def test_the_terms_of_holistic_bias_as_ones_own(tmp_path):
    known = json.loads((DATA / "holistic-bias" / "descriptors.json").read_text("utf-8"))
    lines, samples = [], []
    for axis, buckets in known.items():
        for bucket, entries in buckets.items():
            terms = [e["descriptor"] if isinstance(e, dict) else e for e in entries]
            lines.append(f"{axis} | {bucket} | {', '.join(term.replace(',', ' ') for term in terms)}\n")
            samples += [text(f"Yesterday we met a {term.replace(',', ' ')} neighbour at the bridge.") for term in terms]
    unique = {sample.id: sample for sample in samples}
    _, body, _ = balanced(tmp_path, list(unique.values()), terms="".join(lines))
    counts = {group: n["kept"] for own in body["mentions"].values() for group, n in own.items()}
    assert len(counts) >= 35 and sum(counts.values()) >= len(unique)
    assert not [group for group, n in counts.items() if not n]
