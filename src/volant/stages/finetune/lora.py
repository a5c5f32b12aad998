"""Fine-tune a model with low-rank adapters (LoRA, through PEFT).

What enters: a Model and a Dataset of prompts with answers. What leaves: a Model with the adapter
merged into its weights at the root (opens with transformers alone) and the adapter by itself in
`adapter/` (opens with peft on the base). The two are compared on real examples, and a merge that
changes the logits is refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from volant.core import Dataset, Model, Run, Score
from volant.core.errors import GateRefused, SettingError


def lora(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    judge: Model | None = None,
    retain: Dataset | None = None,
    rank: Annotated[int, Field(ge=0, le=1024)] = 0,
    alpha: Annotated[float, Field(ge=0)] = 0.0,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    targets: Annotated[str, Field(min_length=1)] = "all-linear",
    variant: Literal["lora", "rslora", "dora", "loha", "lokr"] = "lora",
    epochs: Annotated[float, Field(gt=0, le=1000)] = 1.0,
    steps: Annotated[int, Field(ge=0)] = 0,
    batch: Annotated[int, Field(ge=1, le=4096)] = 16,
    lr: Annotated[float, Field(ge=0, le=1)] = 0.0,
    context: Annotated[int, Field(ge=0)] = 0,
    patience: Annotated[int, Field(ge=0)] = 2,
    replay: Annotated[float, Field(ge=0, lt=1)] | None = None,
    pack: bool = False,
) -> Model:
    """Fine-tune `model` on the answers, images or rows in `data` with low-rank adapters.

    Args:
        judge: a model that the task metric asks, where it needs one.
        retain: what the base should go on knowing, such as the texts of its pre-training: their validation split
            says how much is forgotten; without it 32 texts that the base writes itself do. For text.
        rank: columns of the adapter matrices; more can learn more, and take more memory and data. 0 takes 12 for text
            and 8 for images and tables.
        alpha: strength of the adapter, as `alpha / rank`; 0 takes twice the rank.
        dropout: share of the adapter's inputs that is left out in training; helps where there is little data.
        targets: `all-linear` for every matrix of the blocks, or their names with commas (`q_proj,v_proj`): fewer
            train faster and learn less.
        variant: `rslora` scales by the root of the rank, for high ranks; `dora` learns lengths and directions apart,
            slower and often a little better; `loha` and `lokr` are Hadamard and Kronecker products. Text only.
        epochs: passes over the training samples; time grows with it.
        steps: training steps; not 0, it is the budget in place of `epochs`.
        batch: examples in one step; more are smoother, slower, and need more memory.
        lr: how far a number of the second matrix moves in a step; 0 takes what suits the model's width (1e-4 at a width
            of 2048, more for narrower ones). Text: by Muon, or for `loha` and `lokr` by AdamW, at twice that.
        context: longest example in tokens, 16 or more; 0 takes the model's, 1024 at most. Of longer ones the prompt
            loses its middle, and where that is not enough the answers their end.
        patience: stop after this many of five looks at the validation loss without an improvement; 0 never does.
        replay: share of the training examples that the model draws itself of what it knows, so that it does not
            forget; for images and tables only. Nothing takes half where the data brings a new class, else none.
        pack: put several short examples into one row, each seeing itself alone: the same loss with less padding. Worth
            it where lengths differ much, in the first place on an accelerator. For text.
    """
    from volant.nets.opened import draws
    from volant.stages.finetune import adapters, adapting, tuning

    named = [] if targets == "all-linear" else [t.strip() for t in targets.split(",")]
    if draws(model):
        if variant != "lora":
            what = f"{variant} adapters are for transformers of text."
            raise SettingError(what, where=run.step, fix="Leave `variant` out.")
        adapting.refuse(run, "text", retain=retain, context=context, pack=pack)
        content = adapting.begun(run, model, data, replay)
        budget = adapting.budget(content, epochs=epochs, steps=steps, batch=batch, lr=lr, patience=patience)
        return _content(content, data, judge, budget, rank or 8, alpha, dropout, named)
    adapting.refuse(run, "images or tables", replay=replay)
    spent = tuning.Budget(epochs, steps, batch, lr, context, patience, pack=pack)
    config = adapters.config_of(variant, rank, alpha, dropout, named or targets)
    told = {"tuned": variant, "rank": config.r}
    return adapters.learnt(run, model, data, config, spent, told, retain=retain, judge=judge)


def _content(
    task: Any, data: Dataset, judge: Model | None, spent: Any, rank: int, alpha: float, dropout: float,
    targets: list[str],
) -> Model:  # fmt: skip
    """The same for a model that draws whole samples: adapters in named layers, merged and compared."""
    from volant.nets import content, lowrank
    from volant.stages.finetune import adapting
    from volant.stages.finetune.adapters import LARGEST_DIFFERENCE

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
    outcome = content.fit(
        run, family, net, codec, task.examples, task.held_out, spent, title="fine-tuning", start_counts=True
    )
    probes = (task.held_out or task.examples)[:64]
    wanted = content.losses(family, net, codec, probes)
    lowrank.save(core, run.out / "adapter", rank=rank, alpha=alpha)
    lowrank.merge(core)
    net.average = average
    made = adapting.finish(task, data, judge, outcome, {"tuned": "lora", "rank": rank})
    got = content.losses(family, family.load(run.out).to(run.device), codec, probes)
    difference = max(abs(a - b) for a, b in zip(wanted, got, strict=True))
    if not difference <= LARGEST_DIFFERENCE:
        what = f"the loss of the merged weights as saved differs by {difference:.2g} from that with the adapter."
        raise GateRefused(what, where=run.step, fix="Lower `lr` or `alpha`; the adapter has run away.")
    note = "largest difference in the loss between adapter and merged weights"
    run.score(Score.exact("merge_difference", difference, n=len(probes), direction="lower", note=note))
    return made
