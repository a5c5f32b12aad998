"""Weights of images' and tables' networks in 8 bits: what `quantise` does with models that draw whole samples.

Enters: a Model for the engine `sampler`. Leaves: the same directory with int8 in its safetensors, which the engine
turns back into floats when it opens it. That saves disk and transfer, about three quarters, and no time; diffusers
alone does not open it any more.
"""

from __future__ import annotations

import json

from volant.core import Dataset, Model, Run, Score
from volant.core.errors import SettingError
from volant.stages.compress.yardstick import need_float, yardstick


def quantised(
    run: Run, model: Model, data: Dataset, *, judge: Model | None, bits: int, loss: float, metric: str, limit: int
) -> Model:
    """Write the model with int8 weights into `run.out`, measured; arguments as `quantise`'s.

    Raises:
        GateRefused: more is lost than `loss`.
        SettingError: there is nothing to quantise.
    """
    from volant.engines import open_model
    from volant.nets.int8 import pack_folder
    from volant.scorers.measure import check_task

    need_float(run, model)
    if bits != 8:
        what = "a model of images or tables is in 32 bits already."
        raise SettingError(what, where=run.step, fix="Set `bits: 8`.")
    measure = yardstick(run, model, data, judge, metric, limit)
    after_bytes, before_bytes = pack_folder(model.path, run.out)
    if after_bytes >= before_bytes:
        what = f"a {model.about.family} holds no matrices of weights: there is nothing to quantise."
        raise SettingError(what, where=run.step, fix="Serve it as it is.")
    (run.out / "validation.json").unlink(missing_ok=True)  # of the model before
    before = open_model(model, threads=run.threads, device=run.device)
    values = measure.values(before)
    run.check_stop()
    after = open_model(Model(run.out), threads=run.threads, device=run.device)
    fix = f"Allow more (loss: {min(1.0, 2 * loss):g}), or serve the unconverted model."
    stated = measure.stated(values, measure.values(after), loss, fix)
    ratio = after_bytes / before_bytes
    run.score(Score.exact("size_ratio", ratio, direction="lower", note="bytes of weights, to before"))
    check_task(run, after, data, before=model, before_session=before, judge=judge)
    facts = {**stated, "bits": bits, "size_ratio": round(ratio, 4)}
    about = model.about
    body = {**about.model_dump(mode="json"), "extra": {**about.extra, "quantisation": facts}}
    (run.out / "volant.json").write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return Model(run.out)
