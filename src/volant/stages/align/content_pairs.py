"""DPO for models that draw whole samples: what `dpo` does with pairs of pictures or rows.

Enters: a Model whose family tells how surprised it is by an example (a flow, a pipeline, a VAE), and a Dataset of
pairs from `align.preferences`. Leaves: a Model of the same kind. Reported: held-out pair accuracy and how far the
model moved, as for text; the loss on real data before and after; the task metric before and after, on the same seeds.
"""

from __future__ import annotations

from typing import Any

from volant.core import Dataset, Model, Run
from volant.core.errors import DataError
from volant.core.sample import spread
from volant.stages.align.aligned import checked, held, pairs_of, state_distance, state_pairs, steps_of

RATE = 0.02  # of what the family trains from scratch with
_MEASURED = 512


def aligned(
    run: Run, model: Model, data: Dataset, judge: Model | None, *, beta: float, epochs: float, rows: int, lr: float,
    patience: int, anchor: float, bound: float,
) -> Model:  # fmt: skip
    """Align a model with preference pairs; arguments as `dpo`'s.

    Raises:
        DataError: there is no pair to learn from, or one that holds no pictures or rows.
        SettingError: the model's family cannot tell how likely an example is, or it was converted.
    """
    import torch

    from volant.nets import content, content_preference
    from volant.nets.opened import to_train

    torch.set_num_threads(run.threads)
    opened = to_train(run, model)
    family, net, codec = opened.family, opened.net, opened.codec
    content_preference.check_family(family, where=run.step)
    pairs, watched = (content_preference.encoded(codec, pairs_of(data, s)) for s in ("train", "validation"))
    if not pairs:
        fix = "Run `align.preferences` with more `prompts`."
        raise DataError("there is no pair to learn from.", where=run.step, fix=fix)
    real = content.encoded(codec, spread(held(data), _MEASURED))
    before = content.losses(family, net, codec, real)
    steps = steps_of(run, len(pairs), rows, epochs)
    rate = lr or RATE * float(family.recipe(codec.space, steps=steps, batch=rows)["lr"])
    outcome, judged = content_preference.dpo(
        run, family, net, pairs, watched, steps=steps, rows=rows, lr=rate, patience=patience, beta=beta, anchor=anchor,
        bound=bound,
    )  # fmt: skip
    told: dict[str, Any] = {"beta": beta, "anchor": anchor, "pairs": len(pairs), "held_out": len(watched)}
    opened.save(run, dpo={**told, "steps": outcome.steps, "ended": outcome.reason})
    if judged is None:
        run.say("there are no held-out pairs: pair accuracy was not measured, and the last weights were kept")
    else:
        state_pairs(run, judged, bound)
    state_distance(run, before, content.losses(family, opened.net, codec, real))
    return checked(run, model, data, judge)
