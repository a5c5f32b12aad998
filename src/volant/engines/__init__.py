"""How to run a trained model: torch, CTranslate2, a remote OpenAI-compatible server.

What enters: a Model artifact. What leaves: a `Session` that generates, streams, cancels and tells
log-probabilities. An engine is one module with an instance named `engine`; a model's `volant.json`
names the one that runs it by default.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil

from volant.core.artifact import Model, Prompt
from volant.core.errors import ArtifactError, did_you_mean
from volant.core.protocols import Engine, Session


def open_engine(name: str) -> Engine:
    """The engine of that name: a module of `volant.engines`, or an entry point of group `volant.engines`.

    Raises:
        ArtifactError: there is none; the message names the nearest one.
    """
    own = {m.name for m in pkgutil.iter_modules(__path__)} - {"prompting", "decoding"}
    if name in own:
        found: Engine = importlib.import_module(f"volant.engines.{name}").engine
        return found
    points = {p.name: p for p in importlib.metadata.entry_points(group="volant.engines")}
    if name in points:
        outside: Engine = points[name].load()
        return outside
    if name in ("reward", "none"):  # as `align.reward` and `pretrain.judge` have it
        raise ArtifactError(
            "a reward model, or another one that judges, gives no answers.", fix="Name the model that it judges."
        )
    raise ArtifactError(f"there is no engine {name!r}.", fix=did_you_mean(name, [*own, *points]))


def open_model(
    model: Model, *, prompt: Prompt | None = None, threads: int = 1, device: str = "cpu", engine: str = ""
) -> Session:
    """Open a model with the engine that its `volant.json` names.

    Args:
        model: to run.
        prompt: instructions and examples that go before every request.
        threads: for the arithmetic; a library's setting is for the whole process.
        device: `cpu`, `cuda` or `mps`.
        engine: another engine than the model's own, by name.

    Raises:
        ArtifactError: the model is damaged, or the engine cannot run it.
    """
    session = open_engine(engine or model.about.engine).open(model, threads=threads, device=device)
    if prompt is None:
        return session
    from volant.engines.prompting import prompted

    return prompted(session, prompt)
