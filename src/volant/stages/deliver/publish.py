"""Generated content reaches its audience: into a folder of the project, as files and as a static page.

Enters: a Dataset from `generate`. Leaves: the Dataset with a receipt on every sample, and the published
files as part of it (`site/`), so that what was shown can be shown again. The copy into the folder comes
last and delivers each sample once. What a person has not approved, or a filter refused, stays behind
with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from volant.core import Dataset, Files, Run, Sample
from volant.core.errors import DataError, SettingError
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
    form: Literal["markdown", "html", "json"] = "markdown",
    channels: list[Literal["file", "page"]] | None = None,
    approvals: Files = "",
) -> Dataset:
    """Publish samples to a folder and a static page, once each.

    Args:
        run: brings the resolver, which keeps the folder inside of the project.
        data: what `deliver.generate` made.
        folder: where it goes, relative to the project; what lies there from before stays.
        title: of the page; empty: the goal's problem.
        form: of the single files: markdown, html or json.
        channels: `file` (one file a sample) and `page` (one page with all of them); both by default.
        approvals: JSON lines of a person's decisions (`{"id", "approved", "by"}`), for samples that wait for one.

    Raises:
        DataError: nothing may be published; the message counts why.
        PathError: the folder lies outside of the project.
    """
    from volant.store.dataset import dropped, rows, writer

    chosen = list(dict.fromkeys(channels or ["file", "page"]))
    target = run.resolver.resolve(folder)
    if target == run.resolver.root:
        raise SettingError("`folder` is the project itself.", where=run.step, fix="Name a folder in it.")
    name = title or run.goal.problem or "Generated content"
    word = decisions(run.outside["approvals"].files) if "approvals" in run.outside else {}
    samples = [_decided(sample, word) for sample in rows(data)]
    sent = [_sent(sample, [CHANNELS[c](run.out / "site", name, form) for c in chosen]) for sample in samples]
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
    for channel in [CHANNELS[c](target, name, form) for c in chosen]:  # last, when everything else has worked
        for sample in out:
            channel.send(sample)
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


def _sent(sample: Sample, channels: Sequence[Channel]) -> Sample:
    """The sample with a receipt of each channel as labels, or dropped with the refusal."""
    receipts: list[tuple[str, Receipt]] = [(c.name, c.send(sample)) for c in channels]
    refused = next((r.refused for _, r in receipts if r.refused), "")
    if refused:
        return sample.model_copy(update={"drop": f"not published: {refused}"})
    labels = [Label(name="published", value=receipt.where, by=f"channel:{name}") for name, receipt in receipts]
    return sample.model_copy(update={"labels": [*sample.labels, *labels]})
