"""Find out how far in-context examples get a model, without touching a weight.

Enters: a Model and a Dataset with prompts and answers. Leaves: a Prompt: instructions, a pool of worked examples from
the train split, and how many of them a request gets. Zero is an admissible result: several numbers are measured on
validation against none, in pairs, and one is taken only if it is better than chance explains.

What decides is how likely the right answers become (bits per byte): a small model's wording hides what examples
teach it, its probabilities do not. The project's own metric has a veto: what makes it worse for certain is not taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from volant.core import Dataset, Model, Prompt, Run, Sample
from volant.core.errors import DataError
from volant.core.protocols import Session

if TYPE_CHECKING:
    from volant.engines.prompting import PromptFile
    from volant.scorers.compare import Comparison

_LEVEL = 0.05
_ANSWER_TOKENS = 48
_REMOTE_CONTEXT = 8192  # tokens; every hosted model has at least that


def few_shot(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    examples: Annotated[int, Field(ge=0, le=64)] = 4,
    select: Literal["nearest", "fixed"] = "nearest",
    system: str = "",
    answers: Annotated[int, Field(ge=0, le=1000)] = 0,
    pool: Annotated[int, Field(ge=1, le=100_000)] = 256,
    limit: Annotated[int, Field(ge=1, le=10_000)] = 48,
    metric: str = "",
) -> Prompt:
    """Choose instructions and in-context examples by measuring.

    Args:
        run: seed, the goal's metric, where to write.
        model: the one to prompt; it is not changed.
        data: examples come from its train split, the measuring is done on its validation split.
        examples: the most examples that a request may get; half of it is tried as well, and none. 0 tries `system`
            alone. Each example makes every request longer and slower.
        select: `nearest` takes the examples most like the request; `fixed` the same ones for all, which is faster
            where the engine caches.
        system: instructions put before everything; measured like the examples. Empty for none.
        answers: tried as well: so many answers of the train split, alone and one a line, in the instructions, to show
            what good ones look like. Small models that learn nothing from worked examples still take up their style.
            They may take the whole context; a request beside them is then shortened like any long one.
        pool: how many train samples examples are chosen from; they are stored in the Prompt.
        limit: how many validation samples are measured, for each number tried.
        metric: what decides; empty takes bits per byte, or the goal's metric where the model tells no probabilities.

    Raises:
        DataError: the validation split has no prompts with answers.
    """
    from volant.engines import open_model
    from volant.scorers.measure import task_samples

    held = task_samples(data, "validation", limit)
    if not held:
        fix = "Add a collect.split step, or samples of shape `completion` or `messages`."
        raise DataError("the validation split has no prompts with answers to measure on.", where=run.step, fix=fix)
    base = _file(run, model, data, select, system, pool)
    session = open_model(model, threads=run.threads, device=run.device)
    try:
        decides = metric or _telling(run, session, held)
        listed = [_listing(base, answers, budget=base.budget_characters)] if answers and base.examples else []
        counts = sorted({examples // 2, examples} - {0})
        chosen, why = _best(run, session, base, held, counts, listed, decides)
        run.say(why)
        chosen.save(run.out)
        _check(run, session, model, chosen, data, limit)
    finally:
        session.close()
    return Prompt(run.out)


def _file(run: Run, model: Model, data: Dataset, select: Any, system: str, pool: int) -> PromptFile:
    """A random pool of train samples, and how many characters of prompt fit the model."""
    import numpy as np

    from volant.engines.prompting import Example, PromptFile
    from volant.scorers.measure import prompt_of, target_of, task_samples

    train = task_samples(data, "train", 1_000_000)
    picked = sorted(int(i) for i in np.random.default_rng(run.seed).permutation(len(train))[:pool])
    found = [Example(prompt=prompt_of(train[i]), completion=target_of(train[i]), sample=train[i].id) for i in picked]
    budget = _budget(model, found)
    fitting = [e for e in found if len(e.prompt) + len(e.completion) <= budget // 2]
    if len(fitting) < len(found):
        run.say(f"{len(found) - len(fitting)} of {len(found)} examples are too long for the context and are left out")
    return PromptFile(system=system, examples=fitting, k=0, select=select, budget_characters=budget, model=model.digest)


def _listing(base: PromptFile, count: int, *, budget: int) -> PromptFile:
    """Instructions that end in answers of the pool, as many as fit into `budget` characters, and no worked example."""
    lines: list[str] = []
    for example in base.examples[:count]:
        line = " ".join(example.completion.split())
        if sum(map(len, lines)) + len(line) > budget:
            break
        lines.append(line)
    return base.model_copy(update={"system": "\n".join([*filter(None, [base.system]), *lines]), "examples": [], "k": 0})


def _budget(model: Model, examples: list[Any]) -> int:
    """Characters of prompt that fit beside an answer: the context in tokens times the text's own density.

    The density is a cautious one (nine of ten examples have more characters a token), the chat template's own tokens
    are counted with each example, and a tenth of the context is kept back.
    """
    from volant.modalities import open_modality

    if model.about.family == "remote":
        return 3 * (_REMOTE_CONTEXT - _ANSWER_TOKENS)
    codec: Any = open_modality(model.about.modality).open_codec(model.path)
    turns = [({"role": "user", "content": e.prompt}, {"role": "assistant", "content": e.completion}) for e in examples]
    sizes = [(sum(len(t["content"]) for t in pair), len(codec.encode_prompt(pair))) for pair in turns[:64]]
    density = sorted(characters / max(1, tokens) for characters, tokens in sizes)
    context = int(model.about.space.get("length") or codec.space.length)
    return int(0.9 * (context - _ANSWER_TOKENS) * density[len(density) // 10]) if density else 0


def _telling(run: Run, session: Session, held: list[Sample]) -> str:
    """Bits per byte where the session tells probabilities, else the goal's metric."""
    from volant.scorers.measure import bits_per_byte

    try:
        bits_per_byte(session, held[:1])
    except NotImplementedError:
        return run.goal.metric
    return "bits_per_byte"


