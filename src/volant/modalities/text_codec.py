"""The codec of text: byte-level BPE in the ecosystem's own files, and the mask of what the loss counts.

In go samples; out come token ids with a loss mask, and ids as text again. It is built on
`tokenizers` and needs no torch; what it saves opens with `transformers.AutoTokenizer` and gives
the same ids.

The mask is found by rendering: the conversation up to an answer (with the generation prompt) is a
prefix of the conversation with it, and what lies between is the answer. So it holds for every
template, and only what the model itself would write counts, its end marker included.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volant.core.errors import ArtifactError, DataError
from volant.core.sample import Sample
from volant.core.spaces import Encoded, Tokens
from volant.modalities.chat_template import CHATML, HEADINGS, PLAIN, ChatTemplate

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT, USER, ASSISTANT, SYSTEM, END = SPECIAL = (
    "<|endoftext|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|end|>",
)
MASK = "<|mask|>"
DEFAULT_LENGTH = 512
# Stand-ins for special tokens that a user wrote into a message; Unicode promises that nobody uses them.
_STAND_IN = 0x10F000
_STAND_INS = re.compile("[\U0010f000-\U0010fffd]")


class TextCodec:
    """Token ids of text, with template and mask. `text_tokenizer` trains or opens one.

    Args:
        tokenizer: a `tokenizers.Tokenizer`.
        config: `tokenizer_config.json`.
        template: Jinja source; empty for the one that suits the vocabulary.
        length: longest sequence that the model reads, in tokens. Nothing is cut here.
        stop: further ids that end a generation.

    Attributes:
        stop_ids: ids that end a generation: end of text and end of turn.
        had_template: whether the base brought a template of its own.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: Mapping[str, Any],
        *,
        template: str = "",
        length: int = DEFAULT_LENGTH,
        stop: Sequence[int] = (),
    ) -> None:
        self.tokenizer = tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.config = dict(config)
        names = tokenizer.get_vocab(with_added_tokens=True)
        self.vocab = max(names.values()) + 1
        self.space: Tokens = Tokens(self.vocab, length)
        self._tokens = {
            k: v
            for k in ("bos_token", "eos_token", "pad_token", "unk_token", "mask_token")
            if (v := token_name(config, k))
        }
        eos = names.get(self._tokens.get("eos_token", ""))
        if eos is None:
            raise ArtifactError(
                "the tokenizer has no end-of-text token.", fix="Set eos_token in tokenizer_config.json."
            )
        self.eos_id: int = eos
        self.pad_id: int = names.get(self._tokens.get("pad_token", ""), eos)
        self._specials = {t.content: i for i, t in tokenizer.get_added_tokens_decoder().items() if t.special}
        self._order = sorted(self._specials, key=lambda s: (-len(s), s))
        self._marker = re.compile("|".join(map(re.escape, self._order)) or r"(?!)")
        self._bos = self._before_text()
        self.had_template = bool(template)
        self._template = ChatTemplate(template or _fallback(names), self._tokens)
        self.stop_ids: tuple[int, ...] = tuple(sorted({eos, *stop, *self._turn_end()}))

    @property
    def chat_template(self) -> str:
        """The template's source."""
        return self._template.source

    @property
    def template_sha256(self) -> str:
        """What `volant.json` records and every renderer of prompts checks."""
        return self._template.sha256

    # --- encoding ---------------------------------------------------------------------------

    def encode(self, sample: Sample) -> Encoded:
        """A sample as ids with its loss mask: all of a text, the answers of a conversation.

        Raises:
            DataError: the template cannot render the sample, or the shape has no text.
        """
        if sample.shape == "text":
            encoding = self.tokenizer.encode(valid(sample.content or ""), add_special_tokens=False)
            ids = [*self._bos, *encoding.ids, self.eos_id]
            return Encoded(ids, [True] * len(ids))
        if sample.shape not in ("completion", "messages", "preference"):
            raise DataError(f"a sample of shape {sample.shape!r} is no text.", where=sample.id)
        return self.encode_messages(sample.messages)

    def encode_messages(self, messages: Sequence[Mapping[str, str]]) -> Encoded:
        """A conversation as ids; the mask counts what the assistant writes, end marker included.

        Raises:
            DataError: the template cannot render it, or hides an answer.
        """
        text, spans = self._answers([dict(m, content=self._guarded(m["content"])) for m in messages])
        ids: list[int] = []
        mask: list[bool] = []
        for token, start, end in self._rendered(text):
            ids.append(token)
            mask.append(any(first <= start and end <= last for first, last in spans))
        return Encoded(ids, mask)

    def encode_prompt(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Chat messages as the ids that a model continues (generation prompt added)."""
        guarded = [dict(m, content=self._guarded(m["content"])) for m in messages]
        text = self._template.render(guarded, add_generation_prompt=True)
        return [token for token, _, _ in self._rendered(text)]

    def encode_text(self, text: str) -> list[int]:
        """Plain text as ids, without template or special tokens: markers in the text are text."""
        if self._marker.search(text):
            text = self._guarded(text)
            return [token for token, _, _ in self._rendered(text)]
        return list(self.tokenizer.encode(valid(text), add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Ids as text, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _before_text(self) -> list[int]:
        """The ids that the tokenizer itself puts before a text (Llama's begin-of-text), if any."""
        first = self.tokenizer.encode("a", add_special_tokens=True)
        plain = self.tokenizer.encode("a", add_special_tokens=False).ids
        return list(first.ids[: len(first.ids) - len(plain)]) if first.ids[-len(plain) :] == plain else []

    def _guarded(self, text: str) -> str:
        """Markers that a user wrote, replaced by stand-ins: nobody can open a turn from inside a message."""
        return self._marker.sub(lambda m: chr(_STAND_IN + self._order.index(m[0])), valid(text))

    def _rendered(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Id, start and end (in characters of `text`) of each token; stand-ins become plain text again."""
        begin = 0
        for stand_in in _STAND_INS.finditer(text):
            at, which = stand_in.start(), ord(stand_in[0]) - _STAND_IN
            if which >= len(self._order):
                continue
            yield from self._encoded(text[begin:at], begin)
            # The first character is encoded apart, so that no marker is recognised.
            for half in (self._order[which][:1], self._order[which][1:]):
                for token in self.tokenizer.encode(half, add_special_tokens=False).ids if half else []:
                    yield token, at, at + 1
            begin = at + 1
        yield from self._encoded(text[begin:], begin)

    def _encoded(self, text: str, begin: int) -> Iterator[tuple[int, int, int]]:
        if text:
            encoding = self.tokenizer.encode(text, add_special_tokens=False)
            for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
                yield token, begin + start, begin + end

    # --- answers ----------------------------------------------------------------------------

    def _answers(self, messages: Sequence[Mapping[str, str]]) -> tuple[str, list[tuple[int, int]]]:
        """The rendered conversation and the character spans that the assistant writes."""
        text = self._template.render(messages)
        spans: list[tuple[int, int]] = []
        for at, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._template.render(messages[:at], add_generation_prompt=True)
            until = self._template.render(messages[: at + 1])
            if text.startswith(before) and text.startswith(until):
                spans.append((len(before), len(before) + len(until[len(before) :].rstrip())))
                continue
            # Some templates rewrite earlier turns (Qwen3 drops old thoughts): look the answer up.
            begin = _end_of(text, messages[:at])
            found = text.find(message["content"].strip(), begin)
            if found < 0:
                fix = "Train on the last turn only; of a base that thinks (`pretrain.base`) set `thinking: true`."
                raise DataError("the chat template hides an answer.", fix=fix)
            spans.append((found, self._through_marker(text, found + len(message["content"].strip()))))
        return text, spans

    def _through_marker(self, text: str, end: int) -> int:
        for special in self._specials:
            if text.startswith(special, end):
                return end + len(special)
        return end

    def _turn_end(self) -> set[int]:
        """The special token with which the template closes an answer."""
        try:
            text, spans = self._answers([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
        except DataError:
            return set()
        last = [token for token, start, _ in self._encoded(text[: spans[-1][1]], 0) if start >= spans[-1][0]][-1:]
        return {token for token in last if token in self._specials.values()}

    def with_mask(self) -> TextCodec:
        """The same codec whose tokenizer knows one token more, `<|mask|>`, with the id behind all others."""
        from tokenizers import AddedToken, Tokenizer

        tokenizer = Tokenizer.from_str(self.tokenizer.to_str())
        tokenizer.add_special_tokens([AddedToken(MASK, special=True, normalized=False, lstrip=True)])
        config = {**self.config, "mask_token": MASK}
        return TextCodec(tokenizer, config, template=self.chat_template, length=self.space.length)

    # --- files ------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json` and `chat_template.jinja`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(self.tokenizer.to_str(pretty=False), encoding="utf-8")
        config = {k: v for k, v in self.config.items() if k not in ("name_or_path", "auto_map", "chat_template")}
        _write_json(folder / "tokenizer_config.json", config)
        _write_json(folder / "special_tokens_map.json", self._tokens)
        (folder / "chat_template.jinja").write_text(self.chat_template, encoding="utf-8")


@dataclass(frozen=True)
class MaskedPreview:
    """An example as the model sees it; `counted` spans are what the loss counts."""

    spans: tuple[tuple[str, bool], ...]

    @property
    def counted(self) -> str:
        """Only what the loss counts."""
        return "".join(text for text, counted in self.spans if counted)

    def __str__(self) -> str:
        return "".join(f"[[{text}]]" if counted else text for text, counted in self.spans)


def masked_preview(codec: TextCodec, encoded: Encoded) -> MaskedPreview:
    """An example rendered with its markers, split into what the loss counts and what it does not.

    `str()` of it puts what counts into double brackets; a terminal dims the other spans instead.
    """
    spans: list[tuple[str, bool]] = []
    for counted, group in groupby(zip(encoded.ids, encoded.mask, strict=True), key=lambda pair: pair[1]):
        text = str(codec.tokenizer.decode([token for token, _ in group], skip_special_tokens=False))
        spans.append((text, counted))
    return MaskedPreview(tuple(spans))


def _end_of(text: str, messages: Sequence[Mapping[str, str]]) -> int:
    """Where the last of the messages ends in the rendered text; one that is left out takes no room."""
    end = 0
    for message in messages:
        found = text.find(message["content"].strip(), end)
        end = end if found < 0 else found + len(message["content"].strip())
    return end


def _fallback(names: Mapping[str, int]) -> str:
    if all(marker in names for marker in (USER, ASSISTANT, SYSTEM, END)):
        return PLAIN
    return CHATML if "<|im_start|>" in names and "<|im_end|>" in names else HEADINGS


def token_name(config: Mapping[str, Any], key: str) -> str:
    """A special token's text from `tokenizer_config.json`, which holds text or an object."""
    value = config.get(key)
    return str(value.get("content", "")) if isinstance(value, dict) else str(value or "")


def valid(text: str) -> str:
    """The text with lone surrogates, which UTF-8 cannot hold, replaced."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _write_json(file: Path, value: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
