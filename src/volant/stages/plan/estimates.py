"""What a step will take, from its settings alone: parameters, memory, time and disk.

Enters: a step's method and settings, and the machine's facts. Leaves: an `Estimate`. The formulae
are the usual ones; the speeds are measured on two cores of a server processor and scaled by cores:

| quantity          | formula                                                                        |
|-------------------|--------------------------------------------------------------------------------|
| parameters N      | the family's own formula (`nets.transformer.size_of`)                          |
| training flops    | 6 N per token; with adapters 4 N (no gradient of the frozen weights)           |
| training seconds  | tokens x flops / rate + a fixed cost, rate = cores x flops a core (x bf16)     |
| loss              | of a transformer on text: a fitted law (`scaling.py`)                          |
| training memory   | 4 B a weight, 20 B a trained one (gradient, two moments, best so far, a copy)  |
| activations       | 4 B x tokens of a piece x (34 x depth x width + 3 x vocabulary, in pieces)     |
| generating        | 2 N flops a token of prompt and text, and a fixed cost of each step            |
| disk              | 4 B a parameter for each model kept, twice that for each checkpoint            |

A guess of a duration within a factor of three is all that this promises; it is there to catch an
afternoon before it is spent. `beside` puts what really happened next to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from volant.core import Score
from volant.stages.plan.scaling import Expected, expected

# Rates of small networks on one core of a 2020s server processor, flop/s; measured at 1-4 million
# parameters, where overheads count: larger networks do better, so the guess errs on the long side.
FLOPS_A_CORE = 45e9
BF16_GAIN = 1.6
GPU_FLOPS = 40e12
# One step of generation costs at least this long, whatever the size, for each batch.
STEP_SECONDS = 0.004
FIXED_SECONDS = 8.0  # torch loaded, the tokenizer fitted, the task metric measured before and after
BASE_BYTES = 700 << 20  # the interpreter with torch and transformers loaded
RESERVE = 0.9  # share of the machine's memory that a step may plan with
_LOGITS = 3 * (64 << 20)  # entries at once; more are made in pieces
BYTES_A_TOKEN = 3.4
PAIR_TOKENS = 160
CHOICES = 200  # judged pairs
# Passes for each token: preferences read two answers, most of the others read with the reference, too.
PASSES = {
    "align.dpo": 2.7, "align.kto": 2.7, "align.orpo": 2.0, "align.simpo": 2.0, "align.reward": 2.0,
    "align.grpo": 1.4, "align.rloo": 1.4, "align.ppo": 1.4,
}  # fmt: skip


@dataclass(frozen=True)
class Sketch:
    """A model that does not exist yet, as far as its size matters."""

    parameters: int
    depth: int
    width: int
    vocab: int
    length: int
    batch_tokens: int


@dataclass(frozen=True)
class Rates:
    """How fast this machine works.

    Attributes:
        flops: of matrix products over all cores used, in flop/s.
        factor: what past runs took over what the table said; 1 where nothing is known.
    """

    flops: float
    factor: float = 1.0


@dataclass(frozen=True)
class Estimate:
    """One step's expected cost.

    Attributes:
        parameters: of the model that it makes or uses; 0 where it has none.
        memory_bytes: peak of the process.
        seconds: wall time.
        disk_bytes: what it leaves in the store, checkpoints while it runs included.
        basis: what the figures were derived from, in a few words.
        loss: what a transformer of text comes to; None for all else.
        least_bytes: peak where memory is short and the blocks are computed twice; 0 where a method does not.
    """

    step: str
    method: str
    parameters: int
    memory_bytes: int
    seconds: float
    disk_bytes: int
    basis: str
    loss: Expected | None = None
    least_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        """The row of `plan.json`; seconds to two digits, as they are no better than that."""
        said: dict[str, Any] = {**asdict(self), "seconds": float(f"{self.seconds:.2g}")}
        del said["least_bytes"]
        if self.loss is not None:
            said["loss"] = {n: round(v, 3) if isinstance(v, float) else v for n, v in asdict(self.loss).items()}
        return said


def rates(facts: Mapping[str, Any], *, threads: int, device: str = "cpu", factor: float = 1.0) -> Rates:
    """Speeds from the machine's facts; `bf16` counts where the processor has it."""
    if device == "cuda":
        return Rates(GPU_FLOPS, factor)
    cores = min(int(facts.get("cores", 1)), max(1, threads))
    return Rates(cores * FLOPS_A_CORE * (BF16_GAIN if facts.get("bf16") else 1.0), factor)


def sketch(settings: Mapping[str, Any], base: Sketch | None) -> Sketch:
    """The size of the model that the settings ask for, or that of the base that they start from."""
    if base is not None and "depth" not in settings:
        return base
    from volant.nets.transformer import size_of

    size = size_of(int(settings.get("depth") or 4))
    vocab, length = int(settings.get("vocab") or 4096), int(settings.get("context") or 256)
    batch = int(settings.get("batch_tokens") or size.batch_tokens)
    return Sketch(size.parameters(vocab), size.depth, size.width, vocab, length, batch)


