"""What every method that has a model write does: terms and source of each record, and the plan's cap on their share.

Enters: the model, the records that a new one was made from, and the goal's `generated`. Leaves: the derived licence
(all that bind: the model's and each parent's), the source, and how many generated records the plan allows beside the
others. The cap counts training records; generated ones over it are dropped by their hash, so the same ones each time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from volant.core import Dataset, Model, Run, Sample, Score
from volant.core.errors import DataError, LicenceError
from volant.core.sample import Source, sample_id
from volant.stages.collect._asking import Asking
from volant.stages.collect._data_page import data_page
from volant.stages.collect._sieve import said_drops

_BINDING = ("not-personal", "public", "contract", "given", "withheld")  # what consent asks, the least first


class Terms:
    """The terms of what a model writes after given records.

    Args:
        stated: licence of what the model writes, by the user; a hosted model has none of its own.

    Raises:
        LicenceError: nobody states the terms of a hosted model, or they forbid the goal's use.
    """

    def __init__(self, run: Run, model: Model, stated: str) -> None:
        from volant.modalities.licence import require

        self._run, self._model = run, model
        own = [*model.licences, *([stated] if stated.strip() else [])]
        if not own and model.about.engine == "remote":
            what = f"the terms of what {model.about.extra.get('name', 'the service')} writes are not known."
            fix = "Read the service's terms and state them: licence: LicenseRef-..., or an SPDX name."
            raise LicenceError(what, where=f"{run.step} licence", fix=fix)
        self.own = {require(name, run.goal.use, where=f"{run.step} model") for name in own}
        if not own:
            run.say("the model states no licence: what it writes comes under that of the records it is made from")
        self._known: dict[frozenset[str], str] = {}

    def licence(self, parents: Iterable[Sample]) -> str:
        """The SPDX expression that binds what was made from these records.

        Raises:
            LicenceError: it forbids the goal's use.
        """
        from volant.modalities.licence import require

        names = frozenset({*self.own, *(parent.source.licence for parent in parents)})
        if names not in self._known:
            joined = " AND ".join(sorted({part for name in names for part in _binding(name)})) or "LicenseRef-generated"
            self._known[names] = require(joined, self._run.goal.use, where=self._run.step)
        return self._known[names]

    def source(self, parents: Sequence[Sample], *how: str) -> Source:
        """Where such a record came from: the model by its digest, and by which step of which method."""
        consents = [parent.source.consent for parent in parents]
        known = [consent for consent in consents if consent in _BINDING]
        return Source(
            uri="#".join([f"model:{self._model.digest}", "&".join([*how, f"seed={self._run.seed}"])]),
            licence=self.licence(parents),
            consent=max(known, key=_BINDING.index) if known else "not-personal",
            origin="generated",
        )

    def said(self, made: Iterable[Sample]) -> None:
        """Tell under which licences the kept records are."""
        names = sorted({sample.source.licence for sample in made if not sample.drop})
        self._run.say(f"licence of what was made, from the model's and its sources': {'; '.join(names) or 'none'}")


def _binding(licence: str) -> list[str]:
    """What of an SPDX expression binds: each part that an `AND` joins, so that no part is named twice.

    >>> _binding("(MIT OR ISC) AND CC0-1.0"), _binding("MIT OR ISC")
    (['(MIT OR ISC)', 'CC0-1.0'], ['(MIT OR ISC)'])
    >>> _binding("(MIT AND (ISC OR Zlib)) AND CC0-1.0")
    (['MIT', '(ISC OR Zlib)', 'CC0-1.0'])
    """
    parts, choice, depth = [""], False, 0
    for word in re.split(r"( AND | OR |[()])", licence.strip()):
        depth += (word == "(") - (word == ")")
        if depth == 0 and word in (" AND ", " OR "):
            choice |= word == " OR "
            parts.append("")
        else:
            parts[-1] += word
    if choice:
        return [f"({licence})"]
    if len(parts) > 1:
        return [own for part in parts for own in _binding(part)]
    inner = _binding(licence[1:-1]) if licence.startswith("(") else []
    return inner or parts


def room_for(run: Run, others: int, there: int) -> int | None:
    """`allowed`, where that is anything.

    Raises:
        DataError: the plan allows no generated record.
    """
    room = allowed(run, others, there)
    if room == 0:
        what = f"goal.generated is {run.goal.generated:g}: it allows no generated record beside {others} others."
        raise DataError(what, where=run.step, fix="Raise goal.generated, or give more records.")
    return room


def allowed(run: Run, others: int, there: int = 0) -> int | None:
    """How many generated training records the plan allows beside so many others; None for any number.

    Args:
        there: generated ones that are there already.
    """
    cap = run.goal.generated
    return None if cap >= 1 else max(0, int(cap * others / (1 - cap) + 1e-9) - there)


def drop_over_cap(run: Run, samples: Sequence[Sample], *, others: int = 0, there: int = 0) -> int:
    """Drop generated training records over the plan's cap; returns how many.

    Args:
        samples: all that will be trained on, or the new ones among them.
        others: further training records that are not generated.
        there: further ones that are.
    """
    train = [sample for sample in samples if not sample.drop and sample.split == "train"]
    made = [sample for sample in train if sample.source.origin == "generated"]
    over = over_cap(run, [sample.id for sample in made], others=others + len(train) - len(made), there=there)
    for place, drop in over.items():
        made[place].drop = drop
    return len(over)


def over_cap(run: Run, ids: Sequence[str], *, others: int, there: int = 0) -> dict[int, str]:
    """Which of the generated training records are over the plan's cap, by their place in `ids`: what drops them."""
    most = allowed(run, others, there)
    if most is None or len(ids) <= most:
        return {}
    cap = run.goal.generated
    share = (there + len(ids)) / max(1, others + there + len(ids))
    ranked = sorted(range(len(ids)), key=lambda place: sample_id("generated", str(run.seed), ids[place]))
    run.say(f"{len(ids) - most:,} generated records dropped: the plan allows a share of {cap:g} (goal.generated)")
    return dict.fromkeys(ranked[most:], f"generated_cap: {share:.3f} of the training records against {cap:g}")


def told(run: Run, made: Sequence[Sample], asking: Asking, terms: Terms, fix: str) -> dict[str, Any]:
    """Say what became of the drafts, and what they cost; the same as figures and for a file.

    Raises:
        DataError: nothing can be kept.
    """
    rules = said_drops(run, made)
    kept = sum(not sample.drop for sample in made)
    if not kept:
        first = next((sample.drop for sample in made), "nothing was asked for within the limit of tokens")
        raise DataError(f"nothing that the model wrote can be kept ({first}).", where=run.step, fix=fix)
    terms.said(made)
    asking.said()
    run.score(Score.exact("kept_share", kept / len(made), n=len(made)))
    run.score(Score.exact("malformed", rules.get("malformed", 0), n=len(made), unit="records", direction="lower"))
    return {
        "tried": len(made), "kept": kept, "dropped": rules, "requests": asking.requests, "tokens": asking.spent,
    }  # fmt: skip


def written(run: Run, made: Sequence[Sample], name: str, body: Mapping[str, Any]) -> Dataset:
    """The records as the run's Dataset, with its page, and what was told of them under a name."""
    from volant.store.dataset import writer

    with writer(run.out, modality=run.modality) as out:
        out.write_all(made)
    (run.out / name).write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    result = Dataset(run.out)
    data_page(run, result)
    return result
