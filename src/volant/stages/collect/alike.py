"""Texts that say the same in other words: reordered, shortened, reworded; what near duplicates do not find.

Enters: a Dataset, and a model to read it by where there is one. Leaves: the same records; of those that are alike the
first stays, test before validation before training records, and each other one names it, with how alike they are. Two
texts are compared by their rare words (`modalities/word_weights.py`), or by what a local model makes of them. No step
does this unless it is asked for: texts on one subject are alike too, and where to draw the line is a judgement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from volant.core import Dataset, Model, Run, Sample, Score
from volant.core.errors import DataError
from volant.core.sample import CONTENT_SHAPES, SPLITS
from volant.stages.collect._data_page import data_page

RULE = "alike"
_WORDS, _MODEL = 0.75, 0.95
_AT_ONCE = 256  # records that are held against all before them at a time


def alike(
    run: Run,
    data: Dataset,
    *,
    embedder: Model | None = None,
    threshold: Annotated[float, Field(gt=0, le=1)] | None = None,
) -> Dataset:
    """Drop texts that say the same as one that stays. Run it after `clean`, which is faster and finds the plain ones.

    Args:
        data: texts, questions or chats; feedback passes as it is, for a correction resembles what it corrects.
        embedder: a model whose hidden states tell how alike two texts are, such as a directory that `pretrain.base`
            took. Nothing compares rare words (TF-IDF), which needs no model and sees no synonyms.
        threshold: cosine (0 to 1) from which the later text is dropped. Nothing takes 0.75 for words, where texts with
            a fifth of their words gone still fall, and 0.95 for a model. Lower drops more, some of it for its subject.

    Returns:
        A Dataset of the same splits; what was dropped names the record that stays. Each is held against each: twice
        the records take four times as long.

    Raises:
        DataError: there is no text.
        ArtifactError: the model reads no text.
    """
    from volant.store.dataset import dropped, rows, writer

    found = [run.remembered(sample) for sample in rows(data)]
    right = {split: place for place, split in enumerate(reversed(SPLITS))}
    compared = sorted((sample for sample in found if _is_compared(sample)), key=lambda s: right[s.split])
    if not compared:
        raise DataError("there is no text to compare.", where=run.step, fix="Give a Dataset of modality `text`.")
    bar_at = threshold if threshold is not None else (_MODEL if embedder else _WORDS)
    vectors = _vectors(run, [sample.text for sample in compared], embedder)
    _drop(run, compared, vectors, bar_at)
    with writer(run.out, modality=run.modality) as out:
        out.write_all(found)
        out.write_all(dropped(data))
    _report(run, compared)
    made = Dataset(run.out)
    data_page(run, made)
    return made


def _is_compared(sample: Sample) -> bool:
    return sample.shape not in CONTENT_SHAPES and not sample.drop and sample.source.origin != "feedback"


def _vectors(run: Run, texts: Sequence[str], embedder: Model | None) -> Any:
    """Unit rows, sparse or not, whose products are cosines."""
    if embedder is None:
        import pyarrow as pa

        from volant.modalities.word_weights import weighted

        return weighted(pa.array(texts, pa.large_string()))
    from volant.nets.embedding import embedded

    def advance(count: int) -> None:
        run.check_stop()
        bar.advance(count)

    with run.progress("reading texts", len(texts), "records") as bar:
        return embedded(embedder, texts, device=run.device, advance=advance)


def _drop(run: Run, samples: Sequence[Sample], vectors: Any, bar_at: float) -> None:
    """Drop what is as alike as that to an earlier record that stays: likeness goes by no chain of small steps."""
    import numpy as np

    stays = np.ones(len(samples), bool)
    with run.progress("comparing texts", len(samples), "records") as bar:
        for first in range(0, len(samples), _AT_ONCE):
            run.check_stop()
            last = min(first + _AT_ONCE, len(samples))
            product = vectors[first:last] @ vectors[:last].T
            common = np.asarray(product if isinstance(product, np.ndarray) else product.toarray())
            for later in range(first, last):
                own = np.where(stays[:later], common[later - first, :later], -1.0)
                best = int(own.argmax()) if later else 0
                if later and own[best] >= bar_at - 1e-6:
                    stays[later] = False
                    samples[later].drop = f"{RULE}: {own[best]:.2f} (of {samples[best].id}) against {bar_at:.2f}"
            bar.advance(last - first)


def _report(run: Run, samples: Sequence[Sample]) -> None:
    gone = sum(bool(sample.drop) for sample in samples)
    kept = Counter(sample.split for sample in samples if not sample.drop)
    run.say(f"{gone:,} of {len(samples):,} texts say the same as another; {kept.total():,} stay")
    run.score(Score.exact(f"dropped_{RULE}", gone, n=len(samples), unit="records", direction="lower"))
    run.score(Score.exact("kept_share", kept.total() / len(samples), n=len(samples)))
