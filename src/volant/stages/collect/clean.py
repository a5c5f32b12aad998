"""Judge every record once: duplicates, quality, personal data, leakage. Nothing vanishes without a reason.

Enters: one Dataset or more (the loop adds harvested ones). Leaves: one Dataset whose dropped records
keep `rule: value against threshold` in `drop`. Test and validation records are judged first and
training records against them, so that what is dropped for likeness is always the training side.
The leakage gate cannot be switched off: it is what makes later comparisons mean something.

Quality rules and word runs are for text. Images are judged by their modality's checks and by likeness, test
pictures first. Rows of a table are checked only: equal rows are how often something occurs, not a copy.

Records pass as Arrow tables, a row group at a time, first each by itself, then all by what was found of them: keys and
sketches on disk. Memory holds some row groups, each record's id and key, and the words of what is held out; it does not
grow with the words that are trained on. A run that was killed goes on with the row groups that are missing. Threads
change the time that it takes and no byte of what comes out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field

from volant.core import Dataset, Run, Score
from volant.core.errors import DataError
from volant.core.sample import SPLITS
from volant.stages.collect._clean_alike import drop_equal, drop_near
from volant.stages.collect._clean_corpus import corpus_of
from volant.stages.collect._clean_out import drop_leaks, write
from volant.stages.collect._clean_rows import Rows, beside
from volant.stages.collect._data_page import data_page
from volant.stages.collect._facts import Facts
from volant.stages.collect._guard import EvaluationSet, evaluation_set, report
from volant.stages.collect._sketched import keep_sketches


def clean(
    run: Run,
    data: Dataset,
    *more: Dataset,
    guard: Sequence[Dataset] = (),
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
    rules: list[Literal["gopher", "c4", "c4_loose", "fineweb", "corpus"]] | None = None,
    thresholds: dict[str, float] | None = None,
    words: Literal["whitespace-1", "letters-1"] = "whitespace-1",
) -> Dataset:
    """Clean, deduplicate and guard datasets.

    Quality rules look at plain texts and at answers; prompts are left as people write them.

    Args:
        guard: Datasets whose validation and test records are kept out of training too, and which add no record of
            their own: the task's data, when plain text for pre-training is cleaned, and each benchmark.
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
            texts that stay; `fineweb` behind them judges what they leave, before them the whole text. `corpus` adds
            what those lack: menus and notices that over ten records share go from the ends of plain texts, and texts
            of misread, encoded or shuffled letters are dropped by their bits a character under a small model of the
            corpus itself (so code only belongs where some of the corpus is code). It reads the data once more.
        thresholds: other thresholds of single rules of these sets, by the name that a drop gives
            (`{gopher_min_words: 20}`; `corpus_line_records`, 10, is in how many records a line may stand,
            `corpus_shared_lines`, 0.5, the share of a text in shared lines, `corpus_surprise`, 4.5, bits a character).
        words: what a word is to these sets, for the same thresholds drop other texts by other words: `whitespace-1` is
            what blanks divide, `letters-1` a run of letters, digits and underscores. A definition never changes its
            meaning under its name. Likeness and leakage always stand on `letters-1`.

    Returns:
        One Dataset; dropped records lie beside the kept ones with their reasons, and sketches of all that were
        compared, for `collect.unseen`.

    Raises:
        DataError: a split is empty before or after cleaning.
        SettingError: `thresholds` names no rule of `rules`.
    """
    from volant.modalities import open_modality
    from volant.modalities.cleaning import How
    from volant.modalities.minhash import NEAR
    from volant.modalities.quality import Rules
    from volant.modalities.text_rules import rules_of
    from volant.store.arrow_memory import reused_memory

    published = rules_of(rules or [], thresholds)
    own = Rules(
        min_words=min_words, max_words=max_words, min_letters=min_letters, max_symbols=max_symbols,
        max_duplicate_lines=max_duplicate_lines, max_top_phrase=max_top_phrase,
        max_duplicate_phrases=max_duplicate_phrases,
    )  # fmt: skip
    modality = open_modality(run.modality)
    presets = [name for name in rules or [] if name != "corpus"]
    likeness = float(getattr(modality, "near", NEAR)) if near is None else near
    whole = corpus_of(run, (data, *more), published, likeness)
    how = How(modality, own, presets, published, personal, run.remembered, run.forgotten, whole, words)
    rows = Rows(run, (data, *more), how)
    with run.progress("judging each record", max(1, len(rows)), "records") as bar, reused_memory():
        rows.judge(bar.advance)
    count = len(rows) - len(rows.forgotten)
    if count < 3:
        raise DataError(
            f"the dataset holds {count} record{'s' if count != 1 else ''}, too few to clean and split.",
            where=run.step, fix="Give at least three records (better: hundreds).",
        )  # fmt: skip
    with run.progress("comparing records", 2, "passes") as bar:
        drop_equal(rows)
        compared = rows.kept()
        bar.advance(1)
        drop_near(run, rows, likeness)
        bar.advance(1)
    facts = _write(run, rows, _sets(rows, guard), (data, *more), client_cap, compared)
    made = Dataset(run.out)
    data_page(run, made, passed=facts)
    return made


def _sets(rows: Rows, guards: Sequence[Dataset]) -> list[EvaluationSet]:
    """The kept test and validation records, and those of other datasets."""
    from volant.store import arrow_functions as pc
    from volant.store.arrow_values import numbers
    from volant.store.dataset import tables

    found = []
    for right, split in enumerate(("test", "validation")):
        kept = rows.kept(rows.right_N == right)
        own = (part for part in range(len(rows.parts)) if len(rows.inside(part, kept)))
        found.append(
            evaluation_set(split, (pc.take(rows.table(part), numbers(rows.inside(part, kept))) for part in own))
        )
    for guard in guards:
        held_out: tuple[Literal["validation", "test"], ...] = ("validation", "test")
        counts = guard.about["splits"]
        there = [s for s in held_out if counts.get(s) and any((guard.path / "data").glob(f"{s}-*.parquet"))]
        name = guard.card.step if guard.card else "guard"
        if name in {one.name for one in found}:
            name = f"{name}-{guard.digest[:8] if guard.card else len(found)}"
        if counts.get("train"):
            rows.run.say(f"{name}: its {counts['train']:,} training records are not guarded, only what is held out")
        found.append(evaluation_set(name, (table for split in there for table in tables(guard, split))))
    return found


def _write(
    run: Run, rows: Rows, sets: Sequence[EvaluationSet], inputs: Sequence[Dataset], client_cap: float, compared: Any
) -> Facts:
    """Hold the training records against the sets, cap what is capped, and write, the sketches of what was compared
    beside them; what the page says of the records."""
    import numpy as np

    from volant.modalities.record_columns import TEXT, TRAIN

    training = rows.kept((rows.right_N >= TRAIN) & (rows.kind_N == TEXT))
    capped = run.goal.generated < 1 and rows.generated_N.any()
    if rows.clients or capped:  # how many of these stay depends on what the gate leaves of the others
        drop_leaks(run, rows, sets, training)
        _cap_clients(rows, client_cap)
        _cap_generated(run, rows)
        training = training[:0]
    again = ("client_cap:", "generated_cap:")  # nothing like these stays, so later data may bring them again
    gone = [number for number, drop in rows.drop.items() if drop.startswith(again)]
    compared = np.setdiff1d(compared, gone, assume_unique=True)
    with beside(run, partial(keep_sketches, run, rows, compared)):
        counted, kept, facts = write(run, rows, sets, inputs, training)
    _report(run, counted, kept)
    report(run, sets)
    return facts


def _cap_clients(rows: Rows, cap: float) -> None:
    from volant.core.sample import sample_id

    kept = rows.kept()
    most = max(1, int(cap * int((rows.right_N[kept] != 3).sum())))
    clients: dict[str, list[int]] = {}
    for number in kept.tolist():
        if number in rows.clients:
            clients.setdefault(rows.clients[number], []).append(number)
    for client, theirs in clients.items():
        # The hash decides which ones stay, so that flooding does not choose them.
        for number in sorted(theirs, key=lambda n: sample_id(client, rows.name(n)))[most:]:
            rows.drop[number] = f"client_cap: {len(theirs)} rows of one client against {most}"


def _cap_generated(run: Run, rows: Rows) -> None:
    from volant.modalities.record_columns import TRAIN
    from volant.stages.collect._generated import over_cap

    training = rows.kept(rows.right_N >= TRAIN)
    made = training[rows.generated_N[training]].tolist()
    over = over_cap(run, rows.names(made), others=len(training) - len(made))
    rows.drop |= {made[place]: drop for place, drop in over.items()}


def _report(run: Run, rules: Counter[str], kept: Counter[str]) -> None:
    total = rules.total() + kept.total()
    drops = ", ".join(f"{count:,} {rule}" for rule, count in rules.most_common()) or "none"
    run.say(f"kept {kept.total():,} of {total:,} records; dropped: {drops}")
    run.score(Score.exact("kept_share", kept.total() / total, n=total))
    for rule, count in sorted(rules.items()):
        run.score(Score.exact(f"dropped_{rule}", count, n=total, unit="records", direction="lower"))
    empty = [split for split in SPLITS if not kept[split]]
    if empty:
        raise DataError(
            f"no record is left in {' and '.join(empty)} after cleaning (dropped: {drops}).", where=run.step,
            fix="Gather more, or loosen the rule that dropped most.",
        )  # fmt: skip
