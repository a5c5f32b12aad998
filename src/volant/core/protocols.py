"""The extension points: one small protocol each. `volant.testing.check_<point>` is each one's contract.

Shape legend: B batch, L length in tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from volant.core.artifact import Model
from volant.core.outside import OutsideFile
from volant.core.run import Run
from volant.core.sample import Sample, Source
from volant.core.score import Direction, Score
from volant.core.spaces import Encoded, Example, Space

# --- modality: what an example is -------------------------------------------------------------


class ContentCodec(Protocol):
    """A codec whose examples are no text to be continued: an image, a row.

    Its space may be any; with tokens, `encode` gives `Encoded`, `decode` takes ids, and `ranges` says which
    ids may stand at each position. What a condition says in words (a caption, a class, `income > 50K`) goes
    to the network as ids where it knows such, and is held by `fits` where it does not.
    """

    space: Space

    def encode(self, sample: Sample) -> Example | Encoded:
        """A sample as numbers, with its condition."""

    def decode(self, values: Any, condition: str = "") -> Sample:
        """Numbers (or ids) as a sample of origin `generated`, asked for by `condition`.

        Raises:
            DataError: they are none that a sample can be made of.
        """

    def condition(self, text: str) -> tuple[int, ...]:
        """What is asked for in words, as ids for the network; empty for no condition.

        Raises:
            DataError: nothing like it was in the training data; the message names what was.
        """

    def fits(self, sample: Sample, condition: str) -> bool:
        """Whether a decoded sample keeps the declared constraints and what the condition asks."""

    def save(self, folder: Path) -> None:
        """Write the codec's files beside the model's."""


class Codec(Protocol):
    """Turns text samples into tokens and back. It is fitted once and travels with the model."""

    space: Space

    def encode(self, sample: Sample) -> Encoded:
        """A sample as ids with its loss mask."""

    def encode_prompt(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Chat messages as the ids that a model continues (generation prompt added)."""

    def encode_text(self, text: str) -> list[int]:
        """Plain text as ids, without template or special tokens."""

    def decode(self, ids: Sequence[int]) -> str:
        """Ids as text, special tokens left out."""

    def save(self, folder: Path) -> None:
        """Write the codec's files beside the model's, in the ecosystem's format."""


@dataclass(frozen=True)
class Refusal:
    """A record that could not be used, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class Route:
    """A route of the server, as pure functions between bodies and samples.

    Attributes:
        body: a pydantic model of the request's body; every number in it is bounded, unknown keys are refused.
        asked: the checked body as (condition, controls, how many samples).
        answer: the samples that came, and the body, as the answer's JSON.
        example: a body for the smoke test.
        taught: a recorded body and answer as samples, for `improve.harvest`; empty where nothing can be learnt.
    """

    body: type[Any]
    asked: Callable[[Any], tuple[str, dict[str, Any], int]]
    answer: Callable[[Sequence[Sample], Any], dict[str, Any]]
    example: Mapping[str, Any]
    taught: Callable[[Mapping[str, Any], Mapping[str, Any]], list[Sample]]


class Modality(Protocol):
    """What an example of this kind is."""

    name: str
    version: int
    media_type: str
    shapes: tuple[str, ...]

    def load(self, file: OutsideFile, source: Source, **options: Any) -> Iterator[Sample | Refusal]:
        """Samples of one file, in order; a bad record becomes a Refusal and the rest goes on."""

    def check(self, sample: Sample) -> list[str]:
        """What is wrong with a sample, in words; empty when it may be used."""

    def fingerprint(self, sample: Sample) -> Sequence[int]:
        """A near-duplicate signature of fixed length: equal entries / length estimates Jaccard similarity."""

    def spaces(self) -> tuple[str, ...]:
        """The types of the spaces that its codecs offer, preferred first."""

    def codec(self, samples: Iterable[Sample], **options: Any) -> Any:
        """Fit a codec on samples: a `Codec` for text, a `ContentCodec` for others.

        Args:
            samples: of the training split.
            options: `space` names one of `spaces()`, the first by default; the rest is the modality's own.
        """

    def open_codec(self, folder: Path) -> Any:
        """The codec that travels with a model."""

    def features(self, samples: Sequence[Sample]) -> Any:
        """Samples as a float32 matrix [n, d] for drift, search and slices; deterministic, needs no fit."""

    def parts(self, samples: Sequence[Sample]) -> Mapping[str, Sequence[float | str]]:
        """Named scalar parts, one value a sample: the columns of a row, the brightness and class of an image.

        Drift is looked for in each of them. A part with a string in it is categorical; NaN or an empty string is a
        missing value. Empty for text, whose lengths and words are compared.
        """

    def preview(self, samples: Sequence[Sample]) -> str:
        """A few samples as an HTML fragment, escaped."""

    def forms(self) -> Mapping[str, str]:
        """What `deliver` offers, with the ending of its files; the usual one first (`{"png": ".png"}`)."""

    def deliver(self, samples: Sequence[Sample], form: str) -> bytes:
        """Samples in a format that people use (`markdown`, `png`, `csv`); readable by `load` again."""

    def baselines(self) -> Mapping[str, tuple[str, dict[str, Any]]]:
        """Trivial rivals by name: the family and its size (`{"ngram": ("ngram", {"order": 5})}`)."""

    def scorers(self) -> Sequence[str]:
        """The scorers that judge it, by name."""

    def gates(self) -> Sequence[str]:
        """The scorers that have to hold together, on one set of samples, before a model is promoted."""

    def api(self) -> Mapping[str, str | Route]:
        """Routes that the server offers: path to `chat` or `completion` for text, to a `Route` for others."""


# --- family: how to learn ---------------------------------------------------------------------


class Family(Protocol):
    """How to learn tensors of a kind of space. `net` is whatever `build` returns.

    A family that is trained by the loop has `step_loss(net, batch) -> (sum, count)`; one that is fitted at once
    has `estimate(net, examples, *, seed)` in its place.

    Attributes:
        accepts: types of spaces, preferred first.
        controls: what `sample` takes beside the seed, with the smallest and the largest value of each.
    """

    name: str
    version: int
    accepts: tuple[str, ...]
    controls: Mapping[str, tuple[float, float]]

    def build(self, space: Space, *, seed: int, **size: Any) -> Any:
        """A fresh network (or estimator) for the space; same seed, same weights."""

    def loss(self, net: Any, batch: Any) -> Any:
        """The mean training loss of a batch, differentiable where the family is."""

    def sample(self, net: Any, prompts: Sequence[Sequence[int]], *, seed: int, **controls: Any) -> Any:
        """One example for each prompt; the same seed gives the same ones.

        Args:
            net: from `build` or `load`.
            prompts: token ids to continue, or condition ids (empty for no condition).
            seed: of all draws. With `seeds` (one a prompt) among the controls each example depends on its own
                alone, whatever else is in the batch.
            controls: what the family offers (`temperature`, `guidance`, `steps`); `controls()` names them.

        Returns:
            Lists of ids for tokens, a float array [n, ...] of the space's shape for others.
        """

    def logp(self, net: Any, batch: Any) -> Any:
        """Log-probability in nats of each position's next token [B, L-1], or None where the family has none."""

    def export(self) -> tuple[str, ...]:
        """The formats that `compress` can turn it into."""

    def save(self, net: Any, folder: Path) -> None:
        """Write weights and configuration (safetensors)."""

    def load(self, folder: Path) -> Any:
        """Read them back, bit-exactly."""


