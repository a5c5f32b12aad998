"""Labels from many weak votes: rules, functions, a model and people, weighed by how they agree.

Enters: a Dataset and voters. Leaves: the same records; each that anybody voted on carries the label that the votes
come to, how sure that is (`attrs.sure`), and who said what (`attrs.votes`). Nobody's accuracy has to be known: it is
estimated from agreement (`scorers/voting.py`; Dawid and Skene 1979, Ratner et al. 2016). Where a person has decided,
that is the label, and the voters are measured by it too.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from volant.core import Dataset, Files, Model, Run

_AT_ONCE = 1000  # records


def label(
    run: Run,
    data: Dataset,
    *,
    name: str = "label",
    classes: list[str] | None = None,
    rules: Files = "",
    functions: Files = "",
    people: Files = "",
    labeller: Model | None = None,
    ask: str = "",
    sure: Annotated[float, Field(ge=0, lt=1)] = 0.5,
) -> Dataset:
    """Give every record the label that its votes come to.

    Args:
        data: every split of it is labelled; a label of that name that a record has already counts as a vote.
        name: of the label.
        classes: what a record may be; nothing takes all that anybody says. A vote for anything else is an error.
        rules: YAML files of rules: words, a regular expression, a scorer's bound or a column's, and a class each.
        functions: Python files; each function in them takes a sample and returns a class, or None to abstain. They
            are run as they are, so name your own only.
        people: files of labels by people, as `volant label` writes them (`labels.jsonl`).
        labeller: a model that votes too: one that follows instructions, or a judge of pictures.
        ask: the question to it, with `{text}` and `{classes}`; empty takes a plain one.
        sure: probability (0 to 1) that the label needs; below it a record stays without one, its votes kept.

    Returns:
        A Dataset of the same splits, with `label.json`: coverage, conflicts and accuracy of each voter.

    Raises:
        DataError: nobody votes on anything, a file cannot be read, or a vote is for no known class.
        SettingError: there is no voter.
    """
    from volant.stages.collect._poll import Poll
    from volant.store.dataset import batched, dropped, rows, writer

    poll = Poll(run, name, classes or [], labeller, ask)
    try:
        with run.progress("voting", sum(data.about["splits"].values()), "records") as bar:
            for part in batched(rows(data), _AT_ONCE):
                run.check_stop()
                poll.ask(part)
                bar.advance(len(part))
    finally:
        poll.close()
    result = poll.count(sure)
    with writer(run.out, modality=run.modality) as out:
        for number, sample in enumerate(rows(data)):
            out.write(result.labelled(sample, number))
        out.write_all(dropped(data))
    result.report()
    return Dataset(run.out)
