"""A transformer's blocks as machine code of their own, where the time that compiling takes comes back.

What enters: a network and a budget. What leaves: whether to compile, and for the length of a `with` the network with
its blocks compiled by torch's inductor, which fuses norms, rotary positions and gates. All blocks share one
compilation, whatever the depth. Whether it pays follows from the sizes and the threads and never from a clock: compiled
code rounds differently, so a busy machine must not change what a run comes to. What was decided is kept with the run's
checkpoints, and a run that carries on abides by it. Measuring (`evaluate`) stays uncompiled.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch

from volant.core.run import Run
from volant.nets import qwen3, transformer, watching

# Measured on one thread of AVX2 (docs/LOG.md, "the step, shorter"): what compiling takes, and what a step then saves
# for each token, layer and unit of width.
_COMPILE_SECONDS, _SAVED_SECONDS = 31.0, 4.5e-8
_MARGIN = 2.0
# Assumed for GPUs, not measured: so long to compile, and a fifth of the time saved at so many flop/s, which today's do
# not pass by much. A slower one has more to save.
_GPU_SECONDS, _GPU_SAVED, _GPU_FLOPS = 60.0, 0.2, 4e14


def pays(run: Run, net: Any, *, steps: int, step_tokens: int) -> bool:
    """Whether compiling gives back twice what it takes within the budget; says so, once for each run.

    Args:
        run: device and threads; hears the decision.
        net: about to be trained.
        steps, step_tokens: the budget.
    """
    if run.processes > 1:
        return False  # what gathers the weights of a block cannot be compiled with it
    if _kept(run).is_file():
        return _kept(run).read_text(encoding="utf-8") == "yes" and _can(run, net)
    answer = _worth(run, net, steps * step_tokens)
    run.work.mkdir(parents=True, exist_ok=True)
    _kept(run).write_text("yes" if answer else "no", encoding="utf-8")
    return answer


def never(run: Run) -> None:
    """Keep with the run's checkpoints that it does not compile."""
    _kept(run).write_text("no", encoding="utf-8")


def _kept(run: Run) -> Path:
    return run.work / "compiled"


def least_tokens(net: Any, *, threads: int, device: str = "cpu") -> int:
    """The budget from which on compiling pays, where it can be done at all."""
    if device == "cuda":
        return math.ceil(_MARGIN * _GPU_SECONDS * _GPU_FLOPS / (_GPU_SAVED * watching.flops_a_token(net)))
    each = _SAVED_SECONDS * int(net.config.num_hidden_layers) * int(net.config.hidden_size) / max(1, threads)
    return math.ceil(_MARGIN * _COMPILE_SECONDS / each)


def _can(run: Run, net: Any) -> bool:
    return run.device in ("cpu", "cuda") and qwen3.fits(net) and not net.is_activation_checkpointing


def _worth(run: Run, net: Any, tokens: int) -> bool:
    if not _can(run, net):
        return False
    least = least_tokens(net, threads=run.threads, device=run.device)
    if tokens < least:
        return False
    takes = _GPU_SECONDS if run.device == "cuda" else _COMPILE_SECONDS
    saved = _MARGIN * takes * tokens / least
    refused = _refused(run.device)
    if refused:
        run.say(f"not compiled, which would save about {saved:.0f} seconds: {refused}")
        return False
    run.say(f"compiled: takes about {takes:.0f} seconds the first time and saves about {saved:.0f}")
    return True


def _refused(device: str) -> str:
    """Why torch cannot compile here (no C++ compiler, no headers, nowhere to write); empty where it can."""
    try:
        with _quiet():
            torch.compile(lambda x: x.sin() + 1, dynamic=False)(torch.ones(8, device=device))
    except Exception as error:  # whatever it is, training goes on without
        return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """One process of inductor, and none of the warnings that it gives of itself."""
    import torch._inductor.config as inductor

    with inductor.patch(compile_threads=1), warnings.catch_warnings():
        # It looks at `.grad` of all that enters, and imports deprecated parts.
        warnings.filterwarnings("ignore", message=r"The \.grad attribute of a Tensor that is not a leaf")
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.")
        yield


def uncompiled() -> AbstractContextManager[Any]:
    """As long as it lasts compiled blocks run as they are written: measuring has batches of other shapes."""
    # Where nothing has loaded the compiler nothing is compiled, and loading it takes a second.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def compiled(net: Any) -> Iterator[Any]:
    """Gives `token_loss` with the network's blocks compiled, until the end."""
    assert qwen3.fits(net), "the compiled blocks are Qwen3's"
    with _quiet():
        block = torch.compile(qwen3.block, dynamic=False)
        try:
            yield partial(transformer.token_loss, of_hidden=partial(qwen3.hidden, of_block=block))
        finally:
            # Else the next training of this process adds to these compilations until their number is at its bound.
            torch._dynamo.reset()
