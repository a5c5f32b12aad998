"""One training shared by several processes, each holding a part of the weights: FSDP2 of torch.

What enters: a run whose `processes` are more than one, started by `runners/torchrun.py`, and a network that each of
them has whole. What leaves: a copy whose blocks' weights, gradients and optimiser states lie in parts, the rows of a
batch that are this process's, and sums over all. The gradient is that of the whole batch, whatever the rows' lengths,
and checkpoints are whole, so that a run may be carried on by another number of processes. `ALONE` is the team of one,
for which all this is nothing.

Muon needs whole matrices: the parts of all matrices of one shape are gathered, each process makes orthogonal those that
fall to it, and what comes of them is gathered again. That sends each matrix twice and computes it once.

Shape legend: N matrices of one shape, R rows, r rows of this process, C columns, P processes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import MethodType
from typing import Any, TypeAlias

import torch

from volant.core.run import Run

_WAIT = timedelta(hours=1)  # for the slowest: the first of them may write a large checkpoint
_STACK_BYTES = 256 * 2**20  # of matrices that are whole at once
Stacked: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""A stack of whole matrices to one of what becomes of each."""


class Alone:
    """A team of one."""

    size, rank = 1, 0

    def joined(self, net: torch.nn.Module, loss: Any) -> tuple[Any, Any]:
        """The network as it is trained, and its loss."""
        return net, loss

    def given_back(self, shared: torch.nn.Module, net: torch.nn.Module) -> None:
        """Put what the shared network learnt into the one that was given."""

    def pieces(self, batch: Any, size: int) -> Iterator[tuple[Any, float]]:
        """The rows that this process reads, up to `size` at a time, each with the factor of its loss.

        All processes have equally many pieces; where there are too few rows for all, some read one that counts nothing.
        """
        for start in range(0, batch.size, size * self.size):
            rows = min(size * self.size, batch.size - start)
            each = -(-rows // self.size)
            first = start + self.rank * each
            last = min(first + each, start + rows)
            yield (batch.rows(first, last), 1.0) if first < last else (batch.rows(start, start + 1), 0.0)

    def draw(self, seed: int, step: int) -> None:
        """See that processes do not draw the same noise in a step, and draw it again where the step is made again."""

    def sums(self, *values: float) -> list[float]:
        """Each value summed over all processes, the same in each."""
        return list(values)

    def any(self, found: bool) -> bool:
        """Whether it is so in one of them at least."""
        return self.sums(float(found))[0] > 0

    def clip(self, weights: Sequence[torch.Tensor], most: float) -> float:
        """The norm of all gradients together, which are cut to `most`."""
        return float(torch.nn.utils.clip_grad_norm_(weights, most))

    def own(self, tensor: torch.Tensor) -> torch.Tensor:
        """This process's part, in the same memory."""
        return tensor

    def whole(self, tensor: torch.Tensor) -> torch.Tensor:
        """All of it; each process has to ask."""
        return tensor

    def gathered(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """All of each, for the first process; each has to ask."""
        return tensors

    def part(self, whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """A whole tensor in parts and on the device as `like` is."""
        return whole.to(like.device, copy=True)

    def on_whole(self, part_NrC: torch.Tensor, rows: int, do: Stacked) -> torch.Tensor:
        """This process's rows of what `do` makes of each whole matrix of a stack; `rows` of a whole one."""
        return do(part_NrC)


ALONE = Alone()


class Several(Alone):
    """Processes of one machine, talking over gloo (CPU) or NCCL (GPU).

    Args:
        device: `cpu` or `cuda`.
    """

    def __init__(self, device: str) -> None:
        import torch.distributed as dist

        self._dist, self._device = dist, device
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def joined(self, net: torch.nn.Module, loss: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
        """A copy of the network in parts, by block, and the loss of it; the one given waits in main memory."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        mesh = init_device_mesh(self._device, (self.size,))
        net.to("cpu")  # from where each block goes to the device by itself, in parts
        shared: Any = copy.deepcopy(net)
        for block in _blocks(shared):
            fully_shard(block, mesh=mesh)
        # Parts again after each pass, also where no backward pass follows: only parts are checkpointed and stepped.
        fully_shard(shared, mesh=mesh, reshard_after_forward=True)
        # Losses reach for layers inside the network; as one of its own methods they find the weights whole.
        shared.shared_loss = MethodType(loss, shared)
        register_fsdp_forward_method(shared, "shared_loss")
        return shared, lambda _, batch: shared.shared_loss(batch)

    def given_back(self, shared: torch.nn.Module, net: torch.nn.Module) -> None:
        """Gather the whole weights into the network that was given."""
        found = shared.state_dict()
        with torch.no_grad():
            for name, tensor in net.state_dict().items():
                tensor.copy_(self.whole(found[name]))
        net.to(self._device)

    def draw(self, seed: int, step: int) -> None:
        """The first process goes on as if it were alone, the others begin anew in each step."""
        if self.rank:
            torch.manual_seed(((seed * 1_000_003 + step) * 1024 + self.rank) % 2**63)

    def sums(self, *values: float) -> list[float]:
        """Each value summed over all processes."""
        held = torch.tensor(values, dtype=torch.float64, device=self._device)
        self._dist.all_reduce(held)
        found: list[float] = held.tolist()
        return found

    def clip(self, weights: Sequence[torch.Tensor], most: float) -> float:
        """The norm of all parts of all gradients, which are cut to `most`."""
        norm: Any = torch.nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None])
        norm = norm.full_tensor() if _parted(norm) else norm
        torch.nn.utils.clip_grads_with_norm_(weights, most, norm)
        return float(norm)

    def own(self, tensor: torch.Tensor) -> torch.Tensor:
        """This process's part, in the same memory."""
        return tensor.to_local() if _parted(tensor) else tensor  # type: ignore[attr-defined]

    def whole(self, tensor: torch.Tensor) -> torch.Tensor:
        """All of it, gathered."""
        return tensor.full_tensor() if _parted(tensor) else tensor  # type: ignore[attr-defined]

    def gathered(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One after the other into main memory; the others hold none of them whole for longer than that."""
        found = {}
        for name, tensor in tensors.items():
            whole = self.whole(tensor)
            if self.rank == 0:
                found[name] = whole.to("cpu")
        return found

    def part(self, whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """This process's part of what all of them have whole."""
        from torch.distributed.tensor import distribute_tensor

        if not _parted(like) or whole.shape != like.shape:
            return super().part(whole, like)
        there: Any = like
        return distribute_tensor(whole.to(self._device), there.device_mesh, there.placements, src_data_rank=None)

    def on_whole(self, part_NrC: torch.Tensor, rows: int, do: Stacked) -> torch.Tensor:
        """Gathered, each process's share of the matrices done, and gathered again."""
        step = max(1, _STACK_BYTES // (4 * rows * part_NrC.size(-1) * self.size)) * self.size
        return torch.cat([self._done(some, rows, do) for some in torch.split(part_NrC, step)])

    def _done(self, part_NrC: torch.Tensor, rows: int, do: Stacked) -> torch.Tensor:
        many, own, columns = part_NrC.shape
        most = -(-rows // self.size)  # of a process; the last have fewer or none
        held_NrC = part_NrC.new_zeros(many, most, columns)
        held_NrC[:, :own] = part_NrC
        whole_NRC = self._gathered(held_NrC).transpose(0, 1).reshape(many, -1, columns)[:, :rows]
        each = -(-many // self.size)
        mine_NRC = whole_NRC[self.rank * each : (self.rank + 1) * each]
        done_NRC = part_NrC.new_zeros(each, rows, columns)
        if len(mine_NRC):
            done_NRC[: len(mine_NRC)] = do(mine_NRC)
        all_NRC = self._gathered(done_NRC).reshape(-1, rows, columns)[:many]
        return all_NRC[:, self.rank * most : self.rank * most + own]

    def _gathered(self, part: torch.Tensor) -> torch.Tensor:
        """The tensors of all processes, stacked [P, ...]."""
        found = part.new_empty(self.size, *part.shape)
        self._dist.all_gather(list(found.unbind()), part.contiguous())
        return found


@contextmanager
def team(run: Run) -> Iterator[Alone]:
    """The processes that share the run's training, for its length."""
    if run.processes == 1:
        yield ALONE
        return
    import torch.distributed as dist

    dist.init_process_group("nccl" if run.device == "cuda" else "gloo", timeout=_WAIT)
    try:
        yield Several(run.device)
        dist.barrier()  # nobody leaves while another still gathers
    finally:
        dist.destroy_process_group()


def _blocks(net: Any) -> list[torch.nn.Module]:
    """The blocks of a transformer, which are alike and come one after the other: its longest list of modules."""
    lists = [m for m in net.modules() if isinstance(m, torch.nn.ModuleList)]
    return list(max(lists, key=len, default=[]))


def _parted(tensor: torch.Tensor) -> bool:
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)
