"""A transformer's blocks as machine code of their own, where the time that compiling takes comes back.

What enters: a network and a budget. What leaves: whether to compile, and for the length of a `with` the network with
its blocks compiled by torch's inductor, which fuses norms, rotary positions, gates and the loss. All blocks share one
compilation, whatever the depth. Whether it pays follows from the sizes alone and never from a clock: compiled code
rounds differently, so a busy machine must not change what a run comes to. Measuring (`evaluate`) stays uncompiled.
"""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch

from volant.core.run import Run
from volant.nets import transformer

# Measured on one thread of AVX2 (docs/LOG.md, "the step, shorter"): what compiling takes, and what a step then saves
# for each token, layer and unit of width.
_COMPILE_SECONDS, _SAVED_SECONDS = 31.0, 4.5e-8
_MARGIN = 2.0


def pays(run: Run, net: Any, *, steps: int, step_tokens: int) -> bool:
    """Whether compiling gives back twice what it takes within the budget; says so where it does.

    Args:
        run: device and threads; hears the decision.
        net: about to be trained.
        steps, step_tokens: the budget.
    """
    config = net.config
    if run.device != "cpu" or not hasattr(getattr(net, "model", None), "layers"):
        return False
    work = steps * step_tokens * int(config.num_hidden_layers) * int(config.hidden_size)
    saved = _SAVED_SECONDS * work / max(1, run.threads)
    if saved < _MARGIN * _COMPILE_SECONDS:
        return False
    if not _compiler():
        run.say(f"not compiled: there is no C++ compiler (g++ or clang++), which would save about {saved:.0f} seconds")
        return False
    run.say(f"compiled: takes about {_COMPILE_SECONDS:.0f} seconds the first time and saves about {saved:.0f}")
    return True


def _compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))


def uncompiled() -> AbstractContextManager[Any]:
    """As long as it lasts compiled blocks run as they are written: measuring has batches of other shapes."""
    # Where nothing has loaded the compiler nothing is compiled, and loading it takes a second.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def compiled(net: Any) -> Iterator[Any]:
    """The network's blocks compiled until the end; gives `token_loss` with its head compiled."""
    import torch._inductor.config as inductor

    blocks = list(net.model.layers)
    with inductor.patch(compile_threads=1), warnings.catch_warnings():
        # What the compiler does within itself: it looks at `.grad` of all that enters, and imports deprecated parts.
        warnings.filterwarnings("ignore", message=r"The \.grad attribute of a Tensor that is not a leaf")
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.")
        for block in blocks:
            block.compile(dynamic=False)
        try:
            yield partial(transformer.token_loss, of_head=torch.compile(transformer.head_loss, dynamic=False))
        finally:
            for block in blocks:
                block._compiled_call_impl = None
