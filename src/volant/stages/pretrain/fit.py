"""Train any family from scratch on images, tables and whatever else is no running text.

What enters: a Dataset. What leaves: a Model of the family named, with the codec that was fitted on the
train split. Which families fit is not listed anywhere: a family says which spaces it learns, a modality
which ones it offers, and the two meet here. Text is `pretrain.transformer`'s, which mixes and packs it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from volant.core import Dataset, Model, Run, Sample, Score
from volant.core.artifact import ModelAbout
from volant.core.errors import DataError
from volant.core.spaces import space_json

if TYPE_CHECKING:
    from volant.nets.loop import Outcome


def fit(
    run: Run,
    data: Dataset,
    *more: Dataset,
    latent: Model | None = None,
    judge: Model | None = None,
    family: str = "",
    steps: Annotated[int, Field(ge=0)] = 0,
    batch: Annotated[int, Field(ge=0, le=65_536)] = 0,
    rate: Annotated[float, Field(gt=0, le=100)] = 1.0,
    patience: Annotated[int, Field(ge=0)] = 0,
    size: dict[str, Any] | None = None,
    codec: dict[str, Any] | None = None,
    controls: dict[str, float] | None = None,
) -> Model:
    """Train a family of networks (flow, vae, gan, tree, transformer ...) from scratch.

    Args:
        data: what to learn; its validation split is for looks at the loss.
        more: further datasets, used like the first.
        latent: a trained VAE; the network then learns its latents instead of pixels, which large images need.
        judge: a model that the task metric asks, where it needs one.
        family: which one learns: flow (best pictures), vae (cheapest), gan, gaussian; for tables tree (CART),
            transformer, vae, gan. Empty takes flow for grids and tree for tables.
        steps: training steps; 0 takes what suits the family. Time grows with it.
        batch: examples in a step; 0 takes what suits the family.
        rate: factor on the family's learning rates; lower it where training diverges.
        patience: stop after this many of five looks at the validation loss without an improvement; 0 never does.
        size: of the network, by the family's own names (`{width: 64}` for a flow, `{leaf: 20}` for a tree).
        codec: options of the modality's codec (`{side: 28}` for images, `{max_categories: 500}` for tables).
        controls: how samples are drawn where a request does not say (`{guidance: 1.5, steps: 20}`).

    Raises:
        SettingError: the family does not learn what the modality offers, or has no such size or control.
        DataError: the train split is empty.
    """
    from volant.modalities import open_modality
    from volant.nets import content, open_family
    from volant.nets.controls import check_controls
    from volant.nets.latent import latent_codec

    modality = open_modality(run.modality)
    chosen = open_family(family or {"grid": "flow", "mixed": "tree"}.get(modality.spaces()[0], "transformer"))
    space = content.space_for(chosen, modality)
    content.check_size(chosen, size or {})
    check_controls(chosen, controls or {})
    train, held_out = _samples(run, [data, *more])
    fitted = modality.codec(train, space=space, **(codec or {}))
    if latent is not None:
        fitted = latent_codec(fitted, latent, train)
    examples = content.encoded(fitted, train)
    net = content.build(chosen, fitted, examples, seed=run.seed, size=size or {})
    if hasattr(net, "to"):
        net = net.to(run.device)
    budget = content.Budget(steps, batch, rate, patience)
    outcome = content.fit(
        run, chosen, net, fitted, examples, content.encoded(fitted, held_out), budget, title="pre-training"
    )
    if hasattr(net, "cpu"):
        net = net.cpu()
    chosen.save(net, run.out)
    fitted.save(run.out)
    count = content.parameters(net)
    _describe(run, chosen.name, fitted.space, count, controls or {}, outcome)
    run.score(Score.exact("parameters", count, n=1, direction="lower"))
    _measure(run, chosen, net, fitted, data, judge, controls or {})
    return Model(run.out)


def _samples(run: Run, datasets: list[Dataset]) -> tuple[list[Sample], list[Sample]]:
    """(train, validation) of all datasets."""
    from volant.store.dataset import count, rows

    train = [s for d in datasets if count(d, "train") for s in rows(d, "train")]
    if not train:
        raise DataError("the train split is empty.", where=run.step, fix="Add samples, or loosen collect.clean.")
    held_out = [s for d in datasets if count(d, "validation") for s in rows(d, "validation")]
    return train, held_out


def _describe(
    run: Run, family: str, space: Any, parameters: int, controls: dict[str, float], outcome: Outcome | None
) -> None:
    extra: dict[str, Any] = {"controls": controls}
    if outcome is not None:
        extra |= {"steps": outcome.steps, "examples": outcome.tokens, "ended": outcome.reason}
    about = ModelAbout(
        family=family, modality=run.modality, engine="sampler", space=space_json(space), parameters=parameters,
        extra=extra,
    )  # fmt: skip
    body = json.dumps(about.model_dump(mode="json"), indent=2, sort_keys=True)
    (run.out / "volant.json").write_text(body + "\n", encoding="utf-8")


def _measure(
    run: Run, family: Any, net: Any, codec: Any, data: Dataset, judge: Model | None, controls: dict[str, float]
) -> None:
    """The project's task metric on the validation split."""
    from volant.nets.session import DrawSession
    from volant.scorers.measure import check_task

    check_task(run, DrawSession(family, net, codec, controls), data, judge=judge)
