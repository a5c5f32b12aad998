"""What fine-tuning on text says of its examples before it learns from them.

What enters: samples, or what a codec made of them, and the room that the model has. What leaves: lines for people,
and a refusal of data that went through a chat template already.
"""

from __future__ import annotations

from collections.abc import Sequence

from volant.core import Run, Sample
from volant.core.errors import DataError
from volant.core.protocols import Codec
from volant.core.spaces import Encoded

_MARKERS = ("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|eot_id|>", "[INST]", "[/INST]", "<start_of_turn>")


def check_plain(run: Run, train: Sequence[Sample]) -> None:
    """Refuse data that went through a chat template already: the model's own would be put around it.

    Raises:
        DataError: more than half of the first hundred samples hold a template's markers.
    """
    first = train[:100]
    found = {m: sum(m in sample.text for sample in first) for m in (*_MARKERS, "<|user|>", "<|assistant|>")}
    marker, count = max(found.items(), key=lambda item: item[1])
    if 2 * count > len(first):
        what = f"{count} of {len(first)} samples hold {marker!r}: they were put through a chat template already."
        fix = "Give the turns as they are (`messages`, or `prompt` and `completion`); the model's own template is used."
        raise DataError(what, where=run.step, fix=fix)


def show(run: Run, codec: Codec, examples: Sequence[Encoded]) -> None:
    """Examples as the model sees them; what the loss counts stands in double brackets."""
    from volant.modalities.text_codec import TextCodec, masked_preview

    if not isinstance(codec, TextCodec):
        return
    for number, example in enumerate(examples, 1):
        text = str(masked_preview(codec, example))
        shown = text if len(text) <= 800 else f"{text[:400]} ... {text[-400:]}"
        run.say(f"example {number} ([[ ]] is what the loss counts):\n{shown}")


def state_cut(run: Run, encoded: Sequence[Encoded], length: int) -> None:
    """Say how many examples are too long, and what they lose: of the prompt, of the answers, or both."""
    from volant.nets.batches import fit

    over = [(e, fit(e, length)) for e in encoded if len(e.ids) > length]
    if not over:
        return
    # The prompt ends where the loss begins to count.
    prompts = sum(any(cut.mask) and cut.mask.index(True) < e.mask.index(True) for e, cut in over)
    answers = sum(sum(cut.mask) < sum(e.mask) for e, cut in over)
    run.say(
        f"{len(over)} of {len(encoded)} examples are over {length} tokens: of {prompts} the prompt is shortened in the "
        f"middle, of {answers} the answers are cut off at the end"
    )
    if 2 * answers > len(encoded):
        what = "most examples lose the end of their answers, so that the model does not learn how answers end"
        run.say(f"WARNING: {what}. Raise `context`, or give shorter examples.")