def training(
    step: str,
    method: str,
    model: Sketch,
    tokens: float,
    speed: Rates,
    *,
    trained: float = 1.0,
    passes: float = 1.0,
    text: bool = True,
) -> Estimate:
    """Cost of training, and what it comes to.

    Args:
        step: its name.
        method: its method.
        model: what is trained.
        tokens: seen in all, repeated ones counted again.
        speed: of the machine.
        trained: share of the weights that get a gradient (adapters: a few hundredths).
        passes: forward and backward passes for each token (preferences need the reference's too).
        text: what is learnt is text or code.
    """
    from volant.nets.recipe import Recipe

    flops = (6.0 if trained > 0.5 else 4.0) * model.parameters * tokens * passes
    piece = max(model.length, min(model.batch_tokens, Recipe.piece_tokens))
    logits = min(3 * piece * model.vocab, _LOGITS)
    kept = 34 * model.depth
    weights = BASE_BYTES + 4 * model.parameters * (1 + 5 * trained)
    memory, least = (weights + 4 * (n * piece * model.width + logits) for n in (kept, min(kept, 34 + model.depth)))
    disk = 4 * model.parameters * (1 + 4 * trained)
    seconds = speed.factor * (flops / speed.flops) + FIXED_SECONDS
    loss = expected(model.parameters, tokens) if method == "pretrain.transformer" and text else None
    basis = f"{tokens:,.0f} tokens"
    twice = not method.startswith("finetune.")
    return Estimate(
        step, method, model.parameters, int(memory), seconds, int(disk), basis, loss, int(least) if twice else 0
    )


def drawing(row: Estimate, model: Sketch, outputs: int, tokens: int, speed: Rates) -> Estimate:
    """A training's cost with that of drawing the answers that it learns from."""
    drawn = generating(row.step, row.method, model, outputs, tokens, speed)
    return replace(row, seconds=row.seconds + drawn.seconds)


def generating(step: str, method: str, model: Sketch | None, outputs: int, tokens: int, speed: Rates) -> Estimate:
    """Cost of `outputs` generations of up to `tokens` tokens each, in batches of 16."""
    parameters = model.parameters if model else 0
    steps = -(-outputs // 16) * tokens
    flops = 2.0 * parameters * outputs * (PAIR_TOKENS + tokens)
    memory = BASE_BYTES + 6 * parameters
    basis = f"{outputs:,} outputs of up to {tokens} tokens"
    return Estimate(
        step,
        method,
        parameters,
        int(memory),
        speed.factor * (steps * STEP_SECONDS + flops / speed.flops) + 3,
        2 << 20,
        basis,
    )


def loading(step: str, method: str, model: Sketch) -> Estimate:
    """Cost of taking a base over: a copy on disk, opened once to be measured."""
    basis = f"{model.parameters / 1e6:,.1f} M weights" if model.parameters else "size not known"
    memory = BASE_BYTES + 8 * model.parameters
    return Estimate(
        step, method, model.parameters, memory, FIXED_SECONDS + model.parameters / 1e8, 4 * model.parameters, basis
    )


def reading(step: str, method: str, corpus_bytes: int, speed: Rates) -> Estimate:
    """Cost of reading, cleaning or splitting text: about 3 MB a second on one core."""
    memory = (250 << 20) + 40 * corpus_bytes
    seconds = speed.factor * corpus_bytes / 3e6 + 1
    return Estimate(step, method, 0, memory, seconds, corpus_bytes, f"{corpus_bytes / 1e6:.0f} MB of text")


def beside(plan: Mapping[str, Any], past: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The estimates beside what the latest finished run of each step really took.

    Args:
        plan: `plan.json` of a sizing.
        past: runs of the records, newest first, as `step, status, seconds, peak_bytes`.

    Returns:
        For each step `step, method, seconds, took_seconds, ratio, memory_bytes, took_bytes, loss, became`; what has
        not run yet has None in place of what it took and became.
    """
    latest: dict[str, Mapping[str, Any]] = {}
    for run in past:
        if run.get("status") == "done":
            latest.setdefault(str(run["step"]), run)
    rows = []
    for row in plan.get("steps", []):
        real = latest.get(row["step"])
        took = float(real["seconds"]) if real else None
        bits = Score.of_model(real.get("scores", ()), "bits_per_byte") if real else None
        rows.append(
            {
                "step": row["step"],
                "method": row["method"],
                "seconds": row["seconds"],
                "took_seconds": took,
                "ratio": took / row["seconds"] if took is not None and row["seconds"] else None,
                "memory_bytes": row["memory_bytes"],
                "took_bytes": int(real["peak_bytes"]) if real else None,
                "loss": row.get("loss"),
                "became": bits.value if bits else None,
            }
        )
    return rows