def _best(
    run: Run, session: Session, base: PromptFile, held: list[Sample], counts: list[int], listed: list[PromptFile],
    metric: str,
) -> tuple[PromptFile, str]:  # fmt: skip
    """The best of the candidates if it beats the bare model, else the bare model; and why."""
    bare = base.model_copy(update={"system": ""})
    tried = [base.model_copy(update={"k": k}) for k in ([0] if base.system else []) + counts if k == 0 or base.examples]
    tried += listed
    before, direction = _values(session, bare, held, metric, run)
    results = [(file, _compared(run, session, file, held, before, direction, metric)) for file in tried]
    table = [{"k": 0, "system": False, metric: round(_mean(before), 6)}]
    table += [
        {"k": f.k, "system": bool(f.system), metric: round(c.after, 6), "p_better": round(c.p_better, 6)}
        for f, c in results
    ]
    # Taking the best of several is several chances to be lucky: the level is shared among them.
    level = _LEVEL / max(1, len(results))
    best = max(results, key=lambda r: r[1].gain, default=None)
    veto = None
    if best is not None and best[1].gain > 0 and best[1].p_better < level and metric != run.goal.metric:
        own, way = _values(session, bare, held, run.goal.metric, run)
        veto = _compared(run, session, best[0], held, own, way, run.goal.metric)
    if best is not None and best[1].gain > 0 and best[1].p_better < level and (not veto or veto.verdict != "worse"):
        file, told = best[0], best[1]
        change = f"{metric} from {told.before:.3f} to {told.after:.3f} (p = {told.p_better:.2g})"
        what = f"{file.k} examples change" if file.k else "the instructions change"
        why = f"{what} {change}" + (f"; {veto}" if veto else "")
        if veto:  # the goal's own metric is compared in the end, with everything else that holds
            run.score(told.change)
    elif veto is not None:
        file = bare.model_copy(update={"examples": []})
        why = f"no examples: they help {metric}, and cost what counts: {veto}"
    else:
        file = bare.model_copy(update={"examples": []})
        seen = "; ".join(f"{f.k} examples {c.after:.3f} (p = {c.p_better:.2g})" for f, c in results)
        better = f"no better with them ({seen})" if seen else "none could be tried"
        why = f"no examples: {metric} is {_mean(before):.3f} without any and {better}"
    measured = {"metric": metric, "samples": len(held), "tried": table, "level": round(level, 6), "why": why}
    return file.model_copy(update={"measured": measured}), why


def _compared(
    run: Run, session: Session, file: PromptFile, held: list[Sample], before: list[float], direction: Any, metric: str
) -> Comparison:
    from volant.scorers.compare import paired

    after, _ = _values(session, file, held, metric, run)
    return paired(metric, before, after, direction=direction, seed=run.seed)


def _values(session: Session, file: PromptFile, held: list[Sample], metric: str, run: Run) -> tuple[list[float], Any]:
    """The metric of each validation sample under a prompt, and which way is better."""
    from volant.engines.prompting import Library, prompted
    from volant.scorers import build
    from volant.scorers.measure import answers, bits_per_byte

    asked = prompted(session, Library.of(file))
    if metric == "bits_per_byte":
        return bits_per_byte(asked, held), "lower"
    scorer = build([metric])[metric]
    outputs = answers(asked, held, max_tokens=_ANSWER_TOKENS, run=run)
    return list(scorer.values(outputs, held)), scorer.direction


def _check(run: Run, session: Session, model: Model, file: PromptFile, data: Dataset, limit: int) -> None:
    """The project's task metric with the prompt against without."""
    from volant.engines.prompting import Library, prompted
    from volant.scorers.measure import check_task

    check_task(run, prompted(session, Library.of(file)), data, before=model, before_session=session, limit=limit)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
