"""Flow matching over grids: content is noise that was carried along a straight line.

What enters: grids with conditions (a class, or the words of a caption). What leaves: a network of diffusers that
tells, for a grid on the line `x = (1 - sigma) content + sigma noise`, the velocity `noise - content`; Euler steps
from sigma 1 to 0 make content of noise. Sigma is drawn evenly, both ends as often as the middle. Conditions are left
out now and then, so that guidance can compare with and without.
Sources: rectified flow (Liu et al. 2022), classifier-free guidance (Ho and Salimans 2022).

Shape legend: B rows, C condition ids; x is [B, channels, height, width].
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from volant.core.errors import ArtifactError, SettingError
from volant.core.spaces import Grid, Space, space_from, space_json
from volant.nets.arrays import NONE, ArrayBatch, conditions
from volant.nets.carry import Lone, Told, states
from volant.nets.diffusers_files import save_module
from volant.nets.exported import Answer, Part, condition_input
from volant.nets.velocity import KINDS, Velocity, dit, noise, stratified, unet

_OURS, _EXTRA = "flow.json", "flow.safetensors"
_FOLDER = {"unet": "unet", "dit": "transformer"}
_CLASS = {"unet": "UNet2DModel", "dit": "DiTTransformer2DModel"}
_BATCH = 256
DROP = 0.1  # share of the conditions that training leaves out


class Flow:
    """The family of flow-matching networks."""

    name = "flow"
    version = 1
    accepts = ("grid",)
    controls = {"guidance": (0.0, 20.0), "steps": (1.0, 1000.0), "order": (1.0, 2.0), "temperature": (0.0, 2.0)}
    default_steps, default_batch = 2200, 32

    def build(
        self, space: Space, *, seed: int, kind: str = "unet", width: int = 0, depth: int = 0, average: float = 0.98
    ) -> Velocity:
        """A fresh network.

        Args:
            space: a grid of two dimensions.
            seed: same seed, same weights.
            kind: `unet` (best on few examples and small sides) or `dit` (a transformer over patches).
            width: channels of the first level, or of the tokens; 0 takes what suits the kind and the sides.
            depth: blocks a level (unet) or layers (dit); 0 takes what suits the kind.
            average: how much of the running average of the weights a step keeps, at most; 0 for no average.
        """
        if not isinstance(space, Grid) or len(space.dims) != 2:
            raise ArtifactError(f"a flow takes grids of two dimensions, not {space}", fix="Choose another family.")
        if kind not in KINDS:
            raise SettingError(f"no network is called {kind!r}.", where="kind", fix=f"Take {' or '.join(KINDS)}.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if kind == "unet":
                core = unet(space, width=width or _width(space), depth=depth or 1)
            else:
                core = dit(space, width=width or 128, depth=depth or 4)
            return Velocity(core, space, average=average)

    def recipe(self, space: Space, *, steps: int, batch: int) -> dict[str, Any]:
        """Fields of a `Recipe` that suit a flow; the rate falls with the root of the width."""
        return {
            "steps": steps,
            "lr": 3e-3 * (32 / _width(space)) ** 0.5,
            "betas": (0.9, 0.99),
            "warmup": max(1, min(100, steps // 10)),
            "decay": max(1, steps // 2),
            "weight_decay": 0.01,
        }

    def step_loss(self, net: Velocity, batch: ArrayBatch) -> tuple[torch.Tensor, int]:
        """(sum over the examples of the mean squared error of the velocity, examples).

        Noise, sigmas and which conditions are left out come from torch's own generator of the CPU.
        """
        each_B = self._errors(net, batch)
        if batch.weights_B is not None:
            each_B = each_B * batch.weights_B
        return each_B.sum(), batch.size

    def surprise(self, net: Velocity, batch: ArrayBatch) -> torch.Tensor:
        """How far off each example is told: squared errors of the velocity summed over its values, at one sigma [B].

        In the mean over sigmas it stands for the negative log-likelihood in nats, as in Wallace et al. 2023. Noise
        and sigmas come from torch's own generator: with the same state they are the same.
        """
        return self._errors(net, batch) * batch.values[0].numel()

    def _errors(self, net: Velocity, batch: ArrayBatch) -> torch.Tensor:
        """The mean squared error of each example's velocity [B]."""
        x, size = batch.values, batch.size
        drawn, sigma_B = torch.randn(x.shape).to(x), stratified(size).to(x)
        told_BC = batch.condition_BC
        if net.training:
            net.notice(told_BC)
            told_BC = told_BC.masked_fill((torch.rand(size) < DROP).to(x.device)[:, None], NONE)
        share = sigma_B[:, None, None, None]
        velocity: torch.Tensor = net.current()(torch.lerp(x, drawn, share), sigma_B, told_BC)
        return (velocity.float() - (drawn - x)).square().flatten(1).mean(1)

    def loss(self, net: Velocity, batch: ArrayBatch) -> torch.Tensor:
        """The mean loss of a batch, with the same noise at each call."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            total, count = self.step_loss(net, batch)
        return total / count

    @torch.no_grad()
    def sample(
        self,
        net: Velocity | Told,
        prompts: Sequence[Sequence[int]],
        *,
        seed: int,
        seeds: Sequence[int] | None = None,
        guidance: float = 1.0,
        steps: float = 12,
        order: float = 2,
        temperature: float = 1.0,
    ) -> npt.NDArray[np.float32]:
        """Grids, float32 [n, channels, height, width]; those of pixels can leave [-1, 1] a little.

        Args:
            net: from `build` or `load`; the average of its weights is used where there is one.
            prompts: condition ids of each; empty for none.
            seed: of all draws, unless `seeds` gives each example its own.
            seeds: one a prompt.
            guidance: 1 follows the condition as learnt, with one call of the network a step; more follows it
                harder at the cost of variety and of a second call, 0 leaves it out.
            steps: from noise to content; more are truer and slower.
            order: 1 for Euler steps, with one call of the network each; 2 to correct each by a second call (Heun),
                which is truer at the same number of calls.
            temperature: scale of the noise at the start; below 1 is tamer.
        """
        own = list(seeds) if seeds is not None else [seed * 1_000_003 + row for row in range(len(prompts))]
        told = {"guidance": guidance, "steps": steps, "order": order, "temperature": temperature}
        parts = []
        for s in range(0, len(prompts), _BATCH):
            *_, content = self.states(net, prompts[s : s + _BATCH], seeds=own[s : s + _BATCH], **told)
            parts.append(content.float().cpu().numpy())
        if not parts:
            return np.zeros((0, net.space.channels, *net.space.dims), np.float32)
        return np.concatenate(parts)

    @torch.no_grad()
    def states(
        self,
        net: Velocity | Told,
        prompts: Sequence[Sequence[int]],
        *,
        seeds: Sequence[int],
        guidance: float = 1.0,
        steps: float = 20,
        order: float = 1,
        temperature: float = 1.0,
    ) -> list[torch.Tensor]:
        """All states of one batch on the way from noise to content; arguments as `sample`'s, one seed a prompt.

        Returns:
            `steps` + 1 grids [n, channels, height, width] on the network's device; the last one is content.
        """
        was, device = net.training, net.device
        net.eval()
        try:
            drawn = noise(net.space, seeds).to(device) * temperature
            return list(
                states(net.current(), drawn, conditions(prompts).to(device),
                       guidance=guidance, steps=int(steps), order=int(order))
            )  # fmt: skip
        finally:
            net.train(was)

    def logp(self, net: Velocity, batch: Any) -> None:
        """It has none: the density of a flow needs the trace of its derivative, which no stage asks for."""

    def export(self) -> tuple[str, ...]:
        """The formats that `compress` can turn it into."""
        return ("onnx",)

    def onnx_part(self, net: Velocity) -> Part:
        """What another runtime runs: one call of the network, without guidance; see `nets/exported.py`."""
        core = copy.deepcopy(net).cpu()
        core.settle()
        space, length = net.space, max(1, net.space.condition_length)
        inputs = {"x": noise(space, (0, 1)), "sigma": torch.tensor((1.0, 0.5))}
        if space.conditions:
            inputs["condition"] = torch.zeros(2, length, dtype=torch.int64)
        return Part(Lone(core), inputs, {"space": space_json(space), "length": length})

    def from_onnx(self, answer: Answer, facts: dict[str, Any]) -> Told:
        """What `sample` takes in the network's place; `answer` runs the file."""
        space, length = space_from(facts["space"]), int(facts["length"])
        assert isinstance(space, Grid)

        def tell(x: torch.Tensor, sigma_B: torch.Tensor, condition_BC: torch.Tensor) -> torch.Tensor:
            inputs = {"x": x, "sigma": sigma_B}
            if space.conditions:
                inputs["condition"] = condition_input(condition_BC, length)
            return answer(inputs)

        return Told(space, tell)

    @torch.no_grad()
    def adopt(self, net: Velocity, ids: Sequence[int]) -> None:
        """Start new conditions from the mean of those that were trained on.

        Args:
            net: in place.
            ids: spare condition ids of the space, which training is going to meet; those that it met stay.

        Raises:
            SettingError: the space has no such id.
        """
        wrong = [i for i in ids if not 0 <= i < net.space.conditions]
        if wrong:
            what = f"there is no condition {wrong[0]}; the network has {net.space.conditions}."
            raise SettingError(what, fix="Train a model on all classes anew.")
        known = net.seen.clone()
        ids = [i for i in ids if not bool(known[i])]  # the id of a new word can be an old one's too
        if not ids or not bool(known.any()):
            return
        net.settle()
        for table in net.tables():
            table[list(ids)] = table[: net.space.conditions][known].mean(0)

    def save(self, net: Velocity, folder: Path) -> None:
        """Write the averaged network in diffusers' format, and beside it what diffusers does not know.

        Training goes on from the average: a network that is loaded again has it as its weights.
        """
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        weights = {n: t.cpu().contiguous() for n, t in net.averages().items()}
        core = copy.deepcopy(net.core).cpu()
        core.load_state_dict({n.removeprefix("core."): t for n, t in weights.items() if n.startswith("core.")}, False)
        save_module(core, folder / _FOLDER[net.kind])
        _save_pipeline(net, folder)
        ours = {"kind": net.kind, "average": net.average, "space": space_json(net.space)}
        _write(folder / _OURS, ours)
        extra = {n: t for n, t in weights.items() if not n.startswith("core.")}
        save_file({**extra, "seen": net.seen.cpu()}, folder / _EXTRA)

    def load(self, folder: Path) -> Velocity:
        """Read a network back, from safetensors only.

        Raises:
            ArtifactError: files are missing or damaged.
        """
        import diffusers
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            ours = json.loads((folder / _OURS).read_text(encoding="utf-8"))
            kind, space = str(ours["kind"]), space_from(ours["space"])
            core = getattr(diffusers, _CLASS[kind]).from_pretrained(
                folder / _FOLDER[kind], use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
            )
            assert isinstance(space, Grid)
            net = Velocity(core.train(), space, average=float(ours["average"]))
            extra = load_file(folder / _EXTRA)
            net.seen.copy_(extra["seen"])
            if net.words is not None:
                net.words.load_state_dict({"weight": extra["words.weight"]})
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            first = str(error).strip().split("\n")[0]
            raise ArtifactError(
                f"the flow cannot be opened: {first}", where=str(folder), fix="Run `volant verify`."
            ) from error
        return net


