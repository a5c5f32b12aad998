"""One Gaussian a class: the crudest model of images that is none of noise, and a baseline that is hard to despise.

What enters: a grid and examples with their conditions. What leaves: for each condition the mean and the principal
directions of its examples. The covariance is shrunk towards a round one by as much as the number of examples calls
for (Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices"); kept as
directions and a rest, it costs memory in proportion to the values and not to their square.

Shape legend: B rows, R training rows, D values of a grid, K groups (conditions), E directions of a group.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volant.core.errors import ArtifactError, DataError, SettingError
from volant.core.sample import Sample
from volant.core.spaces import Example, Grid, Space, space_from, space_json
from volant.nets.draws import F64, seeds_of, uniforms
from volant.nets.session import DrawSession, codec_of

_GROUPS = 256  # conditions with a Gaussian of their own; the rarer ones share one
_FLOOR = 2 / 255 / 12**0.5  # what eight bits a value leave open, as a standard deviation
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Group:
    """The examples of one condition.

    Attributes:
        condition: its ids; empty for those that have none or one that is too rare.
        share: of all examples.
        mean_D: their mean.
        directions_ED: orthonormal, those of the largest variance.
        spread_E: the standard deviation along each.
        rest: the standard deviation along every other direction.
    """

    condition: tuple[int, ...]
    share: float
    mean_D: F32
    directions_ED: F32
    spread_E: F32
    rest: float

    def of(self, normal_BD: F64) -> F64:
        """Standard normal numbers turned into examples of this group."""
        along_BE = normal_BD @ self.directions_ED.T
        found: F64 = self.mean_D + self.rest * normal_BD + (along_BE * (self.spread_E - self.rest)) @ self.directions_ED
        return found

    def logp(self, values_BD: F64) -> F64:
        """Log-density in nats [B]."""
        off_BD = values_BD - self.mean_D
        along_BE = off_BD @ self.directions_ED.T
        spread_E = self.spread_E.astype(np.float64)
        left_B = np.maximum(0.0, (off_BD**2).sum(1) - (along_BE**2).sum(1)) / self.rest**2
        others = values_BD.shape[1] - len(spread_E)
        scale = np.log(spread_E).sum() + others * np.log(self.rest) + values_BD.shape[1] / 2 * np.log(2 * np.pi)
        found: F64 = -0.5 * (left_B + ((along_BE / spread_E) ** 2).sum(1)) - scale
        return found


@dataclass
class Gaussians:
    """What is fitted: groups, the most frequent first; none until `estimate`."""

    space: Grid
    directions: int
    groups: list[Group] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        """Numbers that were fitted."""
        return sum(g.mean_D.size + g.directions_ED.size + g.spread_E.size + 1 for g in self.groups)

    def state_dict(self) -> dict[str, Any]:
        """The fitted arrays as tensors, by name."""
        import torch

        return {name: torch.from_numpy(a) for name, a in _arrays(self).items()} if self.groups else {}


class Gaussian:
    """The family of Gaussians by class."""

    name = "gaussian"
    version = 1
    accepts = ("grid",)
    controls: Mapping[str, tuple[float, float]] = {}

    def build(self, space: Space, *, seed: int = 0, directions: int = 512) -> Gaussians:
        """An estimator that nothing was fitted to yet.

        Args:
            space: a grid.
            seed: has no bearing; nothing here is random.
            directions: the most principal directions of a class; memory grows with them.

        Raises:
            ArtifactError: another space.
            SettingError: fewer than one direction.
        """
        if not isinstance(space, Grid):
            raise ArtifactError(f"a Gaussian takes a grid, not {space.type}.", fix="Choose another family.")
        if directions < 1:
            raise SettingError(f"directions {directions} is too few.", where="gaussian", fix="Take 1 or more.")
        return Gaussians(space, int(directions))

    def estimate(self, net: Gaussians, examples: Sequence[Example], *, seed: int = 0) -> Gaussians:
        """Fit a Gaussian to the examples of each condition, in place.

        Args:
            net: from `build`.
            examples: values [channels, *dims] with their conditions. A condition that occurs once shares a
                Gaussian with all others of that kind.
            seed: has no bearing.

        Returns:
            The same net.

        Raises:
            DataError: there is no example.
        """
        if not examples:
            raise DataError("there is no example to fit Gaussians to (n=0).", fix="Add samples to the train split.")
        counts = Counter(e.condition for e in examples).most_common(_GROUPS)
        own = {condition for condition, count in counts if count > 1}
        rows: dict[tuple[int, ...], list[Any]] = {}
        for example in examples:
            key = example.condition if example.condition in own else ()
            rows.setdefault(key, []).append(np.asarray(example.values, dtype=np.float64).ravel())
        ordered = sorted(rows.items(), key=lambda item: (-len(item[1]), item[0]))
        net.groups = [
            _group(key, np.stack(values), len(values) / len(examples), net.directions) for key, values in ordered
        ]
        return net

    def sample(self, net: Gaussians, prompts: Sequence[Sequence[int]], *, seed: int, **controls: Any) -> F32:
        """One example for each prompt, values cut to [-1, 1].

        Args:
            net: fitted.
            prompts: condition ids; for one that is empty a group is drawn as often as it occurred.
            seed: of all draws.
            **controls: `seeds`, one a prompt.

        Returns:
            float32 [B, channels, *dims].

        Raises:
            DataError: no training example had a condition like it.
        """
        from scipy.special import ndtri

        _check_fitted(net)
        values = _width(net.space)
        draws = uniforms(seeds_of(seed, len(prompts), controls.get("seeds")), 1 + values)
        normal_BD = ndtri(np.clip(draws[:, 1:], 2.0**-54, None))
        until = np.cumsum([g.share for g in net.groups])
        drawn_B = np.minimum(np.searchsorted(until, draws[:, 0], side="right"), len(net.groups) - 1)
        group_B = np.array([_find(net, p) if p else int(d) for p, d in zip(prompts, drawn_B, strict=True)], dtype=int)
        found = np.empty((len(prompts), values), dtype=np.float32)
        for k in np.unique(group_B):
            found[group_B == k] = np.clip(net.groups[k].of(normal_BD[group_B == k]), -1, 1)
        return found.reshape(-1, net.space.channels, *net.space.dims)

    def loss(self, net: Gaussians, batch: Any) -> Any:
        """The mean of `-logp`."""
        return -self.logp(net, batch).mean()

    def logp(self, net: Gaussians, batch: Any) -> Any:
        """Log-density of each example given its condition, in nats [B]; the mixture's for one without.

        Args:
            net: fitted.
            batch: an `ArrayBatch`.
        """
        import torch

        _check_fitted(net)
        values_BD = np.asarray(batch.values, dtype=np.float64).reshape(batch.size, -1)
        all_BK = np.stack([g.logp(values_BD) for g in net.groups], axis=1)
        weighted_BK = all_BK + np.log([g.share for g in net.groups])
        top_B = weighted_BK.max(1)
        mixed_B = top_B + np.log(np.exp(weighted_BK - top_B[:, None]).sum(1))
        said = [tuple(int(i) for i in row if i >= 0) for row in batch.condition_BC]
        found = [all_BK[row, _find(net, ids)] if ids else mixed_B[row] for row, ids in enumerate(said)]
        return torch.tensor(np.array(found), dtype=torch.float64)

    def export(self) -> tuple[str, ...]:
        """It is converted to nothing."""
        return ()

    def save(self, net: Gaussians, folder: Path) -> None:
        """Write `model.safetensors` and `config.json`."""
        from safetensors.numpy import save_file

        _check_fitted(net)
        folder.mkdir(parents=True, exist_ok=True)
        body = {"space": space_json(net.space), "directions": net.directions}
        (folder / "config.json").write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        save_file(_arrays(net), folder / "model.safetensors")

    def load(self, folder: Path) -> Gaussians:
        """Read them back.

        Raises:
            ArtifactError: files are missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            body = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            space = space_from(body["space"])
            assert isinstance(space, Grid)
            net = Gaussians(space, int(body["directions"]))
            net.groups = _groups(load_file(folder / "model.safetensors"), _width(space))
        except (OSError, ValueError, KeyError, TypeError, AssertionError, SafetensorError) as error:
            what = f"the Gaussians cannot be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            raise ArtifactError(what, where=str(folder), fix="Run `volant verify`, or make the model again.") from error
        return net


