"""Chat templates, rendered so that a stranger's template can neither reach out nor run away.

In go a Jinja template (the ecosystem's format, `apply_chat_template`) and messages; out comes the
text that a model sees. A template travels with a downloaded model, so it is untrusted code: it is
rendered in jinja2's immutable sandbox, with a budget on loop rounds, on the size of the output
and on operations that make big strings out of small ones. It sees no clock: the same messages
give the same text on every day.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from volant.core.errors import DataError

MAX_SOURCE = 262_144
MAX_OUTPUT = 8_000_000
MAX_ROUNDS = 200_000
_GROWING = {"center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map"}

PLAIN = (
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{- raise_exception('the role ' ~ message['role'] ~ ' is not known') -}}{%- endif -%}"
    "{{- '<|' ~ message['role'] ~ '|>' ~ message['content'] ~ '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
"""The template of Volant's own tokenizers; its five markers are special tokens, so it costs two tokens a turn."""

CHATML = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' ~ message['role'] ~ '\\n' ~ message['content'] ~ '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""For a base without a template whose vocabulary has ChatML's markers."""

HEADINGS = (
    "{%- for message in messages -%}"
    "{{- '### ' ~ (message['role'] | capitalize) ~ ':\\n' ~ message['content'] -}}"
    "{{- (eos_token ~ '\\n') if message['role'] == 'assistant' else '\\n\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '### Assistant:\\n' -}}{%- endif -%}"
)
"""For a base without a template and without markers: plain headings need no new tokens."""


class _TooMuch(Exception):
    pass


class _Generation(Extension):
    """Reads `{% generation %}`, with which templates mark answers for TRL; the block is rendered as it stands."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["*", "**", "%", "+"])

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.rounds = 0
        for risky in ("center", "format", "indent", "wordwrap", "xmlattr", "urlize"):
            self.filters.pop(risky, None)
        self.filters["_budget"] = self._budget
        self.filters.update(tojson=_tojson, replace=_replaced, join=_joined, _concat=_joined)
        self.globals.pop("lipsum", None)
        self.globals["range"] = self._range
        self.globals["raise_exception"] = _raise

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "_budget", [], [], None, None)
        for concat in tree.find_all(nodes.Concat):
            concat.nodes = [nodes.Filter(nodes.List(concat.nodes), "_concat", [], [], None, None)]
        return tree

    def _budget(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.rounds += 1
            if self.rounds > MAX_ROUNDS:
                raise _TooMuch(f"it loops more than {MAX_ROUNDS:,} times")
            yield item

    def _range(self, *bounds: int) -> range:
        numbers = range(*bounds)
        if len(numbers) > MAX_ROUNDS:
            raise _TooMuch(f"it counts over {len(numbers):,} numbers")
        return numbers

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator in ("*", "**", "%") and not all(isinstance(x, int | float) for x in (left, right)):
            raise _TooMuch(f"it uses {operator!r} on text or lists")
        if operator == "**" and (abs(left) > 1e6 or abs(right) > 64):
            raise _TooMuch("it raises to a huge power")
        if operator == "+" and _length(left) + _length(right) > MAX_OUTPUT:
            raise _TooMuch("it joins texts beyond the bound")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        text, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if isinstance(text, str) and name == "replace" and len(args) > 1:
            return _replaced(text, *args)
        if isinstance(text, str) and name == "join" and args:
            return _joined(args[0], text)
        return super().call(context, function, *args, **kwargs)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str) and attr in _GROWING:
            return False
        return super().is_safe_attribute(obj, attr, value)


class ChatTemplate:
    """A compiled template.

    Args:
        source: Jinja text as in `tokenizer_config.json` or `chat_template.jinja`.
        tokens: names that templates use (`bos_token`, `eos_token`).

    Raises:
        DataError: it does not parse or is too long.
    """

    def __init__(self, source: str, tokens: Mapping[str, str] | None = None) -> None:
        if len(source) > MAX_SOURCE:
            raise DataError(f"the chat template has {len(source):,} characters; at most {MAX_SOURCE:,} are read.")
        self.source, self.tokens = source, dict(tokens or {})
        self.sha256 = hashlib.sha256(source.encode()).hexdigest()
        try:
            self._environment, self._compiled = _compiled(source)
        except (jinja2.TemplateError, RecursionError) as error:
            raise DataError(
                f"the chat template does not parse: {error}.", fix="Put a chat_template.jinja that does into the base."
            ) from error

    def render(self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = False) -> str:
        """The messages as the text that the model sees.

        Raises:
            DataError: the template refuses the messages, fails, or breaks a bound.
        """
        self._environment.rounds = 0
        variables = {**self.tokens, "messages": [dict(m) for m in messages], "tools": None, "documents": None}
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._compiled.generate(add_generation_prompt=add_generation_prompt, **variables):
                size += len(piece)
                if size > MAX_OUTPUT:
                    raise _TooMuch(f"it makes more than {MAX_OUTPUT:,} characters")
                pieces.append(piece)
        except _TooMuch as error:
            raise DataError(f"the chat template is not used: {error}.", fix="Use another template.") from error
        except Exception as error:  # a template can raise anything; none of it is our bug
            raise DataError(
                f"the chat template cannot render these messages: {error}.", fix="Check their roles and order."
            ) from error
        return "".join(pieces)


@lru_cache(maxsize=16)
def _compiled(source: str) -> tuple[_Sandbox, jinja2.Template]:
    environment = _Sandbox()
    return environment, environment.from_string(source)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=min(indent, 16) if indent else None, sort_keys=sort_keys)


def _replaced(text: Any, old: str, new: str, count: int = -1) -> str:
    text = str(text)
    if len(text) + text.count(str(old)) * len(str(new)) > MAX_OUTPUT:
        raise _TooMuch("it replaces beyond the bound")
    return str(text.replace(str(old), str(new), -1 if count is None else count))


def _joined(items: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    parts = [str(item[attribute] if attribute else item) for item in items]
    if sum(map(len, parts)) + len(str(separator)) * len(parts) > MAX_OUTPUT:
        raise _TooMuch("it joins texts beyond the bound")
    return str(separator).join(parts)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 0