def _width(space: Any) -> int:
    """Channels that suit the sides: on digits of 8x8, 32 was ahead of 48 and 64 within 120 CPU seconds."""
    return 32 if max(space.dims) <= 8 else 64


def _save_pipeline(net: Velocity, folder: Path) -> None:
    """Write `scheduler/` and `model_index.json`, so that `DiffusionPipeline.from_pretrained` opens the folder.

    Pipelines of diffusers that take classes ask their scheduler to scale what goes in, which the plain flow
    scheduler cannot; first-order DPM-Solver with flow sigmas takes the same Euler steps and can. No pipeline takes a
    DiT over pixels, so that one has no index; `LatentCodec.save` writes it where there is an autoencoder.
    """
    import diffusers

    known: Any = diffusers  # it has no types
    scheduler = known.FlowMatchEulerDiscreteScheduler()
    pipeline = "DDPMPipeline"
    if (net.space.conditions and net.words is None) or net.kind == "dit":
        told = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
        scheduler = known.DPMSolverMultistepScheduler(solver_order=1, **told)
        pipeline = "ConsistencyModelPipeline"
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": pipeline,
        "_diffusers_version": diffusers.__version__,
        "unet": ["diffusers", _CLASS["unet"]],
        "scheduler": ["diffusers", type(scheduler).__name__],
    }
    if net.kind == "unet":
        _write(folder / "model_index.json", index)


def _write(file: Path, body: dict[str, Any]) -> None:
    file.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", encoding="utf-8")


family = Flow()
