"""The training loop: the same for pre-training, fine-tuning and whatever else has a differentiable loss.

What enters: a run, a network, batches that are a pure function of the step, and a recipe. What
leaves: the trained network (in place) and an `Outcome` that says why training ended. Checkpoints go
to `run.work`; a run that finds one there carries on bit-exactly, since weights, optimiser, random
state and guard come back and the data follow from the step. Budgets are steps, never seconds.
Several processes may share a training (`nets/team.py`): each reads its rows and keeps its part of the weights.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from volant.core.errors import DataError, VolantError
from volant.core.run import Bar, Run
from volant.nets import compiling, freed, state, watching
from volant.nets.batches import Batches, Step
from volant.nets.going_back import Backs
from volant.nets.guard import Guard, check_numbers, odd
from volant.nets.optim import Optimisers, bf16_pays, trainable, wsd
from volant.nets.pieces import Loss, evaluate, in_pieces, summed
from volant.nets.recipe import Outcome as Outcome
from volant.nets.recipe import Recipe as Recipe
from volant.nets.recipe import rows_at_once
from volant.nets.repeatable import aside, given_up, repeatable
from volant.nets.team import ALONE, Alone, team
from volant.nets.transformer import token_loss

_STAYED = (
    "since no look at the validation loss was better than the base's. Lower `lr`, or give data that are like the "
    "validation split."
)
_TOLD = 5  # odd batches that are said one by one
_BATCHES = 10  # what a step reads and how it computes, by number: a checkpoint of another is not carried on from


def train(
    run: Run,
    net: torch.nn.Module,
    batches: Batches,
    recipe: Recipe,
    *,
    validation: Sequence[Step] = (),
    loss: Loss = token_loss,
    name: str = "train",
    title: str = "training",
) -> Outcome:
    """Train `net` in place.

    Args:
        run: gives seed, device, scratch directory, and hears progress and metrics.
        net: its parameters with `requires_grad` are trained; `after_step()`, where it has one, is called after
            each step (a running average of the weights, kept in buffers).
        batches: training data.
        recipe: how.
        validation: batches for early stopping and for choosing the weights that are kept.
        loss: (net, batch) to (sum, count).
        name: of the checkpoint folder in `run.work`, where a method trains more than once.
        title: of the progress bar.

    Raises:
        Interrupted: the user stopped it; a checkpoint was made.
        DataError: the guard went back several times and training went wrong again, or too many batches are broken.
        ArtifactError: the network was broken before the first step.
    """
    torch.set_num_threads(run.threads)
    assert loss is token_loss or not recipe.compiled, "the compiled loss is token_loss"
    chosen_loss = compiling.compiled(net) if recipe.compiled else nullcontext(loss)
    with team(run) as together, chosen_loss as chosen, freed.kept(), repeatable(run.device):
        size = getattr(getattr(net, "config", None), "vocab_size", 0) if loss is token_loss else 0
        ceiling = math.log(size) if size else math.inf
        training = _Training(run, net, batches, recipe, validation, chosen, run.work / name, together, ceiling)
        training.resume()
        with run.progress(title, recipe.steps) as bar:
            try:
                return training.go(bar)
            except VolantError:
                raise
            except Exception:
                if recipe.compiled and run.stopping:
                    run.interrupt()  # Ctrl-C reaches the C++ compiler as well
                raise


class _Training:
    """One training in progress: everything that a checkpoint holds, and the steps between two of them."""

    def __init__(
        self,
        run: Run,
        net: torch.nn.Module,
        batches: Batches,
        recipe: Recipe,
        validation: Sequence[Step],
        loss: Loss,
        folder: Path,
        together: Alone = ALONE,
        ceiling: float = math.inf,
    ) -> None:
        self.run, self.given, self.batches, self.recipe = run, net, batches, recipe
        self.team, (self.net, self.loss_of) = together, together.joined(net, loss)
        self.validation, self.folder = validation, folder
        self.bf16 = recipe.bf16 and bf16_pays(net, run.device)
        # Learning from rewards, how far it leads from the reference tells more than the value of the loss; where that
        # is looked at once in several steps, it counts at once.
        self.far: Callable[[], float | None] | None = getattr(loss, "far", None)
        self.far_guard = Guard(
            least=0.5, ceiling=0.0, patience=getattr(loss, "far_patience", 3),
            what="the divergence from the start in nats a token",
        )  # fmt: skip
        self.guard = Guard(least=1.0 if self.far or math.isfinite(ceiling) else None, ceiling=ceiling)
        self.optimiser = Optimisers(
            self.net,
            lr=recipe.lr,
            muon_lr=recipe.muon_lr,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
            bf16=self.bf16,
            together=together,
        )
        self.step, self.tokens, self.backs = 0, 0, Backs(run.step, recipe.steps)
        self.told = 0
        self.start: float | None = None  # the validation loss before the first step, where it counts
        self.losses: list[float] = []
        self.best, self.stale, self.reason = float("inf"), 0, ""
        self.lowest = float("inf")  # of the looks after the start
        self.best_weights: dict[str, torch.Tensor] = {}
        self.points: list[tuple[str, float, int]] = []
        self.norm = self.rate = 0.0
        self.unit = "tokens"

    # --- going back and carrying on -----------------------------------------------------------

    def resume(self) -> None:
        """Start from the checkpoint in the scratch directory, or make the first one."""
        found = state.latest(self.folder)
        fits = found is not None and found.facts.get("key") == self._key()
        # All have read before one of them writes.
        if not self.team.any(not fits):
            assert found is not None
            self._load(found)
            self.backs.load(found.facts)
            self.run.say(f"carrying on from the checkpoint at step {self.step} of {self.recipe.steps}")
            return
        if found is not None:
            self.run.say("a checkpoint of other settings was found and left aside")
        if self.team.rank == 0:
            state.clear(self.folder)
        # Dropout and the like draw from torch's own generator.
        torch.manual_seed(self.run.seed)
        if self.recipe.start_counts and self.validation:
            self._look()
            self.start = self.best if self.best_weights else None
            self.lowest, self.stale, self.reason = float("inf"), 0, ""  # a loss that rises first is given its time
        self.save()

    def save(self) -> None:
        """Make a checkpoint of this step, of whole tensors, by one process for all."""
        tensors = {f"net/{n}": p for n, p in trainable(self.net).items()}
        tensors |= {f"optimiser/{n}": t for n, t in self.optimiser.tensors().items()}
        tensors |= {f"random/{n}": t for n, t in state.random_state(self.run.device).items()}
        tensors |= {f"best/{n}": t for n, t in self.best_weights.items()}
        tensors |= {f"buffer/{n}": t for n, t in _buffers(self.net).items()}
        facts = {
            "key": self._key(),
            "tokens": self.tokens,
            **self.backs.facts(),
            "losses": self.losses,
            "start": self.start,
            "best": None if self.best == float("inf") else self.best,
            "lowest": None if self.lowest == float("inf") else self.lowest,
            "stale": self.stale,
            "reason": self.reason,
            "guard": self.guard.facts(),
            "far_guard": self.far_guard.facts(),
        }
        tensors = self.team.gathered(tensors)
        if self.team.rank == 0:
            state.save(self.folder, self.step, tensors, facts)
        self.team.sums(0.0)

    def _load(self, checkpoint: state.Checkpoint) -> None:
        with torch.no_grad():
            kept = checkpoint.part("net")
            for name, parameter in trainable(self.net).items():
                parameter.copy_(self.team.part(kept[name], parameter))
            buffers = checkpoint.part("buffer")
            for name, buffer in _buffers(self.net).items():
                buffer.copy_(buffers[name])
            learnt = _learnt(self.net)
            self.best_weights = {n: self.team.part(t, learnt[n]) for n, t in checkpoint.part("best").items()}
        self.optimiser.load(checkpoint.part("optimiser"))
        self.optimiser.zero()
        state.set_random_state(checkpoint.part("random"))
        facts = checkpoint.facts
        self.step, self.tokens, self.losses = checkpoint.step, int(facts["tokens"]), list(facts["losses"])
        self.start = facts["start"]
        self.best, self.lowest = (float("inf") if facts[n] is None else float(facts[n]) for n in ("best", "lowest"))
        self.stale, self.reason = int(facts["stale"]), str(facts["reason"])
        self.guard.load(facts["guard"])
        self.far_guard.load(facts["far_guard"])

    def _key(self) -> str:
        """What has to be the same for a checkpoint to be carried on from."""
        shapes = {n: list(p.shape) for n, p in trainable(self.net).items()}
        # Compiling is decided once for a run's checkpoints, and several processes do without.
        said = [
            _BATCHES,
            asdict(replace(self.recipe, compiled=False)),
            shapes,
            self.run.seed,
            self.batches.steps,
            len(self.validation),
        ]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def _go_back(self, why: str, guard: Guard) -> None:
        """To the last checkpoint: past the batches where they are to blame, else with a lower rate."""
        if not self.step:
            check_numbers(self.net, where=self.run.step, together=self.team)  # no rate mends broken weights
        rise, young, failed = guard.rise, self.guard.young, self.step
        steps = self.backs.last(failed, guard.high)
        found = state.latest(self.folder)
        if found is None:
            raise DataError(
                f"training went wrong at step {failed}: {why}, and no checkpoint reads back.", where=self.run.step
            )
        self._load(found)
        # Answers that are drawn to be learnt from are another model's at each step: there the rate is to blame.
        blamed = "" if self.far else odd(
            steps, self._tried, rise, self.guard.ceiling, self.backs.skipped, self.guard.least
        )  # fmt: skip
        self._load(found)
        self.run.say(self.backs.went(why, steps, blamed, young=young, to=found.step, learnt=bool(self.losses)))

    def _tried(self, step: int) -> tuple[float, float]:
        """Loss and gradient's norm of that step's batch with the weights as they are, which stay."""
        self.team.draw(self.run.seed, step)
        found = self._gradients(self.batches.batch(step)), self._norm()
        self.optimiser.zero()
        return found

    def _try_device(self) -> None:
        """Compute a gradient before the first step: what this device or its compiler cannot do is done without."""
        for _ in range(3):
            try:
                with aside(self.run.device):
                    self._tried(self.step)
                return
            except Exception as error:
                self.optimiser.zero()
                said = (str(error).strip() or type(error).__name__).splitlines()[0]
                if given_up(error):
                    self.run.say(f"on {self.run.device} this training does not come to the same bits each time: {said}")
                elif self.recipe.compiled and type(error).__module__.startswith("torch._"):
                    self.run.say(f"not compiled after all: {said}")
                    self.loss_of = token_loss
                    compiling.never(self.run)
                else:
                    raise

    # --- going on -----------------------------------------------------------------------------

    def go(self, bar: Bar) -> Outcome:
        """All steps that are left, then the best weights."""
        clock = watching.Clock(self.step, self.recipe.steps)
        bar.advance(self.step)
        self.net.train()
        if self.run.device != "cpu":
            self._try_device()
        while not self.reason and self.step < self.recipe.steps:
            if self.team.any(self.run.stopping):
                self._flush()
                if self.guard.calm and self.far_guard.calm:  # else the last checkpoint is the last good one
                    self.save()
                self.run.interrupt()
            before = self.step
            self._one_step()
            shown = {"loss": self.losses[-1]} if self.losses else {}
            bar.advance(self.step - before, **shown, **clock.fields(self))
            if self.step % 25 == 0:
                self.points += clock.points(self)
                self._flush()
        return self._finish()

    def _one_step(self) -> None:
        if self.step in self.backs.skipped:
            self.step += 1
        elif not self._learnt():
            return
        last = self.step == self.recipe.steps
        if self.validation and (last or (self.recipe.evaluate_every and self.step % self.recipe.evaluate_every == 0)):
            self._look()
        due = bool(self.recipe.checkpoint_every) and self.step % self.recipe.checkpoint_every == 0
        if last or self.reason or (due and self.guard.calm and self.far_guard.calm):
            self.save()

    def _learnt(self) -> bool:
        """Learn from the batch of this step; False where that went wrong and training went back."""
        batch = self.batches.batch(self.step)
        self.team.draw(self.run.seed, self.step)
        value, norm = self._gradients(batch), self._norm()
        was, usual = self.guard.high, self.guard.usual
        guard = self.guard
        why = guard.check(value, norm, known=self.step in self.backs.known)
        far = self.far() if self.far and not why else None
        if far is not None:
            guard = self.far_guard
            why = guard.check(far, norm)
        if why:
            self.optimiser.zero()
            self._go_back(why, guard)
            return False
        if was and self.guard.calm:
            self._tell_odd(was, usual)
        recipe = self.recipe
        factor = self.backs.rate * wsd(self.step, recipe.steps, warmup=recipe.warmup, decay=recipe.decay)
        self.optimiser.step(factor)
        self.optimiser.zero()
        after_step: Any = getattr(self.net, "after_step", None)
        if after_step is not None:
            after_step()
        self.step += 1
        self.tokens += batch.tokens
        self.unit = batch.unit
        self.losses = [*self.losses[-15:], value]
        self.norm, self.rate = norm, factor * (recipe.muon_lr or recipe.lr)
        rates = [("loss", value), ("gradient_norm", norm), ("rate", self.rate)]
        self.points += [(name, figure, self.step) for name, figure in rates]
        return True

    def _tell_odd(self, many: int, usual: float) -> None:
        """Say that the loss was high for a step or two and is back by itself."""
        self.told += 1
        if self.told <= _TOLD:
            more = "; further ones are not said" if self.told == _TOLD else ""
            figure = max(self.losses[-many:])
            at = self.step - many
            self.run.say(f"step {at}: the loss was {figure:.2f} where about {usual:.2f} is usual, and is back{more}")

    def _norm(self) -> float:
        """The gradient's norm, which is cut."""
        weights = [p for p in trainable(self.net).values() if p.grad is not None]
        return self.team.clip(weights, self.recipe.clip)

    def _gradients(self, batch: Step) -> float:
        """Leave the gradient of the batch's mean loss in the weights; returns that loss."""
        size = rows_at_once(batch.width, self.recipe.piece_tokens)
        count = max(1, batch.counted)

        def learnt() -> Iterator[tuple[torch.Tensor, float, int]]:
            parts = in_pieces(
                self.net, self.loss_of, batch, size, device=self.run.device, bf16=self.bf16, together=self.team
            )
            for part, factor, many in parts:
                # Processes' gradients are averaged; the sum is wanted.
                torch.autograd.backward(part * factor * self.team.size / count)
                yield part.detach(), factor, many

        # What the loss says it counted: of hidden tokens that is less than what the batch holds.
        total, counted = summed(learnt(), self.team)
        return total / max(1.0, counted)

    def _look(self) -> None:
        """Measure the validation loss, remember the best weights, and see whether it is time to stop."""
        value = evaluate(self.net, self.validation, loss=self.loss_of, bf16=self.bf16, together=self.team)
        self.points.append(("validation_loss", value, self.step))
        if value < self.best:
            self.best = value
            # With the buffers: where a running average is what the look judged, it is what has to be kept.
            self.best_weights = {n: t.detach().clone() for n, t in _learnt(self.net).items()}
        self.lowest, self.stale = min(value, self.lowest), 0 if value < self.lowest else self.stale + 1
        # At the last step nothing is left to stop.
        if self.recipe.patience and self.stale >= self.recipe.patience and self.step < self.recipe.steps:
            self.reason = f"the validation loss has not improved for {self.stale} looks (best {self.lowest:.3f})"

    def _finish(self) -> Outcome:
        self._flush()
        reason = self.reason or f"all {self.recipe.steps} steps are done"
        if self.backs.skipped:
            reason += f"; {len(self.backs.skipped)} of them were skipped, since their batches are broken"
        if self.start is not None and not self.best < self.start:
            reason += f"; no look was better than the start ({self.best:.3f}), whose weights are kept"
            self.run.say(f"WARNING: nothing was learnt, {_STAYED}")
        if self.best_weights:
            with torch.no_grad():
                for name, tensor in _learnt(self.net).items():
                    tensor.copy_(self.best_weights[name])
        self.team.given_back(self.net, self.given)
        self.given.eval()
        loss = sum(self.losses) / len(self.losses) if self.losses else float("nan")
        best = self.best if self.best_weights else None
        self.run.say(f"training ended at step {self.step}: {reason}")
        return Outcome(self.step, self.tokens, loss, best, reason, self.backs.times)

    def _flush(self) -> None:
        for name, value, at in self.points:
            self.run.metric(name, value, at)
        self.points.clear()


def _learnt(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What training changes: weights, and buffers that follow them."""
    return {**trainable(net), **_buffers(net)}


def _buffers(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What is part of the network's state and no parameter: running averages, spectral norms."""
    kept = net.state_dict()
    return {name: kept[name] for name, _ in net.named_buffers() if name in kept}
