"""Where text codecs come from: trained on samples, or opened from any Hugging Face directory.

In go samples, or a directory with `tokenizer.json`; out comes a `TextCodec`. Training is byte-level
BPE by `tokenizers`: no text is unknown, and the same samples in the same order give the same file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from volant.core.errors import ArtifactError, DataError
from volant.core.sample import Sample
from volant.modalities.chat_template import PLAIN
from volant.modalities.text_codec import DEFAULT_LENGTH, END_OF_TEXT, SPECIAL, TextCodec, token_name, valid

FIT_CHARS = 16_000_000
# GPT-4's split with single digits: words with one leading blank, runs of signs, runs of white space.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def fit_codec(
    samples: Iterable[Sample], *, vocab: int = 4096, length: int = DEFAULT_LENGTH, max_chars: int = FIT_CHARS
) -> TextCodec:
    """Train a byte-level BPE tokenizer; the same samples in the same order give the same file.

    Args:
        samples: what to learn from; reading stops at `max_chars`.
        vocab: tokens in all, markers and the 256 bytes included.
        length: longest sequence in tokens; goes into the space.
        max_chars: more text hardly changes the merges and costs time.

    Raises:
        DataError: no text, or a vocabulary too small for the bytes.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    if vocab < 256 + len(SPECIAL):
        raise DataError(
            f"a vocabulary of {vocab} cannot hold the 256 bytes.", fix=f"Take {256 + len(SPECIAL)} or more."
        )
    tokenizer = Tokenizer(models.BPE(ignore_merges=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=list(SPECIAL), show_progress=False, min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    texts = _bounded(samples, max_chars)
    first = next(texts, None)
    if first is None:
        raise DataError("there is no text to train a tokenizer on.", fix="Check that the train split holds samples.")
    tokenizer.train_from_iterator(chain([first], texts), trainer)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TEXT, "pad_token": END_OF_TEXT, "additional_special_tokens": list(SPECIAL[1:]),
        "model_max_length": length, "clean_up_tokenization_spaces": False, "add_prefix_space": False,
    }  # fmt: skip
    return TextCodec(tokenizer, config, template=PLAIN, length=length)


def open_codec(folder: Path) -> TextCodec:
    """The codec in a model directory, Volant's own or any Hugging Face one with a `tokenizer.json`.

    Raises:
        ArtifactError: the directory has no tokenizer that can be read, the chat template is another one than the model
            was trained with, or the tokenizer knows tokens for which the model has no weights.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        fix = "Volant reads fast tokenizers; AutoTokenizer.from_pretrained(...).save_pretrained writes one."
        raise ArtifactError("there is no tokenizer.json.", where=str(folder), fix=fix)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises a bare Exception
        raise ArtifactError(f"its tokenizer cannot be read: {error}.", where=str(folder)) from error
    config = _read_json(folder / "tokenizer_config.json")
    special = _read_json(folder / "special_tokens_map.json")
    model, generation = _read_json(folder / "config.json"), _read_json(folder / "generation_config.json")
    config = {**{k: v for k, v in special.items() if k.endswith("_token")}, **config}
    limits = [config.get("model_max_length"), model.get("max_position_embeddings")]
    length = min([int(x) for x in limits if isinstance(x, int | float) and 0 < x < 1e7], default=DEFAULT_LENGTH)
    ends = [x for c in (generation, model) for x in _as_list(c.get("eos_token_id"))]
    if not token_name(config, "eos_token") and ends:
        config["eos_token"] = tokenizer.id_to_token(ends[0])
    codec = TextCodec(tokenizer, config, template=_template_in(folder, config), length=length, stop=ends)
    _check_fits(folder, codec, max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0), model)
    return codec


def _check_fits(folder: Path, codec: TextCodec, last: int, model: Mapping[str, Any]) -> None:
    """Whoever opens a model to train, align, prompt, convert or serve it comes by here.

    Raises:
        ArtifactError: template or vocabulary are not the model's.
    """
    said = str(_read_json(folder / "volant.json").get("chat_template_sha256") or "")
    if said and said != codec.template_sha256:
        what = (
            f"its chat template ({codec.template_sha256[:12]}) is not the one that it was trained with ({said[:12]}): "
            "prompts would be put to it in a form that it never saw."
        )
        raise ArtifactError(what, where=str(folder), fix="Put the file back; `volant verify` names what was changed.")
    rows = model.get("vocab_size")
    if isinstance(rows, int) and last >= rows:
        what = f"the tokenizer knows {last + 1} tokens and the model {rows}."
        fix = "Take the tokenizer that the model was trained with, or resize the model's embeddings."
        raise ArtifactError(what, where=str(folder), fix=fix)


def _template_in(folder: Path, config: Mapping[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = config.get("chat_template") or ""
    if isinstance(template, list):  # several named ones; `default` is for chat
        template = next((t["template"] for t in template if t.get("name") == "default"), "")
    return str(template)


def _bounded(samples: Iterable[Sample], max_chars: int) -> Iterator[str]:
    total = 0
    for sample in samples:
        text = valid(sample.text)
        if text:
            yield text[: max_chars - total]
            total += len(text)
        if total >= max_chars:
            return


def _as_list(value: Any) -> list[int]:
    return [x for x in (value if isinstance(value, list) else [value]) if isinstance(x, int)]


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:  # no JSON, or no UTF-8
        fix = "Put back the file that came with the model."
        raise ArtifactError(f"{file.name} cannot be read: {error}.", where=str(file.parent), fix=fix) from error
    return value if isinstance(value, dict) else {}
