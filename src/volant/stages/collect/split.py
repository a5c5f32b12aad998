"""Deal a Dataset anew into train, validation and test, by hash of group.

Enters: a Dataset. Leaves: the same records with other splits. Groups stay whole, so nothing of one
group (a module, an author, a prompt) stands on both sides. Feedback stays in train.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from volant.core import Dataset, Run
from volant.core.errors import SettingError


def split(
    run: Run,
    data: Dataset,
    *,
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1,
    test: Annotated[float, Field(gt=0, lt=1)] = 0.1,
    salt: str = "",
) -> Dataset:
    """Split by hash of group. Run `clean` after it: its leakage gate holds for the new split.

    Args:
        validation: share of the groups for choosing between models (0 to 1).
        test: share of the groups for the final comparison (0 to 1); sealed to all stages but evaluate.
        salt: any text; another one deals other groups. A change makes old comparisons void.

    Returns:
        The same records, split anew.

    Raises:
        SettingError: the shares leave nothing to train on.
        DataError: fewer than three groups.
    """
    import hashlib

    from volant.core.sample import Sample, Split
    from volant.stages.collect._arrival import arrive
    from volant.store.dataset import dropped, rows

    if validation + test >= 1:
        raise SettingError(f"validation {validation} and test {test} leave nothing to train on.", fix="Lower them.")

    def side(group: str) -> Split:
        point = int(hashlib.sha256(f"{salt}\0{group}".encode()).hexdigest()[:13], 16) / 16**13
        return "test" if point < test else "validation" if point < test + validation else "train"

    def dealt(sample: Sample) -> Sample:
        ours = "train" if sample.source.origin == "feedback" else side(sample.group)
        return sample.model_copy(update={"split": ours})

    return arrive(run, [*map(dealt, rows(data)), *map(dealt, dropped(data))])