def fit(samples: Iterable[Sample], *, directions: int = 512, seed: int = 0) -> DrawSession:
    """The baseline: Gaussians fitted to images, open for requests.

    Args:
        samples: of the training split, shape `media`.
        directions: see `Gaussian.build`.
        seed: has no bearing.

    Raises:
        DataError: there is no sample, or it is of another shape.
    """
    kept = list(samples)
    codec = codec_of(kept, {"media": "grid"})
    net = family.build(codec.space, seed=seed, directions=directions)
    family.estimate(net, [codec.encode(s) for s in kept], seed=seed)
    return DrawSession(family, net, codec)


def shrinkage(centred_RD: F64) -> float:
    """How much of a round covariance to mix in, from 0 to 1 (Ledoit and Wolf 2004, section 3.3).

    Their squared Frobenius norms come from the rows' inner products, so that no D x D matrix is made.

    Args:
        centred_RD: examples less their mean.
    """
    rows, values = centred_RD.shape
    inner_RR = centred_RD @ centred_RD.T
    norms_R = np.diag(inner_RR)
    squared = float((inner_RR**2).sum()) / rows**2  # of the sample covariance
    mean = float(norms_R.sum()) / rows / values
    distance = squared - values * mean**2
    noise = (float((norms_R**2).sum()) / rows - squared) / rows
    return min(1.0, max(0.0, noise / distance)) if distance > 0 else 1.0


