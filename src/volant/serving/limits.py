"""What a request may ask for: every number, string and list has a bound before it reaches an engine.

What enters: the parsed body. What leaves: `core.protocols.Request`s, or an `ApiError` that names the
field. A field that would change the meaning of an answer and is not supported (tools, logprobs) is
refused and not ignored; a URL is refused and never fetched.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from volant.core.protocols import Request
from volant.serving.shapes import ApiError

HARD_TOKENS = 32_768
HARD_TEXT = 1_000_000
HARD_ITEMS = 1_024


class Limits(BaseModel):
    """The bounds of one server; they are part of an Endpoint.

    Attributes:
        max_tokens: of one generation; a request that asks for more is refused.
        default_tokens: where a request says nothing.
        default_temperature: where a request says nothing; 0 is greedy, the same answer every time.
        max_n: answers to one prompt; also prompts in one completion request.
        max_characters: of all messages or prompts of a request together.
        queue: generations that may wait; more get 429 with Retry-After.
        batch: generations that run together; more is faster in sum and slower for each.
        deadline_seconds: from arrival to the last token; then 504, or a stream that ends with an error.
        body_seconds: for a client to send its body; then 408.
        drain_seconds: after SIGTERM, for requests in flight to end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: int = Field(default=512, ge=1, le=HARD_TOKENS)
    default_tokens: int = Field(default=64, ge=1, le=HARD_TOKENS)
    default_temperature: float = Field(default=0.0, ge=0, le=2)
    max_n: int = Field(default=4, ge=1, le=64)
    max_messages: int = Field(default=64, ge=1, le=HARD_ITEMS)
    max_characters: int = Field(default=32_000, ge=1, le=HARD_TEXT)
    max_body_bytes: int = Field(default=262_144, ge=1_024, le=16_777_216)
    queue: int = Field(default=64, ge=1, le=10_000)
    batch: int = Field(default=8, ge=1, le=256)
    deadline_seconds: float = Field(default=60.0, gt=0, le=3_600)
    body_seconds: float = Field(default=10.0, gt=0, le=600)
    drain_seconds: float = Field(default=20.0, ge=0, le=3_600)


class TextPart(BaseModel):
    """A piece of a message; only text."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str = Field(max_length=HARD_TEXT)


class Message(BaseModel):
    """One turn of a chat."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: str = Field(max_length=HARD_TEXT)
    name: str | None = Field(default=None, max_length=64)
    refusal: None = None

    @field_validator("content", mode="before")
    @classmethod
    def _join_parts(cls, content: Any) -> Any:
        if isinstance(content, list) and len(content) <= HARD_ITEMS:
            return "".join(TextPart.model_validate(part).text for part in content)
        return content

    def turn(self) -> dict[str, str]:
        """Role and content; `developer` is OpenAI's newer word for `system`."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.content}


class StreamOptions(BaseModel):
    """`stream_options`."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False
    include_obfuscation: bool = False


class Asked(BaseModel):
    """What chat and completion bodies share. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(default="", max_length=256)
    max_tokens: int | None = Field(default=None, ge=1, le=HARD_TOKENS)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=0, le=1_000_000)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10, allow_inf_nan=False)
    n: int | None = Field(default=None, ge=1, le=64)
    stop: (
        Annotated[str, Field(min_length=1, max_length=256)]
        | Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=4)]
        | None
    ) = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(default=None, max_length=256)
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = Field(
        default=None, max_length=16
    )
    store: bool | None = None
    service_tier: Literal["auto", "default"] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings as a tuple."""
        return () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    def check(self, limits: Limits, characters: int) -> None:
        """Hold the body against this server's limits.

        Raises:
            ApiError: 400, naming the field and the bound.
        """
        asked_tokens = self.tokens(limits)
        for param, value, bound in (
            ("max_tokens", asked_tokens, limits.max_tokens),
            ("n", self.n or 1, limits.max_n),
        ):
            if value > bound:
                raise ApiError(400, f"{param} is at most {bound} on this server.", code="too_large", param=param)
        if characters > limits.max_characters:
            what = f"The prompt has {characters} characters; this server takes {limits.max_characters}."
            raise ApiError(400, what, code="context_length_exceeded", param="messages")

    def tokens(self, limits: Limits) -> int:
        """How many tokens are asked for."""
        return self.max_tokens or min(limits.default_tokens, limits.max_tokens)

    def request(self, id: str, limits: Limits, draw: int, **prompt: Any) -> Request:
        """One generation; `draw` tells the answers to one prompt apart."""
        temperature = limits.default_temperature if self.temperature is None else self.temperature
        seed = secrets.randbits(31) if self.seed is None else (self.seed + draw) % 2**31
        return Request(
            id=id, max_tokens=self.tokens(limits), temperature=temperature, seed=seed, stop=self.stops,
            top_p=self.top_p or 1.0, top_k=self.top_k or 0, repetition_penalty=self.repetition_penalty or 1.0,
            **prompt,
        )  # fmt: skip

    def requests(self, id: str, limits: Limits) -> list[Request]:
        """The generations that the body asks for, checked."""
        raise NotImplementedError


