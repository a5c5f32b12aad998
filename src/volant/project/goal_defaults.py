"""What a project file leaves open and its modality knows: the task metric and the rival.

Enters: a Spec as it was written. Leaves: the same, where a modality other than text has filled in
`goal.metric`, `goal.baseline` and `loop.promote.metric`, so that pictures are not measured by words.
"""

from __future__ import annotations

from volant.core.errors import SettingError
from volant.core.spec import Goal, Spec


def filled(spec: Spec) -> Spec:
    """The spec with the first gate and the first baseline of its modality where the file names none.

    Raises:
        SettingError: there is no such modality.
    """
    plain = Goal()
    if spec.goal.modality == plain.modality:
        return spec
    open_fields = {"metric", "baseline"} - spec.goal.model_fields_set
    loop = spec.loop if spec.loop and "metric" not in spec.loop.promote.model_fields_set else None
    if not open_fields and not loop:
        return spec
    from volant.modalities import open_modality

    try:
        modality = open_modality(spec.goal.modality)
    except SettingError as error:
        raise SettingError(error.what, where=spec.where("goal", "modality"), fix=error.fix) from error
    known = {
        "metric": next(iter(modality.gates()), plain.metric),
        "baseline": next(iter(modality.baselines()), plain.baseline),
    }
    goal = spec.goal.model_copy(update={name: known[name] for name in open_fields})
    if loop:
        loop = loop.model_copy(update={"promote": loop.promote.model_copy(update={"metric": goal.metric})})
    return spec.model_copy(update={"goal": goal, "loop": loop or spec.loop})
