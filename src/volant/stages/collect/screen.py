"""Look at every text before it is judged: its language, words that want a second look, broken Unicode, names.

Enters: a Dataset. Leaves: the same records with `language`, `language_sure` and `flags` among their `attrs`; texts
that were mended or masked as new records that name the old one as their parent; what is in no wanted language among
the dropped ones. A flag says look, not drop: lists of bad words take away texts by and about minorities first (Dodge
et al. 2021), so C4's rule, which drops by such a list, has to be asked for.

It comes before `clean`, so that rules and likeness see the mended text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from volant.core import Dataset, Files, Run, Sample, Score
from volant.core.errors import DataError, SettingError
from volant.core.sample import SPLITS
from volant.modalities.sample_texts import texts_of, with_texts
from volant.stages.collect._data_page import data_page

_AT_ONCE = 1000  # records
TOXIC = "toxic"  # the flag of threats, insults and hate


def screen(
    run: Run,
    data: Dataset,
    *,
    languages: list[str] | None = None,
    sure: Annotated[float, Field(ge=0, le=1)] = 0.65,
    repair: Literal["unicode-1", "none"] = "unicode-1",
    lists: Files = "",
    offensive: Literal["flag", "drop"] = "flag",
    names: str = "",
) -> Dataset:
    """Tell the language of every record, flag words of lists and toxic phrases, mend Unicode, mask names of people.

    Args:
        languages: codes of the languages that stay (`[en, de]`); records in others, or in one that the model is not
            sure of, are dropped. Nothing keeps them all.
        sure: probability (0 to 1) from which a language counts where `languages` are given; FineWeb takes 0.65.
        repair: which version of the rules mends wrongly decoded text, control characters, line ends and composed
            characters; `none` leaves texts as they are.
        lists: files of your own words, one word or phrase a line; each file is a flag named after it.
        offensive: what the shipped list of offensive English words does: it flags a record, or drops it as C4 does.
        names: an installed spaCy pipeline that finds people (`en_core_web_sm`); their names become `<name>`. Empty
            masks none.

    Returns:
        A Dataset of the same splits.

    Raises:
        DataError: no record holds text, none is left in a split, or a list holds no word.
        MissingPackage: `names` are asked for without the extra `names`.
        SettingError: `languages` holds a code that the model does not know.
    """
    from volant.store.dataset import batched, dropped, rows, writer

    _check_codes(run, languages or [])
    total = sum(data.about["splits"].values())
    look = _Look(_lists(run), languages or [], sure, repair, offensive == "drop", names)
    with writer(run.out, modality=run.modality) as out, run.progress("screening", total, "records") as bar:
        for part in batched(rows(data), _AT_ONCE):
            run.check_stop()
            out.write_all(look.at(part))
            bar.advance(len(part))
        out.write_all(dropped(data))
    _report(run, look, out.about["splits"])
    made = Dataset(run.out)
    data_page(run, made)
    return made


def _check_codes(run: Run, languages: Sequence[str]) -> None:
    from volant.modalities.language import codes

    for code in languages:
        if code not in codes():
            what = f"`languages`: {code!r} is no code that the model knows."
            fix = f"Codes are those of ISO 639 ({', '.join(sorted(codes()))})."
            raise SettingError(what, where=run.step, fix=fix)


class _Look:
    """What is looked at, and what was found so far."""

    def __init__(
        self, lists: Mapping[str, Sequence[str]], languages: Sequence[str], sure: float, repair: str, drop: bool,
        names: str,
    ) -> None:  # fmt: skip
        self.lists, self.languages, self.sure = lists, frozenset(languages), sure
        self.repair, self.drop, self.names = repair, drop, names
        self.records = self.texts = 0
        self.by_language, self.flagged, self.changed, self.dropped = (Counter[str]() for _ in range(4))

    def at(self, samples: Sequence[Sample]) -> Iterator[Sample]:
        """The samples, looked at."""
        import pyarrow as pa

        from volant.modalities.language import languages
        from volant.modalities.word_lists import flagged
        from volant.scorers.safety import toxic

        mended = [self._masked(sample) for sample in self._mended(samples)]
        texts = pa.array([sample.text if texts_of(sample) else None for sample in mended], pa.large_string())
        codes, sure = (found.to_pylist() for found in languages(texts))
        counted = {**flagged(texts, self.lists), TOXIC: toxic(texts)}
        flags = {name: counts.to_pylist() for name, counts in counted.items()}
        for i, sample in enumerate(mended):
            self.records += 1
            if texts[i].as_py() is None:
                yield sample
                continue
            self.texts += 1
            self.by_language[codes[i]] += 1
            own = {name: counts[i] for name, counts in flags.items() if counts[i]}
            self.flagged.update(own.keys())
            drop = self._judged(codes[i], sure[i], own)
            self.dropped.update([drop.split(":")[0]] if drop else [])
            attrs = {**sample.attrs, "language": codes[i], "language_sure": round(sure[i], 4)}
            yield sample.model_copy(update={"attrs": {**attrs, "flags": own} if own else attrs, "drop": drop})

    def _judged(self, code: str, sure: float, flags: Mapping[str, int]) -> str:
        if self.languages and code not in self.languages:
            return f"language: {code or 'none'} ({sure:.2f}) against {', '.join(sorted(self.languages))}"
        if self.languages and sure < self.sure:
            return f"language_sure: {sure:.2f} ({code}) against {self.sure:g}"
        if self.drop and flags.get("offensive"):
            return f"offensive: {flags['offensive']} words of the list against 0"
        return ""

    def _mended(self, samples: Sequence[Sample]) -> Iterator[Sample]:
        import pyarrow as pa

        from volant.modalities.repair import repaired_all

        if self.repair == "none":
            yield from samples
            return
        owned = [texts_of(sample) for sample in samples]
        after, _ = repaired_all(pa.array([text for own in owned for text in own], pa.large_string()))
        flat = iter(after.to_pylist())
        for sample, own in zip(samples, owned, strict=True):
            texts = [next(flat) for _ in own]
            self.changed.update(["repaired"] if texts != own else [])
            yield sample if texts == own else with_texts(sample, texts, repaired=self.repair)

    def _masked(self, sample: Sample) -> Sample:
        from volant.modalities.personal_names import without_names

        if not self.names:
            return sample
        found = [without_names(text, self.names) for text in texts_of(sample)]
        count = sum(n for _, n in found)
        if not count:
            return sample
        self.changed["masked"] += 1
        return with_texts(sample, [text for text, _ in found], masked={**sample.attrs.get("masked", {}), "name": count})


def _lists(run: Run) -> dict[str, Sequence[str]]:
    from volant.modalities.word_lists import OFFENSIVE, offensive, words

    found: dict[str, Sequence[str]] = {OFFENSIVE: offensive()}
    for file in run.snapshot("lists").files if "lists" in run.outside else ():
        name = file.path.stem
        if name in found or name == TOXIC:
            raise DataError(f"two lists are named {name!r}.", where=file.name, fix="Name the files differently.")
        try:
            found[name] = words(file.path.read_text(encoding="utf-8-sig"), file.name)
        except UnicodeDecodeError as error:
            raise DataError(f"the list is no UTF-8: {error}.", where=file.name, fix="Save it as UTF-8.") from error
    return found


def _report(run: Run, look: _Look, splits: Mapping[str, int]) -> None:
    import json

    from volant.modalities import language, personal_names, repair, word_lists
    from volant.scorers.safety import TOXIC_VERSION

    if not look.texts:
        raise DataError(
            f"none of the {look.records:,} records holds text to screen.", where=run.step,
            fix="Leave the step out: it is for texts, chats and captions.",
        )  # fmt: skip
    found = ", ".join(f"{n:,} {code or 'none'}" for code, n in look.by_language.most_common(5))
    run.say(f"{look.texts:,} texts; languages: {found}")
    for what, counts in (("flagged", look.flagged), ("changed", look.changed), ("dropped", look.dropped)):
        if counts:
            run.say(f"{what}: {', '.join(f'{n:,} {name}' for name, n in counts.most_common())}")
    run.score(Score.exact("screened_share", sum(splits.values()) / look.records, n=look.records))
    body: dict[str, Any] = {
        "texts": look.texts,
        "languages": dict(sorted(look.by_language.items())),
        "flags": dict(sorted(look.flagged.items())),
        "lists": {name: len(found) for name, found in sorted(look.lists.items())},
        "changed": dict(sorted(look.changed.items())),
        "dropped": dict(sorted(look.dropped.items())),
        "versions": {
            "language": language.version(), "lists": word_lists.VERSION, "names": personal_names.VERSION,
            "repair": look.repair, "toxic": TOXIC_VERSION,
        },
    }  # fmt: skip
    assert look.repair in ("none", repair.VERSION), look.repair
    (run.out / "screen.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    empty = [split for split in SPLITS if not splits[split]]
    if empty:
        raise DataError(
            f"no record is left in {' and '.join(empty)} after screening; languages: {found}.", where=run.step,
            fix="Name the languages that the data has, or lower `sure`.",
        )  # fmt: skip
