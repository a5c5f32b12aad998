"""Generated content reaches its audience: into a folder of the project, as files and as a static page.

Enters: a Dataset from `generate`. Leaves: the Dataset with a receipt on every sample, and the published
files as part of it (`site/`), so that what was shown can be shown again. The copy into the folder comes
last and delivers each sample once. What a person has not approved, or a filter refused, stays behind
with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from volant.core import Dataset, Files, Run, Sample
from volant.core.errors import DataError, SettingError, did_you_mean
from volant.core.protocols import Channel, Receipt
from volant.core.sample import Label
from volant.stages.deliver.approval import FILE, Approval, decisions
from volant.stages.deliver.channels import CHANNELS


def publish(
    run: Run,
    data: Dataset,
    *,
    folder: str = "published",
    title: str = "",
    form: str = "",
    channels: list[Literal["file", "whole", "page"]] | None = None,
    approvals: Files = "",
) -> Dataset:
    """Publish samples to a folder and a static page, once each.

    Args:
        run: brings the resolver, which keeps the folder inside of the project.
        data: what `deliver.generate` made.
        folder: where it goes, relative to the project; what lies there from before stays.
        title: of the page; empty: the goal's problem.
        form: of the files: markdown, html or json for text, png or webp for images, csv or parquet for rows; the
            modality's first by default.
        channels: `file` (one file a sample), `whole` (one file with all of them) and `page` (one page with all of
            them). By default file and page; for rows, which nobody reads one by one, whole and page.
        approvals: JSON lines of a person's decisions (`{"id", "approved", "by"}`), for samples that wait for one.

    Raises:
        DataError: nothing may be published; the message counts why.
        PathError: the folder lies outside of the project.
    """
    from volant.modalities import open_modality
    from volant.store.dataset import dropped, rows, writer

    modality = open_modality(run.modality)
    first: list[Literal["file", "whole", "page"]] = ["whole" if "row" in data.about["shapes"] else "file", "page"]
    chosen = list(dict.fromkeys(channels or first))
    form = form or next(iter(modality.forms()))
    if form not in modality.forms():
        what = f"{modality.name} has no form {form!r}."
        raise SettingError(what, where=run.step, fix=did_you_mean(form, modality.forms()))
    target = run.resolver.resolve(folder)
    if target == run.resolver.root:
        raise SettingError("`folder` is the project itself.", where=run.step, fix="Name a folder in it.")
    name = title or run.goal.problem or "Generated content"
    word = decisions(run.outside["approvals"].files) if "approvals" in run.outside else {}
    samples = [_decided(sample, word) for sample in rows(data)]
    sent = _sent(samples, [CHANNELS[c](run.out / "site", name, form, modality) for c in chosen])
    out = [sample for sample in sent if not sample.drop]
    refused = Counter(s.drop.split(":")[1].strip() if s.drop.startswith("not published") else s.drop.split(":")[0]
                      for s in (*(s for s in sent if s.drop), *dropped(data)))  # fmt: skip
    said = ", ".join(f"{n} {why}" for why, n in sorted(refused.items()))
    if not out:
        fix = f'Approve with lines {{"id": ..., "approved": true, "by": ...}} in {FILE}, named as `approvals`.'
        waiting = any(s.attrs.get("approval") == "pending" for s in sent)
        raise DataError(f"nothing may be published (refused: {said or 'nothing came in'}).", where=run.step,
                        fix=fix if waiting else "Generate again with other prompts or conditions.")  # fmt: skip
    with writer(run.out, modality=run.modality) as file:
        file.write_all(sent)
        file.write_all(dropped(data))
    for channel in [CHANNELS[c](target, name, form, modality) for c in chosen]:  # last, when all else has worked
        _sent_through(channel, out)
    run.say(f"{len(out)} published in {folder}/" + (f"; held back: {said}" if said else ""))
    return Dataset(run.out)


def _decided(sample: Sample, word: Mapping[str, Approval]) -> Sample:
    """The sample with a person's decision on it, where it waits for one."""
    decision = word.get(sample.id)
    if decision is None or sample.attrs.get("approval") != "pending":
        return sample
    state = "approved" if decision.approved else "rejected"
    label = Label(name="approval", value=state, by=decision.by)
    attrs = {**sample.attrs, "approval": state, "approved_by": decision.by if decision.approved else ""}
    return sample.model_copy(update={"attrs": attrs, "labels": [*sample.labels, label]})


def _sent(samples: Sequence[Sample], channels: Sequence[Channel]) -> list[Sample]:
    """The samples, each with a receipt of every channel as labels, or dropped with the refusal."""
    told = [(channel.name, _sent_through(channel, samples)) for channel in channels]
    return [_labelled(sample, [(name, receipts[i]) for name, receipts in told]) for i, sample in enumerate(samples)]


def _sent_through(channel: Channel, samples: Sequence[Sample]) -> list[Receipt]:
    """All samples through one channel; in one go where it can."""
    together: Callable[[Sequence[Sample]], list[Receipt]] | None = getattr(channel, "send_all", None)
    return together(samples) if together else [channel.send(sample) for sample in samples]


def _labelled(sample: Sample, receipts: Sequence[tuple[str, Receipt]]) -> Sample:
    refused = next((r.refused for _, r in receipts if r.refused), "")
    if refused:
        return sample.model_copy(update={"drop": f"not published: {refused}"})
    labels = [Label(name="published", value=receipt.where, by=f"channel:{name}") for name, receipt in receipts]
    return sample.model_copy(update={"labels": [*sample.labels, *labels]})
