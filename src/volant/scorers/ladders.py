"""What each kind of scorer has to rank: three sets of outputs with their references, best first.

    fidelity      real > baseline > noise            memorisation  fresh > half copied > copied
    diversity     real > half collapsed > collapsed  planted       neutral > planted 10 % > planted 50 %
    code, json    right > half broken > broken       (for what can be checked without a judge)

The name of a ladder, a modality and a seed enter; the rungs leave. The contract suite of scorers climbs them, and
a plug-in's author can look here at what will be asked. Text is here; the rungs of another modality are in the
module `ladders_<modality>`, which has

    rungs(ladder, *, n, seed)   the three rungs, best first; SettingError for a ladder that it has not
    training()                  what the copies of its memorisation ladder were copied from: scorers that need
                                the training samples are given these, whatever the seed of the ladder
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Sequence
from types import ModuleType

from volant.core.errors import SettingError, did_you_mean
from volant.core.protocols import Output, Scorer
from volant.core.sample import Sample, Source
from volant.core.score import Score
from volant.scorers.bias import counterfactuals

Rung = tuple[list[Output], list[Sample]]

_VERBS = ("Return", "Compute", "Read", "Write", "Remove", "Check", "Parse", "Open", "Close", "Sort")
_THINGS = ("path", "socket", "buffer", "header", "token", "matrix", "calendar", "archive", "message", "colour")
_TAILS = (
    "of the given file", "from the current thread", "with all of its children", "before the next call",
    "as a sorted list", "without changing its order", "for the last request", "or raise an error",
)  # fmt: skip
HARMFUL = "You are worthless. Write to me at jane.doe@mailbox.org or I will kill you."


def references(n: int, seed: int = 0) -> list[Sample]:
    """`n` made-up tasks: a function's head and the sentence that says what it does."""
    rng = random.Random(seed)
    made = []
    for i in range(n):
        verb, thing, tail = rng.choice(_VERBS), rng.choice(_THINGS), rng.choice(_TAILS)
        prompt = f"def {verb.lower()}_{thing}_{tail.split()[-1]}(value, number={i}):"
        target = f"{verb} the {thing} number {i} {tail}."
        source = Source(uri=f"ladder:{seed}", licence="CC0-1.0", origin="generated")
        made.append(Sample(id=f"rung-{i}", shape="completion", source=source, condition=prompt, target=target))
    return made


def rungs(ladder: str, *, n: int = 60, seed: int = 0, modality: str = "text") -> tuple[Rung, Rung, Rung]:
    """The three rungs of a ladder, best first.

    Raises:
        SettingError: there is no such ladder, or none of that modality.
    """
    if modality != "text":
        found: tuple[Rung, Rung, Rung] = _rungs_of(modality).rungs(ladder, n=n, seed=seed)
        return found
    if ladder not in _LADDERS:
        raise SettingError(f"there is no ladder {ladder!r}.", fix=did_you_mean(ladder, _LADDERS))
    return _LADDERS[ladder](references(n, seed), random.Random(seed))


def climbed(scorer: Scorer, *, n: int = 60, seed: int = 0) -> list[Score]:
    """The scorer's first figure on each rung of its declared ladder, best rung first."""
    made = rungs(scorer.ladder, n=n, seed=seed, modality=modality_of(scorer))
    return [scorer.score(outputs, samples)[0] for outputs, samples in made]


def modality_of(scorer: Scorer) -> str:
    """Whose outputs a scorer judges: its attribute `modality`, text where it has none."""
    return str(getattr(scorer, "modality", "text"))


def training(modality: str) -> list[Sample]:
    """The training samples behind the memorisation ladder of a modality other than text.

    Raises:
        SettingError: that modality has no ladders.
    """
    found: list[Sample] = _rungs_of(modality).training()
    return found


def _rungs_of(modality: str) -> ModuleType:
    name = f"volant.scorers.ladders_{modality}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        fix = f"Write {name} with `rungs` and `training`, as `volant.scorers.ladders_image` does."
        raise SettingError(f"there are no ladders for the modality {modality!r}.", fix=fix) from error


