"""What a generated record has to pass: bounds on scorers, and likeness to what is there already.

Enters: records as a model made them. Leaves: the same records, `drop` set where a scorer's figure is out of its bound
or the record says again what a seed, a held-out record or an earlier new one says. Scorers that a bound is asked of
are those of `evaluate`; any can be named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from volant.core import Model, Run, Sample
from volant.core.errors import SettingError
from volant.core.spec import Target


class Bounds:
    """Scorers with the bound that each record has to keep.

    Raises:
        SettingError: a filter has no bound, or names an unknown scorer or setting.
    """

    def __init__(self, run: Run, filters: Mapping[str, str | dict[str, Any]], judge: Model | None) -> None:
        from volant.scorers import build

        self._bars: dict[str, Target] = {}
        names: dict[str, dict[str, Any]] = {}
        for name, said in filters.items():
            settings = {"keep": said} if isinstance(said, str) else dict(said)
            bound = settings.pop("keep", "")
            try:
                self._bars[name] = Target.parse(str(bound))
            except ValueError as error:
                fix = f'Write {name}: ">= 0.8", or {name}: {{..., keep: ">= 0.8"}}.'
                raise SettingError(f"the filter {name!r} has no bound: {error}.", where=run.step, fix=fix) from error
            names[name] = settings
        self._scorers = build(names, {"judge": judge})

    def judge(self, records: Sequence[Sample], references: Sequence[Sample]) -> None:
        """Drop what is out of a bound; each record is held against its own reference.

        Raises:
            SettingError: a scorer gives no figure a record.
        """
        from volant.core.protocols import Output
        from volant.scorers.measure import request_of, target_of

        for name, bar in self._bars.items():
            pairs = [(one, ref) for one, ref in zip(records, references, strict=True) if not one.drop]
            if not pairs:
                return
            outputs = [
                Output(one.content or "" if one.shape == "text" else target_of(one), request_of(one))
                for one, _ in pairs
            ]
            scorer: Any = self._scorers[name]
            if not hasattr(scorer, "values"):
                raise SettingError(f"{name} gives no figure for a single record.", fix="Filter by another scorer.")
            for (record, _), value in zip(pairs, scorer.values(outputs, [ref for _, ref in pairs]), strict=True):
                if not bar.met_by(value):
                    record.drop = f"{name.replace(':', '_')}: {value:.4g} against {bar}"


def drop_repeats(run: Run, made: Sequence[Sample], known: Sequence[Sample], *, whole: bool) -> None:
    """Drop new records that are near what is known, or an earlier new one.

    Args:
        whole: look at request and answer together, as where the requests are those of the seeds; else at the request.
    """
    from volant.modalities import open_modality
    from volant.modalities.duplicates import near_duplicates
    from volant.modalities.minhash import NEAR

    bar = float(getattr(open_modality(run.modality), "near", NEAR))
    fresh = [sample for sample in made if not sample.drop]
    everything = [*known, *fresh]
    words = [_words(sample, whole) for sample in everything]
    seen: dict[str, int] = {}
    for at, text in enumerate(words):
        first = seen.setdefault(text, at)
        if first != at and at >= len(known):
            everything[at].drop = f"exact_duplicate: 1.00 (of {everything[first].id}) against 1.00"
    # Of short texts the runs of five words are few or one: what is not equal there is not near.
    rest = [at for at in range(len(everything)) if not everything[at].drop]
    for later, (earlier, share) in near_duplicates([words[at] for at in rest], bar).items():
        if rest[later] >= len(known):
            sample = everything[rest[later]]
            sample.drop = f"near_duplicate: {share:.2f} (of {everything[rest[earlier]].id}) against {bar:.2f}"


def said_drops(run: Run, made: Sequence[Sample]) -> dict[str, int]:
    """Say how many were kept and why others were not; the counts by rule."""
    rules = Counter(sample.drop.split(":")[0] for sample in made if sample.drop)
    kept = sum(not sample.drop for sample in made)
    drops = ", ".join(f"{count:,} {rule}" for rule, count in rules.most_common()) or "none"
    run.say(f"kept {kept:,} of {len(made):,} records; dropped: {drops}")
    return dict(sorted(rules.items()))


def _words(sample: Sample, whole: bool) -> str:
    from volant.scorers.measure import prompt_of

    text = sample.text if whole or sample.shape in ("text", "row", "media") else prompt_of(sample)
    return " ".join(text.lower().split())