def _group(condition: tuple[int, ...], values_RD: F64, share: float, most: int) -> Group:
    """The Gaussian of one group's values."""
    mean_D = values_RD.mean(axis=0)
    centred_RD = values_RD - mean_D
    rows, values = centred_RD.shape
    mixed = shrinkage(centred_RD)
    variance_E, directions_ED = _principal(centred_RD, min(most, rows - 1, values))
    total = float((centred_RD**2).sum()) / rows
    # What the kept directions leave of the variance is spread over the others.
    others = values - len(variance_E)
    left = max(0.0, total - float(variance_E.sum())) / others if others else 0.0
    round_ = mixed * total / values
    spread_E = np.sqrt(np.maximum((1 - mixed) * variance_E + round_, _FLOOR**2))
    rest = max((1 - mixed) * left + round_, _FLOOR**2) ** 0.5
    mean, directions, spread = (a.astype(np.float32) for a in (mean_D, directions_ED, spread_E))
    return Group(condition, share, mean, directions, spread, float(rest))


def _principal(centred_RD: F64, count: int) -> tuple[F64, F64]:
    """The largest variances [E] and their directions [E, D], signs fixed, from the smaller of the two products."""
    rows, values = centred_RD.shape
    if count < 1:
        return np.empty(0), np.empty((0, values))
    if values <= rows:
        squares, columns = np.linalg.eigh(centred_RD.T @ centred_RD / rows)
        variance_E, directions_ED = squares[::-1][:count], columns.T[::-1][:count]
    else:
        squares, columns = np.linalg.eigh(centred_RD @ centred_RD.T / rows)
        variance_E = squares[::-1][:count]
        directions_ED = columns.T[::-1][:count] @ centred_RD
    kept = variance_E > 1e-12 * max(1e-12, float(variance_E[0]))
    variance_E, directions_ED = variance_E[kept], directions_ED[kept]
    directions_ED = directions_ED / np.linalg.norm(directions_ED, axis=1, keepdims=True)
    largest = np.take_along_axis(directions_ED, np.abs(directions_ED).argmax(1)[:, None], axis=1)
    return variance_E, directions_ED * np.sign(largest)


def _find(net: Gaussians, prompt: Sequence[int]) -> int:
    """The group of a condition; of a caption without one of its own, that which shares most of its ids."""
    wanted = tuple(int(i) for i in prompt)
    for k, group in enumerate(net.groups):
        if group.condition == wanted:
            return k
    common = [len(set(wanted) & set(group.condition)) for group in net.groups]
    if max(common):
        return common.index(max(common))
    for k, group in enumerate(net.groups):
        if not group.condition:
            return k
    what = f"no training example had a condition like {', '.join(str(i) for i in wanted)}."
    raise DataError(what, where="gaussian", fix="Ask for one that the data has.")


def _check_fitted(net: Gaussians) -> None:
    if not net.groups:
        raise ArtifactError("no Gaussian was fitted to anything.", fix="Call `estimate` with examples first.")


def _width(space: Grid) -> int:
    return space.channels * int(np.prod(space.dims))


def _arrays(net: Gaussians) -> dict[str, npt.NDArray[Any]]:
    """The groups end to end."""
    longest = max(len(g.condition) for g in net.groups)
    conditions = np.full((len(net.groups), longest), -1, dtype=np.int64)
    for row, group in enumerate(net.groups):
        conditions[row, : len(group.condition)] = group.condition
    return {
        "conditions": conditions,
        "share": np.array([g.share for g in net.groups]),
        "mean": np.stack([g.mean_D for g in net.groups]),
        "directions": np.concatenate([g.directions_ED for g in net.groups]),
        "spread": np.concatenate([g.spread_E for g in net.groups]),
        "lengths": np.array([len(g.spread_E) for g in net.groups], dtype=np.int64),
        "rest": np.array([g.rest for g in net.groups]),
    }


def _groups(arrays: Mapping[str, Any], values: int) -> list[Group]:
    """The way back from `_arrays`; raises ValueError for arrays that do not belong together."""
    lengths = arrays["lengths"]
    count = len(lengths)
    same = all(len(arrays[name]) == count for name in ("conditions", "share", "mean", "rest"))
    total = int(lengths.sum())
    if not same or not count or bool((lengths < 0).any()) or len(arrays["spread"]) != total:
        raise ValueError("the groups' arrays differ in length")
    if arrays["mean"].shape != (count, values) or arrays["directions"].shape != (total, values):
        raise ValueError(f"the arrays are not those of {values} values")
    cuts = np.cumsum(lengths)[:-1]
    directions, spread = np.split(arrays["directions"], cuts), np.split(arrays["spread"], cuts)
    return [
        Group(
            tuple(int(i) for i in arrays["conditions"][k] if i >= 0),
            float(arrays["share"][k]),
            arrays["mean"][k],
            directions[k],
            spread[k],
            float(arrays["rest"][k]),
        )
        for k in range(count)
    ]


family = Gaussian()
