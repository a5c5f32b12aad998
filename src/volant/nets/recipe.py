"""How to train, and what training came to, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        steps: the budget; one batch each.
        lr: AdamW's rate.
        muon_lr: Muon's rate for matrices; 0 for AdamW alone.
        warmup: steps of linear warm-up.
        decay: the last steps, over which the rate falls to zero.
        clip: the gradient's norm is cut to this.
        evaluate_every: steps between looks at the validation loss; 0 for only at the end.
        start_counts: the weights of the start are looked at as well, and kept where no look is better.
        patience: stop after this many looks without an improvement; 0 for never.
        checkpoint_every: steps between checkpoints; 0 for only when stopped and at the end.
        piece_tokens: larger batches are worked off in pieces of this many tokens, to bound memory.
        bf16: compute in bfloat16 where that is faster (`optim.bf16_pays`); weights stay float32.
        compiled: blocks of a transformer are compiled; see `nets/compiling.py`.
    """

    steps: int
    lr: float
    muon_lr: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    warmup: int = 10
    decay: int = 0
    clip: float = 1.0
    evaluate_every: int = 0
    start_counts: bool = False
    patience: int = 0
    checkpoint_every: int = 50
    piece_tokens: int = 8192
    bf16: bool = True
    compiled: bool = False


def rows_at_once(width: int, tokens: int = Recipe.piece_tokens) -> int:
    """Rows of a step that are computed at once: as many as come to `piece_tokens`, and at least one.

    Args:
        width: what a row counts, padding included.
        tokens: of the recipe.
    """
    return max(1, tokens // width)


@dataclass(frozen=True)
class Outcome:
    """What training came to.

    Attributes:
        steps: done, of all that were planned.
        tokens: seen in training.
        loss: the mean of the last sixteen training losses, in nats.
        validation: the validation loss of the weights that were kept; None where there was no validation data.
        reason: why training ended, in words.
        roll_backs: how often the guard went back to a checkpoint.
    """

    steps: int
    tokens: int
    loss: float
    validation: float | None
    reason: str
    roll_backs: int
