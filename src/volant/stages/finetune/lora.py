"""Fine-tune a model with low-rank adapters (LoRA, through PEFT).

What enters: a Model and a Dataset of prompts with answers. What leaves: a Model with the adapter
merged into its weights at the root (opens with transformers alone) and the adapter by itself in
`adapter/` (opens with peft on the base). The two are compared on real examples, and a merge that
changes the logits is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from volant.core import Dataset, Model, Run, Score
from volant.core.errors import GateRefused

_LARGEST_DIFFERENCE = 1e-3


def lora(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    judge: Model | None = None,
    rank: Annotated[int, Field(ge=1, le=1024)] = 8,
    alpha: Annotated[float, Field(ge=0)] = 0.0,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    targets: Annotated[str, Field(min_length=1)] = "all-linear",
    epochs: Annotated[float, Field(gt=0, le=1000)] = 1.0,
    steps: Annotated[int, Field(ge=0)] = 0,
    batch: Annotated[int, Field(ge=1, le=4096)] = 16,
    lr: Annotated[float, Field(ge=0, le=1)] = 0.0,
    context: Annotated[int, Field(ge=0)] = 0,
    patience: Annotated[int, Field(ge=0)] = 2,
    replay: Annotated[float, Field(ge=0, lt=1)] | None = None,
) -> Model:
    """Fine-tune `model` on the answers, images or rows in `data` with low-rank adapters.

    Args:
        judge: a model that the task metric asks, where it needs one.
        rank: columns of the adapter matrices; more can learn more, and take more memory and data.
        alpha: strength of the adapter, as `alpha / rank`; 0 takes twice the rank.
        dropout: share of the adapter's inputs that is left out in training; helps where there is little data.
        targets: `all-linear` for every matrix of the blocks, or their names with commas (`q_proj,v_proj`): fewer
            train faster and learn less.
        epochs: passes over the training samples; time grows with it.
        steps: training steps; not 0, it is the budget in place of `epochs`.
        batch: examples in one step; more are smoother, slower, and need more memory.
        lr: learning rate; 0 takes what suits the model's width (2e-4 at a width of 2048, more for narrower ones).
        context: longest example in tokens; 0 takes the model's, 1024 at most. Longer prompts lose their middle.
        patience: stop after this many of five looks at the validation loss without an improvement; 0 never does.
        replay: share of the training examples that the model draws itself of what it knows, so that it does not
            forget; for images and tables only. Nothing takes half where the data brings a new class, else none.
    """
    import torch
    from peft import LoraConfig

    from volant.nets.opened import draws
    from volant.nets.transformer import family
    from volant.stages.finetune import adapting, tuning

    named = [] if targets == "all-linear" else [t.strip() for t in targets.split(",")]
    if draws(model):
        content = adapting.begun(run, model, data, replay)
        spent = adapting.budget(content, epochs=epochs, steps=steps, batch=batch, lr=lr, patience=patience)
        return _content(content, data, judge, spent, rank, alpha, dropout, named)
    net, codec = tuning.opened(run, model)
    rate = lr or tuning.default_lr(net, 2e-4, 1.0)
    task = tuning.prepare(run, net, codec, data, tuning.Budget(epochs, steps, batch, rate, context, patience))
    torch.manual_seed(run.seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha or 2 * rank,  # type: ignore[arg-type]
        lora_dropout=dropout,
        target_modules=named or targets,
        task_type="CAUSAL_LM",
    )
    adapted = _adapted(net, config)
    outcome = tuning.tune(task, adapted, fix="Use a smaller `batch` or `context`, or a smaller base.")
    adapted = adapted.cpu().eval()
    probes = [batch.rows(0, 2) for batch in (task.looks or [task.batches.batch(0)])[:2]]
    wanted = _logits(adapted, probes)
    _save_adapter(adapted, run.out / "adapter")
    family.save(adapted.merge_and_unload(safe_merge=True), run.out)
    merged = family.load(run.out)
    _check_merge(run, wanted, _logits(merged, probes))
    extra = {"tuned": "lora", "rank": rank, "base": model.digest[:16]}
    return tuning.finish(task, merged, model, data, outcome, extra)


def _content(
    task: Any, data: Dataset, judge: Model | None, spent: Any, rank: int, alpha: float, dropout: float,
    targets: list[str],
) -> Model:  # fmt: skip
    """The same for a model that draws whole samples: adapters in named layers, merged and compared."""
    from volant.nets import content, lowrank
    from volant.stages.finetune import adapting

    run, opened, net = task.run, task.opened, task.opened.net
    adapting.need_loop(task)
    core = getattr(net, "core", net)
    if hasattr(net, "settle"):
        net.settle()
    average, net.average = getattr(net, "average", 0.0), 0.0  # a running average would follow frozen weights
    lowrank.adapt(core, rank=rank, alpha=alpha, dropout=dropout, targets=targets, seed=run.seed)
    for table in net.tables() if task.fresh and hasattr(net, "tables") else []:
        table.requires_grad_(True)  # a new class needs an embedding of its own
    family, codec = opened.family, opened.codec
    outcome = content.fit(run, family, net, codec, task.examples, task.held_out, spent, title="fine-tuning")
    wanted = content.losses(family, net, codec, task.held_out[:64])
    lowrank.save(core, run.out / "adapter", rank=rank, alpha=alpha)
    lowrank.merge(core)
    net.average = average
    got = content.losses(family, net, codec, task.held_out[:64])
    difference = max((abs(a - b) for a, b in zip(wanted, got, strict=True)), default=0.0)
    if difference > _LARGEST_DIFFERENCE:
        what = f"the merged weights differ from the adapter by {difference:.2g} in the loss"
        raise GateRefused(what, where=run.step, fix="Lower `lr` or `alpha`; the adapter has run away.")
    return adapting.finish(task, data, judge, outcome, {"tuned": "lora", "rank": rank})


def _adapted(net: Any, config: Any) -> Any:
    import warnings

    from peft import get_peft_model

    with warnings.catch_warnings():
        # peft asks transformers by a name that will go in its next major version.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        return get_peft_model(net, config)


def _logits(net: Any, batches: Sequence[Any]) -> list[Any]:
    import torch

    with torch.no_grad():
        return [net(input_ids=b.ids, attention_mask=None if b.real is None else b.real.long()).logits for b in batches]


def _check_merge(run: Run, wanted: Sequence[Any], got: Sequence[Any]) -> None:
    """State the largest difference between the logits with the adapter beside and merged in.

    Raises:
        GateRefused: the two are not the same model.
    """
    difference = max(float((a - b).abs().max()) for a, b in zip(wanted, got, strict=True))
    if not difference <= _LARGEST_DIFFERENCE:
        what = f"the merged weights differ from the adapter by {difference:.2g} in a logit"
        raise GateRefused(what, where=run.step, fix="Lower `lr` or `alpha`; the adapter has run away.")
    note = "largest logit difference between adapter and merged weights"
    count = sum(int(a.numel()) for a in wanted)
    run.score(Score.exact("merge_difference", difference, n=count, direction="lower", note=note))


def _save_adapter(adapted: Any, folder: Path) -> None:
    """The adapter in peft's format, without the base's place on this machine and in a fixed order."""
    adapted.peft_config["default"].base_model_name_or_path = ""
    adapted.save_pretrained(str(folder), safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)
    config = folder / "adapter_config.json"
    body = json.loads(config.read_text(encoding="utf-8"))
    # peft keeps the names in a set, whose order changes from process to process.
    for name, value in body.items():
        if isinstance(value, list):
            body[name] = sorted(value)
    config.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", encoding="utf-8")
