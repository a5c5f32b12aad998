"""Answers, stream events and errors as OpenAI's clients expect them. Pure functions over plain values.

Errors are opaque: they say what the caller can change and never what went wrong inside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from volant.core.protocols import Chunk

DONE = b"data: [DONE]\n\n"


class ApiError(Exception):
    """An answer that is a refusal.

    Args:
        status: the HTTP status.
        message: one sentence for the caller.
        code: a word for programs (`model_not_found`); also the cause in the metrics.
        param: which field of the body it is about.
        retry_after: seconds after which to come again; sent as a header.

    Attributes:
        counted: whether the metrics have it already.
    """

    counted = False

    def __init__(
        self, status: int, message: str, *, code: str, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.retry_after = status, message, code, param, retry_after

    @property
    def type(self) -> str:
        """OpenAI's word for the class of the error."""
        known = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
        return known.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")

    @property
    def body(self) -> dict[str, Any]:
        """`{"error": {...}}`."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """`Retry-After`, `WWW-Authenticate` and what forbids caching."""
        headers = {"cache-control": "no-store"}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers


@dataclass
class Choice:
    """One generation as it grows."""

    text: str = ""
    finish: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str = ""

    def add(self, chunk: Chunk) -> None:
        """Append a chunk; the last one brings the counts."""
        self.text += chunk.text
        if chunk.finish:
            self.finish, self.error = chunk.finish, chunk.error
            self.prompt_tokens, self.completion_tokens = chunk.prompt_tokens, chunk.completion_tokens


def usage(choices: Sequence[Choice], *, per_prompt: int = 1) -> dict[str, int]:
    """Token counts; a prompt that was answered `per_prompt` times (`n`) counts once."""
    prompt = sum(choice.prompt_tokens for choice in choices[::per_prompt])
    completion = sum(choice.completion_tokens for choice in choices)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def event(body: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


@dataclass(frozen=True)
class ChatShape:
    """`/v1/chat/completions`."""

    prefix = "chatcmpl-"
    whole = "chat.completion"
    piece = "chat.completion.chunk"

    def opening(self, index: int) -> list[dict[str, Any]]:
        """What a stream says before the first token."""
        return [
            {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        ]

    def part(self, index: int, text: str, finish: str | None) -> dict[str, Any]:
        """One piece of a stream."""
        delta = {"content": text} if text else {}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}

    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        """One choice of a whole answer."""
        message = {"role": "assistant", "content": choice.text, "refusal": None}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": choice.finish}


@dataclass(frozen=True)
class CompletionShape:
    """`/v1/completions`."""

    prefix = "cmpl-"
    whole = "text_completion"
    piece = "text_completion"

    def opening(self, index: int) -> list[dict[str, Any]]:
        """A completion stream begins with its text."""
        return []

    def part(self, index: int, text: str, finish: str | None) -> dict[str, Any]:
        """One piece of a stream."""
        return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}

    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        """One choice of a whole answer."""
        return self.part(index, choice.text, choice.finish)


Shape = ChatShape | CompletionShape