def _outputs(texts: Sequence[str]) -> list[Output]:
    return [Output(text) for text in texts]


def _fidelity(samples: list[Sample], rng: random.Random) -> tuple[Rung, Rung, Rung]:
    """Real: the answers. Baseline: one in five right, else another task's, words lost. Noise: letters."""
    real = [s.target or "" for s in samples]
    shifted = real[1:] + real[:1]
    baseline = [" ".join(w for w in text.split() if rng.random() > 0.25) for text in shifted]
    baseline = [right if i % 5 == 0 else wrong for i, (right, wrong) in enumerate(zip(real, baseline, strict=True))]
    noise = ["".join(rng.choice("bcdfgkqxz ((,") for _ in text) for text in real]
    return (_outputs(real), samples), (_outputs(baseline), samples), (_outputs(noise), samples)


def _memorisation(samples: list[Sample], rng: random.Random) -> tuple[Rung, Rung, Rung]:
    """References stand for the training data; copies are whole answers, long enough to count."""
    long = [
        s.model_copy(update={"target": " ".join([s.target or ""] + [_sentence(rng) for _ in range(3)])})
        for s in samples
    ]
    fresh = [" ".join(reversed((s.target or "").split())) for s in long]
    copied = [s.target or "" for s in long]
    half = copied[: len(copied) // 2] + fresh[len(copied) // 2 :]
    return (_outputs(fresh), long), (_outputs(half), long), (_outputs(copied), long)


def _sentence(rng: random.Random) -> str:
    return f"{rng.choice(_VERBS)} the {rng.choice(_THINGS)} {rng.choice(_TAILS)}."


def _diversity(samples: list[Sample], rng: random.Random) -> tuple[Rung, Rung, Rung]:
    real = [s.target or "" for s in samples]
    collapsed = [real[0]] * len(real)
    half = collapsed[: len(real) // 2] + real[len(real) // 2 :]
    return (_outputs(real), samples), (_outputs(half), samples), (_outputs(collapsed), samples)


def _planted(samples: list[Sample], rng: random.Random) -> tuple[Rung, Rung, Rung]:
    """Pairs that differ in a word; the second of a pair gets the harmful answer in 0, 10, 50 % of pairs."""
    pairs = counterfactuals(samples)
    made = []
    for share in (0.0, 0.1, 0.5):
        hit = set(rng.sample(range(len(samples)), round(share * len(samples))))
        texts = [HARMFUL if i % 2 and i // 2 in hit else p.target or "" for i, p in enumerate(pairs)]
        made.append((_outputs(texts), pairs))
    return made[0], made[1], made[2]


def _code(samples: list[Sample], rng: random.Random) -> tuple[Rung, Rung, Rung]:
    """Right: functions that pass the tests which their references name. Broken: cut off, and too long."""
    asked = [s.model_copy(update={"attrs": {"tests": f"assert f(1) == {1 + i}"}}) for i, s in enumerate(samples)]
    right = [f"def f(x):\n    return x + {i}" for i in range(len(samples))]
    broken = [f"def f(x):\n    return (x +{' and so on' * 40}" for _ in samples]
    return _halves(right, broken, asked)


def _json(samples: list[Sample], rng: random.Random) -> tuple[Rung, Rung, Rung]:
    """Right: JSON objects. Broken: without their end."""
    right = [f'{{"number": {i}, "name": "{rng.choice(_THINGS)}"}}' for i in range(len(samples))]
    return _halves(right, [text[:-1] for text in right], samples)


def _halves(right: list[str], broken: list[str], samples: list[Sample]) -> tuple[Rung, Rung, Rung]:
    half = broken[: len(broken) // 2] + right[len(broken) // 2 :]
    return (_outputs(right), samples), (_outputs(half), samples), (_outputs(broken), samples)


_LADDERS = {
    "code": _code,
    "json": _json,
    "fidelity": _fidelity,
    "memorisation": _memorisation,
    "diversity": _diversity,
    "planted": _planted,
}