class ChatBody(Asked):
    """`POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1, max_length=HARD_ITEMS)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=HARD_TOKENS)
    logprobs: Literal[False] | None = None
    top_logprobs: Literal[0] | None = None
    response_format: dict[Literal["type"], Literal["text"]] | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none"] | None = None

    @model_validator(mode="after")
    def _one_name_for_tokens(self) -> ChatBody:
        self.max_tokens = self.max_completion_tokens or self.max_tokens
        return self

    def requests(self, id: str, limits: Limits) -> list[Request]:
        """`n` generations for one chat."""
        if len(self.messages) > limits.max_messages:
            what = f"At most {limits.max_messages} messages on this server."
            raise ApiError(400, what, code="too_large", param="messages")
        self.check(limits, sum(len(m.content) for m in self.messages))
        turns: tuple[Mapping[str, str], ...] = tuple(m.turn() for m in self.messages)
        return [self.request(f"{id}.{i}", limits, i, messages=turns) for i in range(self.n or 1)]


class CompletionBody(Asked):
    """`POST /v1/completions`."""

    prompt: (
        Annotated[str, Field(max_length=HARD_TEXT)]
        | Annotated[list[Annotated[str, Field(max_length=HARD_TEXT)]], Field(min_length=1, max_length=64)]
    )
    logprobs: None = None
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: Literal[""] | None = None

    @property
    def prompts(self) -> list[str]:
        """The prompts as a list."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    def requests(self, id: str, limits: Limits) -> list[Request]:
        """`n` generations for each prompt."""
        self.check(limits, sum(map(len, self.prompts)))
        pairs = [(prompt, draw) for prompt in self.prompts for draw in range(self.n or 1)]
        if len(pairs) > limits.max_n:
            what = f"Prompts times n is at most {limits.max_n} on this server."
            raise ApiError(400, what, code="too_large", param="prompt")
        return [self.request(f"{id}.{i}", limits, d, prompt=text) for i, (text, d) in enumerate(pairs)]


class FeedbackBody(BaseModel):
    """`POST /v1/feedback`: a rating, a correction, or both, to a request that was answered here.

    Attributes:
        rating: thumbs (-1, 0, 1) or stars (0 to 5); kept as thumbs.
        scale: which of the two is meant; `thumbs` unless the rating can only be stars.
        consent: whether the correction may be used for training.
        user: who says so, as in a chat request; counts for this machine's own clients only, since anybody else is
            known by the key. A harvest caps what each one contributes.
    """

    model_config = ConfigDict(extra="forbid")

    request_id: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.:-]+$")
    rating: Annotated[int, Field(ge=-1, le=5, strict=True)] | None = None
    scale: Literal["thumbs", "stars"] | None = None
    correction: str = Field(default="", max_length=HARD_TEXT)
    consent: Literal["", "training", "none"] = ""
    user: str | None = Field(default=None, max_length=256)

    @model_validator(mode="after")
    def _says_something(self) -> FeedbackBody:
        if self.rating is None and not self.correction.strip():
            raise ValueError("give a rating, a correction, or both")
        if self.scale == "stars" and self.rating is not None and self.rating < 0:
            raise ValueError("stars are 0 to 5")
        if self.scale == "thumbs" and self.rating is not None and self.rating > 1:
            raise ValueError("thumbs are -1, 0 or 1")
        return self

    @property
    def thumbs(self) -> int | None:
        """The rating as -1, 0 or 1: up to two stars are bad, three are so-so, four and five are good."""
        if self.rating is None or (self.scale != "stars" and self.rating <= 1):
            return self.rating
        return -1 if self.rating <= 2 else 0 if self.rating == 3 else 1
