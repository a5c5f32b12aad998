"""The judge: a small convolutional classifier whose features image scorers measure in.

What enters: labelled image samples. What leaves: a Model of family `conv` (`config.json`, `model.safetensors`), and
from it a `Judge` that tells features and classes of samples. It is trained here, on the train split alone, since
a network with weights from elsewhere judges its own kind of photograph; figures hold under one judge only, so its
digest belongs beside each of them.

Shape legend: B examples, C channels, S side, F features, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from volant.core.artifact import Model
from volant.core.errors import ArtifactError, DataError, SettingError
from volant.core.run import Run
from volant.core.sample import Sample
from volant.core.spaces import Example, Grid, Space
from volant.nets.arrays import ArrayBatch, Arrays
from volant.nets.loop import Outcome, train
from volant.nets.memory_content import check_memory
from volant.nets.pictures import grids, moved, pictures
from volant.nets.recipe import Recipe

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_LARGEST = 32  # a judge looks at pictures of this side at most
_SMOOTHING = 0.05  # keeps features finite where classes are told apart without fault
_BATCH = 512


class Block(nn.Module):
    """Two 3x3 convolutions with group norm; halves the side where told to.

    Args:
        enter: channels that come in.
        leave: channels that go out; a multiple of 8.
        halve: whether the second one goes in steps of two.
    """

    def __init__(self, enter: int, leave: int, *, halve: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(enter, leave, 3, padding=1)
        self.second = nn.Conv2d(leave, leave, 3, stride=2 if halve else 1, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(8, leave) for _ in range(2))

    def forward(self, x_BCSS: torch.Tensor) -> torch.Tensor:
        """Activations [B, leave, S or S/2, S or S/2]."""
        x_BCSS = F.silu(self.norms[0](self.first(x_BCSS)))
        out: torch.Tensor = F.silu(self.norms[1](self.second(x_BCSS)))
        return out


class JudgeNet(nn.Module):
    """A classifier with a narrow layer of features before its head.

    Args:
        channels: 1 or 3.
        side: of the square pictures, in pixels.
        classes: names, in the order of the outputs.
        width: channels of the first block; each halving of the side doubles them, up to four times.
        features: how wide the layer is that distances are measured in.
    """

    def __init__(self, channels: int, side: int, classes: Sequence[str], *, width: int = 32, features: int = 32):
        super().__init__()
        self.config = {
            "channels": channels, "side": side, "classes": list(classes), "width": width, "features": features
        }  # fmt: skip
        self.classes = tuple(classes)
        blocks, enter, leave = list[nn.Module](), channels, width
        while True:
            blocks.append(Block(enter, leave, halve=True))
            enter, side = leave, -(-side // 2)
            if side <= 2:
                break
            leave = min(2 * leave, 4 * width)
        self.blocks = nn.Sequential(*blocks)
        self.narrow = nn.Linear(enter * side * side, features)
        self.head = nn.Linear(features, len(self.classes))

    def features(self, x_BCSS: torch.Tensor) -> torch.Tensor:
        """Features [B, F] of pictures in [-1, 1]."""
        told: torch.Tensor = self.narrow(self.blocks(x_BCSS).flatten(1))
        return told

    def forward(self, x_BCSS: torch.Tensor) -> torch.Tensor:
        """Logits [B, K]."""
        logits: torch.Tensor = self.head(F.silu(self.features(x_BCSS)))
        return logits


class Conv:
    """The family of judges. It learns classes and makes nothing, so it has no controls and cannot sample."""

    name = "conv"
    version = 1
    accepts = ("grid",)
    controls: dict[str, tuple[float, float]] = {}
    default_steps, default_batch = 800, 64

    def build(
        self, space: Space, *, seed: int, classes: Sequence[str] = (), width: int = 32, features: int = 32
    ) -> JudgeNet:
        """A fresh judge.

        Args:
            space: a square grid of one or three channels, with at least two conditions.
            seed: same seed, same weights.
            classes: names of the conditions; numbers by default.
            width: channels of the first block, a multiple of 8.
            features: width of the layer that distances are measured in.
        """
        if not isinstance(space, Grid) or len(space.dims) != 2 or space.dims[0] != space.dims[1]:
            raise ArtifactError(f"a judge takes square grids, not {space}", fix="Bring the pictures to one side.")
        names = tuple(classes) or tuple(str(i) for i in range(space.conditions))
        if len(names) < 2:
            raise DataError("a judge needs at least two classes to tell apart", fix="Give the samples conditions.")
        if width % 8 or width < 8:
            raise SettingError(f"a width of {width} does not fit.", where="width", fix="Take a multiple of 8.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return JudgeNet(space.channels, space.dims[0], names, width=width, features=features)

    def recipe(self, space: Space, *, steps: int, batch: int) -> dict[str, Any]:
        """Fields of a `Recipe` that suit a judge."""
        return {"steps": steps, "lr": 3e-3, "warmup": max(1, steps // 20), "decay": steps // 2, "weight_decay": 0.05}

    def step_loss(self, net: JudgeNet, batch: ArrayBatch) -> tuple[torch.Tensor, int]:
        """(sum of the cross-entropies in nats, examples); in training pictures are moved by up to an eighth."""
        x = moved(batch.values, batch.values.size(-1) // 8) if net.training else batch.values
        each_B = F.cross_entropy(net(x), batch.condition_BC[:, 0], label_smoothing=_SMOOTHING, reduction="none")
        if batch.weights_B is not None:
            each_B = each_B * batch.weights_B
        return each_B.sum(), batch.size

    def loss(self, net: JudgeNet, batch: ArrayBatch) -> torch.Tensor:
        """The mean cross-entropy in nats of the pictures as they are."""
        was = net.training
        try:
            total, count = self.step_loss(net.eval(), batch)
        finally:
            net.train(was)
        return total / count

    def sample(self, net: JudgeNet, prompts: Sequence[Sequence[int]], *, seed: int, **controls: Any) -> Any:
        """It has none.

        Raises:
            SettingError: always.
        """
        raise SettingError("a judge tells classes and makes no pictures.", where="conv", fix="Choose another family.")

    def logp(self, net: JudgeNet, batch: Any) -> None:
        """It has none of the examples themselves."""

    def export(self) -> tuple[str, ...]:
        """Nothing: scorers use it as it is."""
        return ()

    def save(self, net: JudgeNet, folder: Path) -> None:
        """Write `config.json` and `model.safetensors`."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        (folder / _CONFIG).write_text(json.dumps(net.config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        save_file({n: t.detach().cpu().contiguous() for n, t in net.state_dict().items()}, folder / _WEIGHTS)

    def load(self, folder: Path) -> JudgeNet:
        """Read a judge back, bit-exactly.

        Raises:
            ArtifactError: files are missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
            net = JudgeNet(**config)
            net.load_state_dict(load_file(folder / _WEIGHTS))
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            first = str(error).strip().split("\n")[0]
            raise ArtifactError(
                f"the judge cannot be opened: {first}", where=str(folder), fix="Run `volant verify`."
            ) from error
        return net


family = Conv()


@dataclass(frozen=True)
class Judge:
    """An open judge.

    Attributes:
        net: in evaluation mode.
        digest: of the Model it came from; figures under different digests do not compare.
    """

    net: JudgeNet
    digest: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of `probabilities`."""
        return self.net.classes

    def features(self, samples: Sequence[Sample]) -> npt.NDArray[np.float32]:
        """Features, float32 [n, F]."""
        return self.features_of(self._grids(samples))

    def features_of(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The same of arrays [n, C, S, S] in [-1, 1], of the judge's own side."""
        return _in_batches(self.net.features, values)

    def probabilities(self, samples: Sequence[Sample]) -> npt.NDArray[np.float32]:
        """Chances of the classes, float32 [n, K]; rows sum to 1."""
        return self.probabilities_of(self._grids(samples))

    def probabilities_of(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The same of arrays [n, C, S, S] in [-1, 1]."""
        return _in_batches(lambda x: self.net(x).softmax(-1), values)

    def classify(self, samples: Sequence[Sample]) -> list[str]:
        """The likeliest class of each sample."""
        return [self.classes[i] for i in self.probabilities(samples).argmax(1)]

    def _grids(self, samples: Sequence[Sample]) -> npt.NDArray[np.float32]:
        config: Any = self.net.config
        return grids(samples, side=config["side"], channels=config["channels"])


def open_judge(model: Model) -> Judge:
    """The judge that a Model of family `conv` holds.

    Raises:
        ArtifactError: it is of another family, or damaged.
    """
    if model.about.family != family.name:
        what = f"a judge is of family {family.name}, not {model.about.family}"
        raise ArtifactError(what, where=str(model.path), fix="Name a step that uses `pretrain.judge`.")
    return Judge(family.load(model.path).eval(), model.digest)


def fit_judge(
    run: Run,
    samples: Sequence[Sample],
    *,
    steps: int = 800,
    rows: int = 64,
    side: int = 0,
    width: int = 32,
    features: int = 32,
) -> tuple[JudgeNet, Outcome]:
    """Train a judge on labelled pictures; the label is a sample's `condition`.

    Args:
        run: gives seed, device and scratch directory.
        samples: of the train split; those without a condition are left aside.
        steps: of training.
        rows: pictures in a step.
        side: pixels of the pictures that it looks at; 0 takes the largest side there is, up to 32.
        width: channels of the first block.
        features: width of the layer that distances are measured in.

    Returns:
        The judge, and how its training ended.

    Raises:
        DataError: fewer than two classes, or hardly two samples of a class: captions are no classes.
        MachineError: there is too little memory for a step.
    """
    labelled = [s for s in samples if s.condition]
    classes = sorted({str(s.condition) for s in labelled})
    if len(classes) < 2 or len(labelled) < 2 * len(classes):
        what = f"{len(labelled)} labelled samples of {len(classes)} classes are too few for a judge"
        raise DataError(what, where=run.step, fix="Give each picture one of a few classes as its condition.")
    sizes = [picture.shape for picture in pictures(labelled)]
    side = side or min(_LARGEST, max(max(h, w) for h, w, _ in sizes))
    channels = 1 if all(c == 1 for _, _, c in sizes) else 3
    values = grids(labelled, side=side, channels=channels)
    place = {name: i for i, name in enumerate(classes)}
    examples = [Example(v, (place[str(s.condition)],)) for v, s in zip(values, labelled, strict=True)]
    return fit_examples(run, examples, classes, steps=steps, rows=rows, width=width, features=features)


def fit_examples(
    run: Run,
    examples: Sequence[Example],
    classes: Sequence[str],
    *,
    steps: int = 800,
    rows: int = 64,
    width: int = 32,
    features: int = 32,
) -> tuple[JudgeNet, Outcome]:
    """The same for encoded examples [C, S, S] whose condition is one class id; arguments as `fit_judge`'s."""
    channels, side, _ = np.shape(examples[0].values)
    space = Grid(channels, (side, side), conditions=len(classes))
    net = family.build(space, seed=run.seed, classes=classes, width=width, features=features).to(run.device)
    batches = Arrays(examples, rows=rows, seed=run.seed)
    recipe = Recipe(**family.recipe(space, steps=steps, batch=rows), checkpoint_every=max(50, steps // 4), bf16=False)
    check_memory(run, net, family.step_loss, batches.batch(0), recipe)
    outcome = train(run, net, batches, recipe, loss=family.step_loss, name="judge", title="judge")
    return net.cpu().eval(), outcome


def _in_batches(told: Any, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    parts = []
    with torch.inference_mode():
        for start in range(0, len(values), _BATCH):
            parts.append(told(torch.from_numpy(np.asarray(values[start : start + _BATCH], np.float32))).numpy())
    if not parts:
        raise DataError("there is no sample to judge", fix="Give at least one.")
    return np.concatenate(parts)
