"""Turn a model of images into ONNX, which runs without torch's kernels.

Enters: a Model whose family has an ONNX form (a flow, with classes or captions; a VAE or GAN of images), and a
Dataset whose conditions are drawn to compare. Leaves: a Model for the engine `onnx`, whose draws are those of torch
within a stated tolerance; or a refusal with the largest difference.
"""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import Field

from volant.core import Dataset, Model, Run, Score
from volant.core.errors import GateRefused
from volant.stages.compress.yardstick import held_out, need_float, state_speed


def onnx(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    judge: Model | None = None,
    tolerance: Annotated[float, Field(gt=0, le=1)] = 1e-3,
    opset: Annotated[int, Field(ge=18, le=23)] = 18,
    limit: Annotated[int, Field(ge=1, le=10_000)] = 64,
) -> Model:
    """Export a model to ONNX and show that it draws the same, or refuse.

    Args:
        run: seed, threads, where to write.
        model: a flow (UNet or DiT, classes or captions), or a VAE or GAN of images; it is not changed.
        data: its validation split's conditions are drawn by both; nothing is trained.
        judge: a model that the task metric asks, where it needs one.
        tolerance: the largest difference of any value of a draw; values lie in [-1, 1], a step of an 8-bit picture
            is 0.008.
        opset: version of ONNX's operators; higher needs a newer runtime.
        limit: validation samples that are drawn with both.

    Raises:
        GateRefused: a draw differs by more than `tolerance`.
        SettingError: the family has no ONNX form.
        DataError: the validation split holds no content.
    """
    from hashlib import sha256

    import numpy as np

    from volant.engines.onnx import FILE, Answerer
    from volant.nets import exported
    from volant.nets.opened import opened
    from volant.nets.session import DrawSession
    from volant.scorers.measure import check_task, request_of

    about = model.about
    need_float(run, model)
    found = opened(model)
    family, codec, controls = found.family, found.codec, found.controls
    exported.check_family(family, where=run.step)
    held = held_out(run, data, limit)
    net = found.net.eval()
    part = family.onnx_part(net)
    exported.write(part, run.out / FILE, opset=opset)
    file = (run.out / FILE).read_bytes()
    after = family.from_onnx(Answerer(file, threads=run.threads), part.facts)
    prompts = [list(codec.condition(s.condition or "")) for s in held]
    seeds = [request_of(s).seed for s in held]
    run.check_stop()
    drawn = [family.sample(n, prompts, seed=run.seed, seeds=seeds, **controls) for n in (net, after)]
    apart = float(np.abs(drawn[1] - drawn[0]).max())
    note = f"largest difference of a value of {len(held)} draws, allowed {tolerance:g}"
    run.score(Score.exact("onnx_difference", apart, n=len(held), direction="lower", note=note))
    if not apart <= tolerance:
        what = f"draws differ from torch's by up to {apart:.3g}, more than the tolerance of {tolerance:g}."
        raise GateRefused(what, where=run.step, fix=f"Allow more (tolerance: {2 * apart:.2g}), or serve it as it is.")
    state_speed(run, family, (net, controls), (after, controls), prompts)
    session = DrawSession(family, after, codec, controls)
    codec.save(run.out)
    check_task(run, session, data, before=model, judge=judge)
    facts = {"sha256": sha256(file).hexdigest(), "facts": part.facts, "opset": opset, "tolerance": tolerance}
    body = {**about.model_dump(mode="json"), "engine": "onnx", "extra": {**about.extra, "onnx": facts}}
    (run.out / "volant.json").write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return Model(run.out)
