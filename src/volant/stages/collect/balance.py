"""Is the data balanced: over classes, over protected groups, and in how labels fall to the groups?

Of texts: who is spoken of, what the cleaning took from whom, which occupations stand beside which gender.

Enters: a Dataset. Leaves: the same records, with `balance.json` and a page of what was counted. The figures
are scores, so that the goal can bound them (`accept: {class_balance: ">= 0.5", label_disparity: "<= 0.1"}`);
a bound that is missed for certain stops the step, before anything is trained on the data.

Sources: disparate impact's four-fifths rule (EEOC 1978) is what `representation` is read by; label disparity is
the demographic parity difference (Dwork et al. 2012).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from volant.core import Dataset, Files, Run, Score
from volant.core.errors import DataError, did_you_mean
from volant.core.sample import CONTENT_SHAPES

CLASS = "class"  # the name under which the samples' conditions stand beside the modality's parts
MANY = 50  # different values from which on a part is no class


def balance(
    run: Run,
    data: Dataset,
    *,
    label: str = "",
    protected: list[str] | None = None,
    positive: str = "",
    terms: Files = "",
) -> Dataset:
    """Count classes and protected groups, and how the label falls to them.

    Args:
        data: its train split is counted; all of it is passed on. Give what `clean` made, so that what its rules took
            from whom is counted as well.
        label: the column that is predicted, `class` for the condition of images, or the name of a label of texts;
            empty takes the class, or the only label, where there is one.
        protected: columns that say who somebody is (`[sex, age]`); numbers are cut at their quartiles. Of texts the
            axes of `terms` that are counted (`[gender, religion]`); nothing counts all.
        positive: the label's value that is worth having (`>50K`); empty takes the rarer of two, else each in turn.
        terms: files that say by which terms groups of people are named in texts, `axis | group | term, term` a line;
            empty takes the short list that ships.

    Raises:
        DataError: there is no such column or axis, or a bound of the goal is missed for certain.
    """
    from volant.store.dataset import dropped, rows, writer

    texts = any(shape not in CONTENT_SHAPES for shape in data.about["shapes"])
    count = _of_texts if texts else _of_columns
    scores, body, sections = count(run, data, label, protected or [], positive)
    with writer(run.out, modality=run.modality) as out:
        out.write_all(rows(data))
        out.write_all(dropped(data))
    made = Dataset(run.out)
    _write(run, made, scores, body, sections)
    _judge(run, scores)
    return made


def _of_texts(
    run: Run, data: Dataset, label: str, protected: Sequence[str], positive: str
) -> tuple[list[Score], dict[str, Any], list[str]]:
    """Groups of people by terms; a text that names two counts for both."""
    import numpy as np

    from volant.modalities.demography import groups, read_axes
    from volant.stages.collect._text_balance import count_texts, counts_json, slug, text_scores
    from volant.stages.collect._text_balance_page import bias_sections
    from volant.store.dataset import rows

    next(rows(data, "train"))  # says so where there is none
    own = run.snapshot("terms").files if "terms" in run.outside else ()
    axes = read_axes((file.name, file.path) for file in own) if own else groups()
    for name in protected:
        if name not in axes:
            raise DataError(f"the terms have no axis {name!r}.", where=run.step, fix=did_you_mean(name, axes))
    found = count_texts(run, data, {n: axes[n] for n in (protected or axes)}, label)
    scores = text_scores(found)
    random = np.random.default_rng(run.seed)
    kept = found.rules == ""
    for axis, named in found.axes.items():
        pairs = [
            (group, value)
            for group in named
            for value, here in zip(found.labels, found.named[axis, group] & kept, strict=True)
            if here and value is not None
        ]
        if len({group for group, _ in pairs}) > 1 and len({value for _, value in pairs}) > 1:
            names, values = zip(*pairs, strict=True)
            scores.append(_disparity(slug(axis), list(names), values, positive, random))
    if label and all(value is None for value in found.labels):
        raise DataError(f"no text has the label {label!r}.", where=run.step, fix="Name one of the data's labels.")
    return _with_worst(scores), counts_json(found), bias_sections(found)


def _of_columns(
    run: Run, data: Dataset, label: str, protected: Sequence[str], positive: str
) -> tuple[list[Score], dict[str, Any], list[str]]:
    """The parts that the modality knows, and the class."""
    import numpy as np

    from volant.modalities import open_modality
    from volant.store.dataset import rows
    from volant.store.page import section, table

    samples = list(rows(data, "train"))
    parts: dict[str, Sequence[Any]] = dict(open_modality(run.modality).parts(samples))
    if CLASS not in parts and all(s.condition for s in samples):
        parts[CLASS] = [str(s.condition) for s in samples]
    wanted = label or (CLASS if CLASS in parts else "")
    for name in filter(None, [wanted, *protected]):
        if name not in parts:
            raise DataError(f"the data has no {name!r}.", where=run.step, fix=did_you_mean(name, parts))
    if not wanted and not protected:
        raise DataError("there is neither a class nor a column to count.", where=run.step, fix="Name `protected`.")
    groups = {name: _groups(parts[name]) for name in dict.fromkeys([*([wanted] if wanted else []), *protected])}
    random = np.random.default_rng(run.seed)
    scores = [_evenness("class_balance", groups[wanted])] if wanted else []
    for name in protected:
        scores.append(_evenness(f"balance_{name}", groups[name]))
        if wanted:
            scores.append(_disparity(name, groups[name], groups[wanted], positive, random))
    counts = {name: dict(sorted(Counter(found).items())) for name, found in groups.items()}
    parts_html = [
        section(n, table(("group", "records"), list(found.items()), numeric=(1,))) for n, found in counts.items()
    ]
    return _with_worst(scores), {"counts": counts}, [*parts_html]


def _with_worst(scores: list[Score]) -> list[Score]:
    """The scores and, as `label_disparity`, the largest of the label disparities."""
    worst = [s for s in scores if s.name.startswith("label_disparity_")]
    if not worst:
        return scores
    most = max(worst, key=lambda s: s.value)
    return [*scores, most.model_copy(update={"name": "label_disparity", "note": f"worst of all: {most.note}"})]


def _groups(values: Sequence[Any]) -> list[str]:
    """Values as names; numbers of many kinds as quartiles, missing ones as a group of their own."""
    import numpy as np

    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and v == v]
    if len(set(numbers)) <= 10 or len(numbers) < 0.5 * len(values):
        return ["missing" if v is None or v != v else str(v) for v in values]
    edges = np.unique(np.quantile(numbers, [0, 0.25, 0.5, 0.75, 1]))
    names = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    found = []
    for v in values:
        known = isinstance(v, int | float) and v == v
        found.append(names[min(int(np.searchsorted(edges, v, "right")) - 1, len(names) - 1)] if known else "missing")
    return found


def _evenness(name: str, groups: Sequence[str]) -> Score:
    """The rarest group's count over the commonest one's: 1 is even, 0.8 the four-fifths rule."""
    counts = Counter(groups)
    if len(counts) > MANY:
        raise DataError(f"{name} has {len(counts)} different values, too many to be classes.", fix="Name another.")
    rarest, commonest = min(counts, key=lambda g: (counts[g], g)), max(counts, key=lambda g: (counts[g], g))
    note = f"{rarest} {counts[rarest]:,}, {commonest} {counts[commonest]:,}"
    # A count of what is there, so without an interval.
    return Score.exact(name, counts[rarest] / counts[commonest], n=len(groups), note=note)


def _disparity(name: str, groups: Sequence[str], labels: Sequence[str], positive: str, random: Any) -> Score:
    """The largest difference between groups in the share that has the label worth having."""
    import numpy as np

    counts = Counter(labels)
    if positive and positive not in counts:
        raise DataError(f"no label is {positive!r}.", fix=did_you_mean(positive, counts))
    asked = [positive] if positive else [min(counts, key=lambda v: counts[v])] if len(counts) == 2 else sorted(counts)
    names = sorted(set(groups))
    best: Score | None = None
    for value in asked:
        has = np.array([[g == n and v == value for g, v in zip(groups, labels, strict=True)] for n in names]).sum(1)
        size = np.array([groups.count(n) if isinstance(groups, list) else sum(g == n for g in groups) for n in names])
        share = has / size
        again = random.binomial(size, share, size=(1000, len(names))) / size
        gap, low, high = _interval(float(share.max() - share.min()), again.max(1) - again.min(1))
        told = (
            f"{value}: {names[int(share.argmax())]} {share.max():.2f}, {names[int(share.argmin())]} {share.min():.2f}"
        )
        score = Score(
            name=f"label_disparity_{name}", value=gap, low=low, high=high, n=len(groups), direction="lower", note=told
        )
        best = score if best is None or gap > best.value else best
    assert best is not None
    return best


def _interval(value: float, again: Any) -> tuple[float, float, float]:
    import numpy as np

    low, high = (float(q) for q in np.quantile(again, (0.025, 0.975)))
    return value, min(low, value), max(high, value)


def _write(run: Run, made: Dataset, scores: Sequence[Score], body: Mapping[str, Any], sections: Sequence[str]) -> None:
    from volant.stages.collect._data_page import data_page
    from volant.store.page import section, table

    for score in scores:
        run.score(score)
        if score.note:
            run.say(score.note)
    told = {"scores": [s.model_dump() for s in scores], **body}
    (run.out / "balance.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    figures = [
        (s.name.replace("_", " "), f"{s.value:.3g}", f"{s.low:.3g} to {s.high:.3g}" if s.low < s.high else "", s.note)
        for s in scores
    ]
    listed = section("Balance", table(("figure", "value", "95 %", "between"), figures, numeric=(1, 2)))
    data_page(run, made, more=[*sections, listed])


def _judge(run: Run, scores: Sequence[Score]) -> None:
    """Stop where a bound of the goal is missed, and its interval does not reach it either."""
    for score in scores:
        target = run.goal.targets.get(score.name)
        if target is None or target.met_by(score.value):
            continue
        if target.met_by(score.low) or target.met_by(score.high):
            run.say(f"{score.name} misses {target}, but chance could explain it")
            continue
        raise DataError(
            f"{score.name} is {score.value:.3g} ({score.note}), the goal asks {target}.",
            where=run.step, fix="Collect more of the rare group, or take fewer of the common one.",
        )  # fmt: skip