# --- engine: how to run a model ---------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """One generation. Exactly one of `messages` and `prompt` is set. Every bound was checked before.

    Attributes:
        prompt: plain text to continue (no template); for content other than text, the condition in words.
        temperature: 0 is greedy.
        stop: strings that end the text; they are not part of it.
        schema: a JSON Schema that the output has to follow, where the engine supports it.
        repetition_penalty: on ids that were generated already; 1.0 is none.
        controls: further settings of the model's family (`guidance`, `steps`); unknown ones are refused.
    """

    id: str = ""
    messages: tuple[Mapping[str, str], ...] = ()
    prompt: str | None = None
    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    schema: Mapping[str, Any] | None = None
    controls: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Chunk:
    """A piece of one request's output; the last one of a request has `finish` set and carries the counts.

    Content other than text comes whole, as the `sample` of the last chunk.

    Attributes:
        error: why it ended with `error`.
        refused: the request asked for what this model cannot give, and `error` says so to whoever asked; without it
            an `error` is the engine's own failure, and what it says is for the log.
    """

    id: str
    text: str
    finish: Literal["", "stop", "length", "cancelled", "error"] = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str = ""
    sample: Sample | None = None
    refused: bool = False


@dataclass
class Output:
    """A finished generation, for scorers and delivery; `sample` holds what is no text."""

    text: str
    request: Request = field(default_factory=Request)
    finish: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    sample: Sample | None = None


class Session(Protocol):
    """A model opened by an engine. `generate` may be called from one thread at a time; `cancel` from any."""

    def generate(self, requests: Sequence[Request]) -> Iterator[Chunk]:
        """Run the requests together; yields chunks of all of them as they come."""

    def logprobs(self, pairs: Sequence[tuple[Request, str]]) -> list[list[float]]:
        """For each (request, continuation): log-probability in nats of each token of the continuation.

        Raises:
            NotImplementedError: the engine cannot tell (a remote service).
        """

    def cancel(self, id: str) -> None:
        """End a running request at the next token and free its slot."""

    def close(self) -> None:
        """Free memory and threads."""


class Engine(Protocol):
    """How to run a trained model. `tolerance` is the largest log-probability difference to torch, in nats."""

    name: str
    version: int
    tolerance: float

    def open(self, model: Model, *, threads: int = 1, device: str = "cpu") -> Session:
        """Load the model. Raises `ArtifactError` for one that this engine cannot run."""


# --- scorer: how to judge ---------------------------------------------------------------------


@runtime_checkable
class Scorer(Protocol):
    """Judges outputs; serves as filter, reward, benchmark, monitor and gate.

    Attributes:
        ladder: what it has to rank in this order in its contract test: one of `fidelity` (real >
            baseline > noise), `memorisation` (fresh > half copied > copied), `diversity` (real >
            half collapsed > collapsed), `planted` (neutral > planted 10 % > planted 50 %), `code` and `json`
            (right > half broken > broken).
    """

    name: str
    version: int
    unit: str
    direction: Direction
    ladder: str

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """One value an example, in the order given; what the paired tests work on."""

    def score(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[Score]:
        """The figures with intervals. Raises `DataError` for n = 0."""


# --- runner and channel -----------------------------------------------------------------------


class Handle(Protocol):
    """Submitted work."""

    def result(self) -> Any:
        """Wait; returns what the call returned or raises what it raised."""


class Runner(Protocol):
    """Where work happens."""

    name: str

    def submit(self, call: Any, run: Run, *arguments: Any) -> Handle:
        """Start `call(run, *arguments)`."""


@dataclass(frozen=True)
class Receipt:
    """What a channel says of one sample: delivered where, or refused why."""

    id: str
    where: str = ""
    refused: str = ""


class Channel(Protocol):
    """Where content goes. Sending the same sample again delivers nothing twice."""

    name: str

    def send(self, sample: Sample) -> Receipt:
        """Deliver one sample."""
