"""How to judge: scorers by name, the one measuring loop (`measure`), the one comparison (`compare`).

Outputs of a model and reference samples enter; values an example and scores with intervals leave. A
scorer serves as benchmark, filter, reward, monitor and gate alike. Pick by question:

| question                              | scorer                                       |
|---------------------------------------|----------------------------------------------|
| does it say what the reference says?  | `relevance`                                  |
| the same, strictly; or by words       | `exact_match`; `token_precision`, `token_recall`, `token_f1` |
| is it about the prompt, of one piece? | `coherence`                                  |
| is it well-formed language?           | `grammar` (lint rate)                        |
| does it read like the references?     | `perplexity`                                 |
| does it repeat itself over examples?  | `diversity`                                  |
| is it copied from the training data?  | `memorisation`                               |
| does it treat groups alike?           | `bias_gap`                                   |
| does it leak or harm?                 | `safety`                                     |
| is it Python; does it pass its tests? | `parses`, `compiles`; `passes_tests` (in a sandbox) |
| does it match a schema, keep a length? | `fits_schema`, `word_count`                 |

Of pictures (most need a `judge`, made by `pretrain.judge`; some the training samples):

| question                              | scorer                                       |
|---------------------------------------|----------------------------------------------|
| are they like real ones, as a set?    | `frechet_ratio`, `mmd`                       |
| is each one like a real one?          | `precision`, `density`                       |
| is every kind of real one there?      | `recall`, `coverage`, `image_diversity`      |
| are they copied from the training data? | `nearest_ratio`                            |
| do they show what was asked for?      | `class_accuracy`, `caption_accuracy`         |
| are they as sharp and as detailed?    | `sharpness`, `spectrum`                      |

Of rows:

| question                              | scorer                                       |
|---------------------------------------|----------------------------------------------|
| columns and pairs like the real ones? | `marginals`, `pair_correlations`             |
| useful; can they be told apart?       | `tstr`; `c2st`                               |
| is one near every real row?           | `row_coverage`                               |
| do they give people away?             | `closest_share`, `membership`                |
| do they keep the rules?               | `violations`                                 |
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence

from volant.core.artifact import Model
from volant.core.errors import SettingError, did_you_mean
from volant.core.method import Scorers
from volant.core.protocols import Scorer
from volant.core.sample import Sample

# Scorer name to the module of `volant.scorers` that holds a factory of that name.
NAMES = {
    "relevance": "relevance",
    "coherence": "coherence",
    "grammar": "grammar",
    "exact_match": "exact_match",
    "token_precision": "tokens",
    "token_recall": "tokens",
    "token_f1": "tokens",
    "perplexity": "perplexity",
    "diversity": "diversity",
    "memorisation": "memorisation",
    "bias_gap": "bias",
    "safety": "safety",
    "parses": "verifiable",
    "compiles": "verifiable",
    "passes_tests": "verifiable",
    "fits_schema": "verifiable",
    "word_count": "verifiable",
    "frechet_ratio": "fidelity",
    "mmd": "fidelity",
    "precision": "manifold",
    "recall": "manifold",
    "density": "manifold",
    "coverage": "manifold",
    "nearest_ratio": "nearest",
    "class_accuracy": "image_classes",
    "caption_accuracy": "image_classes",
    "sharpness": "image_signal",
    "spectrum": "image_signal",
    "image_diversity": "image_diversity",
    "marginals": "table_shape",
    "pair_correlations": "table_shape",
    "tstr": "table_use",
    "c2st": "table_use",
    "row_coverage": "table_spread",
    "closest_share": "table_privacy",
    "membership": "table_privacy",
    "violations": "table_rules",
}


def build(names: Scorers, given: Mapping[str, Model | Sequence[Sample] | None] = {}) -> dict[str, Scorer]:
    """Scorers by name, made with their settings.

    Args:
        names: a list of names, or names with settings (`{"grammar": {"vocabulary": [...]}}`).
        given: what scorers may ask for by parameter name: `judge` (a Model), `training` (the training samples).

    Raises:
        SettingError: an unknown scorer or setting (the message names the nearest one), or a value of another type.
    """
    chosen = names if isinstance(names, dict) else {name: {} for name in names}
    built: dict[str, Scorer] = {}
    for name, settings in chosen.items():
        factory = _factory(name)
        known = inspect.signature(factory).parameters
        for setting, value in (settings or {}).items():
            if setting not in known:
                fix = did_you_mean(setting, known)
                raise SettingError(f"scorer {name!r} has no setting {setting!r}.", where="scorers", fix=fix)
            if not _fits(value, str(known[setting].annotation)):
                what = f"{setting!r} of scorer {name!r} is of type {known[setting].annotation}, not {value!r}."
                raise SettingError(what, where="scorers")
        wanted = {key: value for key, value in given.items() if key in known and value is not None}
        built[name] = factory(**{**wanted, **(settings or {})})
    return built


def _fits(value: object, written: str) -> bool:
    """Whether a setting is of the plain type that its factory writes down; other types are the factory's own matter."""
    if written == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, {"bool": bool, "str": str}.get(written, object))


def _factory(name: str) -> Callable[..., Scorer]:
    """A built-in factory, or `module:function` of a plug-in."""
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            factory: Callable[..., Scorer] = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise SettingError(f"cannot import scorer {name!r}: {error}.", where="scorers") from error
        return factory
    if name not in NAMES:
        raise SettingError(f"there is no scorer {name!r}.", where="scorers", fix=did_you_mean(name, NAMES))
    found: Callable[..., Scorer] = getattr(importlib.import_module(f"volant.scorers.{NAMES[name]}"), name)
    return found
