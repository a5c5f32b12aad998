"""Judge every record once: duplicates, quality, personal data, leakage. Nothing vanishes without a reason.

Enters: one Dataset or more (the loop adds harvested ones). Leaves: one Dataset whose dropped records
keep `rule: value against threshold` in `drop`. Test and validation records are judged first and
training records against them, so that what is dropped for likeness is always the training side.
The leakage gate cannot be switched off: it is what makes later comparisons mean something.

Quality rules and word runs are for text. Images are judged by their modality's checks and by likeness, test
pictures first. Rows of a table are checked only: equal rows are how often something occurs, not a copy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from volant.core import Dataset, Run, Sample, Score
from volant.core.errors import DataError
from volant.core.sample import CONTENT_SHAPES, SPLITS
from volant.stages.collect._data_page import data_page
from volant.stages.collect._texts import texts_of, with_texts


def clean(
    run: Run,
    data: Dataset,
    *more: Dataset,
    guard: Dataset | None = None,
    near: Annotated[float, Field(gt=0.3, le=1)] | None = None,
    min_words: Annotated[int, Field(ge=1)] = 5,
    max_words: Annotated[int, Field(ge=1)] = 100_000,
    min_letters: Annotated[float, Field(ge=0, le=1)] = 0.5,
    max_symbols: Annotated[float, Field(gt=0)] = 0.15,
    max_duplicate_lines: Annotated[float, Field(gt=0, le=1)] = 0.3,
    max_top_phrase: Annotated[float, Field(gt=0, le=1)] = 0.2,
    max_duplicate_phrases: Annotated[float, Field(gt=0, le=1)] = 0.3,
    personal: Literal["mask", "drop", "keep"] = "mask",
    client_cap: Annotated[float, Field(gt=0, le=1)] = 0.2,
    rules: list[Literal["gopher", "c4", "c4_loose", "fineweb"]] | None = None,
    thresholds: dict[str, float] | None = None,
) -> Dataset:
    """Clean, deduplicate and guard datasets.

    Quality rules look at plain texts and at answers; prompts are left as people write them.

    Args:
        guard: a Dataset whose validation and test records are kept out of training too, and which adds no record
            of its own: the task's data, when plain text for pre-training is cleaned.
        near: similarity (0.3 to 1) from which the later record is dropped: of text the exact Jaccard similarity of
            5-word shingles, of images the share of the perceptual hash; 1 drops equal ones only. Nothing takes what
            suits the modality (0.65 for text: up to 3 % of its words changed).
        min_words: fewest words of a text; shorter ones are dropped.
        max_words: most words of any record; longer ones are dropped.
        min_letters: smallest share (0 to 1) of words with a letter; below it a text is a table or noise.
        max_symbols: most `#` and ellipses per word; above it a text is cut or tag soup.
        max_duplicate_lines: largest share (0 to 1) of lines that repeat an earlier one.
        max_top_phrase: largest share (0 to 1) of characters in the commonest three words.
        max_duplicate_phrases: largest share (0 to 1) of words inside a run of eight seen before in the record.
        personal: e-mail addresses, public IP addresses, telephone, card, account and identity numbers and keys are
            masked (`mask`), drop their record (`drop`) or stay (`keep`).
        client_cap: feedback rows that one client may add, as a share (0 to 1) of the other records.
        rules: published rule sets that judge plain texts in place of the seven thresholds above, in this order;
            FineWeb's recipe is `[gopher, c4_loose, fineweb]`. `c4` and `c4_loose` also take single rows out of the
            texts that stay.
        thresholds: other thresholds of single rules of these sets, by the name that a drop gives
            (`{gopher_min_words: 20}`).

    Returns:
        One Dataset; dropped records lie beside the kept ones with their reasons.

    Raises:
        DataError: a split is empty before or after cleaning.
        SettingError: `thresholds` names no rule of `rules`.
    """
    from volant.modalities.quality import Rules
    from volant.modalities.text_rules import rules_of
    from volant.store.dataset import dropped, rows, writer

    published = rules_of(rules or [], thresholds)
    own = Rules(
        min_words=min_words, max_words=max_words, min_letters=min_letters, max_symbols=max_symbols,
        max_duplicate_lines=max_duplicate_lines, max_top_phrase=max_top_phrase,
        max_duplicate_phrases=max_duplicate_phrases,
    )  # fmt: skip
    found = [run.remembered(_placed(sample)) for part in (data, *more) for sample in rows(part)]
    samples = [sample for sample in found if not sample.drop]
    further = [sample for sample in rows(guard) if sample.split != "train"] if guard else []
    if len(samples) < 3:
        raise DataError(
            f"the dataset holds {len(samples)} record{'s' if len(samples) != 1 else ''}, too few to clean and split.",
            where=run.step, fix="Give at least three records (better: hundreds).",
        )  # fmt: skip
    passes: tuple[Callable[[], None], ...] = (
        lambda: _judge_each(run, samples, own, plain=not rules),
        lambda: _judge_published(run, samples, rules or [], published),
        lambda: _judge_personal(samples, personal),
        lambda: _drop_exact(samples),
        lambda: _drop_near(run, samples, near),
        lambda: _drop_leaks(run, samples, guard, further),
        lambda: _cap_clients(samples, client_cap),
        lambda: _cap_generated(run, samples),
    )
    with run.progress("cleaning", len(passes), "passes") as bar:
        for judge in passes:
            run.check_stop()
            judge()
            bar.advance(1)
    _report(run, samples)
    with writer(run.out, modality=run.modality) as out:
        out.write_all(samples)
        out.write_all(sample for sample in found if sample.drop and sample.id in run.forgotten)
        for part in (data, *more):
            out.write_all(dropped(part))
    made = Dataset(run.out)
    data_page(run, made)
    return made


def _placed(sample: Sample) -> Sample:
    """Feedback only ever trains: it must not move the splits that measure."""
    if sample.source.origin == "feedback" and sample.split != "train":
        return sample.model_copy(update={"split": "train"})
    return sample


def _kept(samples: Sequence[Sample]) -> list[int]:
    """Indices of kept samples in the order of their right to stay: test, validation, train, feedback."""
    right = {split: place for place, split in enumerate(reversed(SPLITS))}
    alive = [i for i, sample in enumerate(samples) if not sample.drop]
    return sorted(alive, key=lambda i: (samples[i].source.origin == "feedback", right[samples[i].split], i))


def _judge_each(run: Run, samples: list[Sample], rules: Any, plain: bool) -> None:
    from volant.modalities import open_modality
    from volant.modalities.quality import broken_answer, broken_rule

    modality = open_modality(run.modality)
    for at, sample in enumerate(samples):
        if at % 1000 == 0:
            run.check_stop()
        problems = modality.check(sample)
        if problems:
            sample.drop = f"check: {problems[0]} against none"
            continue
        if sample.shape == "text":
            sample.drop = broken_rule(sample.text, rules) if plain else ""
        elif sample.shape not in CONTENT_SHAPES:
            answer = sample.target or "\n".join(m["content"] for m in sample.messages if m["role"] == "assistant")
            sample.drop = broken_answer(sample.text, answer, rules)


def _judge_published(run: Run, samples: list[Sample], presets: Sequence[str], rules: Sequence[Any]) -> None:
    """Drop plain texts by published rules, and take out the rows that C4 does not keep."""
    import pyarrow as pa

    from volant.modalities.text_features import features, trimmed
    from volant.modalities.text_rules import broken

    order = [i for i, sample in enumerate(samples) if presets and sample.shape == "text" and not sample.drop]
    for at in range(0, len(order), 1000):
        run.check_stop()
        part = order[at : at + 1000]
        texts = pa.array([samples[i].text for i in part], pa.large_string())
        drops = broken(features(texts), rules)
        for place, drop in drops.items():
            samples[part[place]].drop = drop
        if "c4" in presets or "c4_loose" in presets:
            after, went = trimmed(texts, punctuation="c4" in presets)
            for place, (text, gone) in enumerate(zip(after.to_pylist(), went.tolist(), strict=True)):
                if place not in drops and text != samples[part[place]].text:
                    samples[part[place]] = with_texts(samples[part[place]], [text], rows_dropped=gone)


def _judge_personal(samples: list[Sample], personal: str) -> None:
    """Mask or drop what says who somebody is; many texts at once, since few hold anything."""
    if personal == "keep":
        return
    order = _kept(samples)
    for at in range(0, len(order), 1000):
        part = order[at : at + 1000]
        texts = [texts_of(samples[i]) for i in part]
        for i, (after, found) in zip(part, _masked(texts), strict=True):
            if found and personal == "drop":
                shown = ", ".join(f"{n} {kind}" for kind, n in sorted(found.items()))
                samples[i].drop = f"personal_data: {shown} against 0"
            elif found:
                samples[i] = with_texts(samples[i], after, masked=found)


def _masked(texts: Sequence[Sequence[str]]) -> Iterator[tuple[list[str], dict[str, int]]]:
    """The texts of each sample, masked, and how many of each kind were found in them."""
    import pyarrow as pa

    from volant.modalities.personal import masked_all

    flat, counts = masked_all(pa.array([text for own in texts for text in own], pa.large_string()))
    rows = zip(flat.to_pylist(), *(values.to_pylist() for values in counts.values()), strict=True)
    for own in texts:
        found = [next(rows) for _ in own]
        sums = {kind: sum(row[1 + at] for row in found) for at, kind in enumerate(counts)}
        yield [row[0] for row in found], {kind: n for kind, n in sums.items() if n}


def _drop_exact(samples: list[Sample]) -> None:
    seen: dict[tuple[str | bytes, ...], str] = {}
    for i in _kept(samples):
        sample = samples[i]
        fields = (sample.condition, sample.content, sample.target, sample.rejected)
        key: tuple[str | bytes, ...] = (sample.shape, *(" ".join((text or "").lower().split()) for text in fields))
        if sample.shape == "media":
            key = (sample.shape, sample.media or b"")
        elif sample.shape == "row":
            key = (sample.shape, sample.id)
        if key in seen:
            sample.drop = f"exact_duplicate: 1.00 (of {seen[key]}) against 1.00"
        else:
            seen[key] = sample.id


def _drop_near(run: Run, samples: list[Sample], asked: float | None) -> None:
    from volant.modalities import open_modality
    from volant.modalities.duplicates import near_duplicates, near_signatures
    from volant.modalities.minhash import NEAR

    modality = open_modality(run.modality)
    near = float(getattr(modality, "near", NEAR)) if asked is None else asked
    order = [i for i in _kept(samples) if samples[i].shape != "row"]
    # A correction resembles what it corrects by its nature, so feedback is held against feedback only.
    for feedback in (False, True):
        for media in (False, True):
            part = [
                i
                for i in order
                if (samples[i].source.origin == "feedback") == feedback and (samples[i].shape == "media") == media
            ]
            if media:
                found = near_signatures([modality.fingerprint(samples[i]) for i in part], near)
            else:
                found = near_duplicates([samples[i].text for i in part], near)
            for later, (earlier, similarity) in found.items():
                kept = samples[part[earlier]].id
                samples[part[later]].drop = f"near_duplicate: {similarity:.2f} (of {kept}) against {near:.2f}"


def _drop_leaks(run: Run, samples: list[Sample], guard: Dataset | None, further: list[Sample]) -> None:
    from volant.stages.collect._guard import evaluation_set, hold, report

    order = [samples[i] for i in _kept(samples)]
    own = [(split, [s for s in order if s.split == split]) for split in ("test", "validation")]
    name = guard.card.step if guard and guard.card else "guard"
    sets = [evaluation_set(*named) for named in (*own, (name, further)) if named[1]]
    hold(run, [s for s in order if s.split == "train"], sets)
    report(run, sets)


def _cap_clients(samples: list[Sample], cap: float) -> None:
    from volant.core.sample import sample_id

    kept = [sample for sample in samples if not sample.drop]
    most = max(1, int(cap * sum(1 for s in kept if s.source.origin != "feedback")))
    clients: dict[str, list[Sample]] = {}
    for sample in kept:
        if sample.source.origin == "feedback":
            clients.setdefault(sample.group, []).append(sample)
    for client, theirs in clients.items():
        # The hash decides which ones stay, so that flooding does not choose them.
        for sample in sorted(theirs, key=lambda s: sample_id(client, s.id))[most:]:
            sample.drop = f"client_cap: {len(theirs)} rows of one client against {most}"


def _cap_generated(run: Run, samples: list[Sample]) -> None:
    from volant.stages.collect._generated import drop_over_cap

    drop_over_cap(run, samples)


def _report(run: Run, samples: Sequence[Sample]) -> None:
    rules = Counter(sample.drop.split(":")[0] for sample in samples if sample.drop)
    kept = Counter(sample.split for sample in samples if not sample.drop)
    drops = ", ".join(f"{count:,} {rule}" for rule, count in rules.most_common()) or "none"
    run.say(f"kept {kept.total():,} of {len(samples):,} records; dropped: {drops}")
    run.score(Score.exact("kept_share", kept.total() / len(samples), n=len(samples)))
    for rule, count in sorted(rules.items()):
        run.score(Score.exact(f"dropped_{rule}", count, n=len(samples), unit="records", direction="lower"))
    empty = [split for split in SPLITS if not kept[split]]
    if empty:
        raise DataError(
            f"no record is left in {' and '.join(empty)} after cleaning (dropped: {drops}).", where=run.step,
            fix="Gather more, or loosen the rule that dropped most.",
        )  # fmt: skip
