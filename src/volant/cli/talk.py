"""Talking to a model: `volant generate` for one answer, `volant chat` for a conversation.

Enters: words from the command line or the keyboard. Leaves: the model's words as they come; for content
other than text files, in the form that its modality delivers. Both open the same engine that the server
uses, so what is seen here is what people get.
"""

from __future__ import annotations

import signal
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from volant.cli import complete, files, place, present
from volant.core.artifact import Model, Prompt
from volant.core.errors import RemoteError, SettingError, VolantError
from volant.core.protocols import Chunk, Request, Session

if TYPE_CHECKING:
    from volant.project import Project

Name = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Alias, step or digest; the champion, else the newest, by default.",
        autocompletion=complete.things,
    ),
]
PromptName = Annotated[
    str,
    typer.Option(
        "--prompt", help="A Prompt (step or digest) to put before every request.", autocompletion=complete.things
    ),
]
Most = Annotated[int, typer.Option("--max-tokens", help="The longest answer, in tokens.", min=1, max=100_000)]
Heat = Annotated[float, typer.Option("--temperature", help="0 is greedy; higher is more varied.", min=0.0, max=5.0)]
TopP = Annotated[
    float, typer.Option("--top-p", help="Sample from the most probable tokens that sum to this.", min=0.0, max=1.0)
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same answer.")]
Controls = Annotated[
    list[str] | None, typer.Option(help="A control of the model's family, as `guidance=2`; may come repeatedly.")
]


def open_session(opened: Project, name: str, prompt: str = "") -> tuple[Model, Session]:
    """Open the model of that name (or the champion, or the newest) in its engine."""
    from volant.engines import open_model

    model = place.artifact(opened, name, Model) if name else place.newest(opened, Model, prefer="champion")
    shots = place.artifact(opened, prompt, Prompt) if prompt else None
    return model, open_model(model, prompt=shots, threads=opened.threads, device=opened.device)


def generate(
    prompts: Annotated[
        list[str] | None, typer.Argument(help="What to ask; `-` or nothing reads standard input.")
    ] = None,
    model: Name = "",
    prompt: PromptName = "",
    max_tokens: Most = 128,
    temperature: Heat = 0.0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
    number: Annotated[int, typer.Option("--number", "-n", help="Answers to each prompt.", min=1, max=100_000)] = 1,
    control: Controls = None,
    out: Annotated[Path, typer.Option(help="The folder that files go to, for content other than text.")] = Path(),
    form: Annotated[str, typer.Option(help="Their form (png, csv); the modality's own by default.")] = "",
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the text as it stands, without the chat template.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON list with answers and token counts.")] = False,
) -> None:
    """Ask a model once, or several prompts in one go; content other than text is written to files.

    Examples:

        volant generate "Write a docstring: def add(a, b): return a + b"

        cat question.txt | volant generate --model tuned --max-tokens 200

        volant generate "a red cup" --number 4 --control guidance=2 --out cups
    """
    opened = place.project()
    found, session = open_session(opened, model, prompt)
    try:
        made = not speaks(found)
        asked = [text for text in _asked(prompts, made) for _ in range(number)]
        own = controls_of(control)
        controls = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "controls": own}
        requests = [_request(text, seed + i, raw=raw or made, **controls) for i, text in enumerate(asked)]
        answers = _gather(session, requests, show=not json and not made and len(requests) == 1)
    finally:
        session.close()
    for words in dict.fromkeys(tuple(a["sample"].attrs.get("ignored", ())) for a in answers.values() if "sample" in a):
        if words:
            print(f"The model was not told: {', '.join(words)}", file=sys.stderr)
    if made:
        files.write(found.about.modality, requests, answers, out, form)
    if json:
        told = {r.id: {k: v for k, v in answers[r.id].items() if k != "sample"} for r in requests}
        present.as_json([{"prompt": text, **told[r.id]} for text, r in zip(asked, requests, strict=True)])
    elif made:
        for name in dict.fromkeys(a["file"] for a in answers.values() if a.get("file")):
            present.say(name)
    elif len(requests) > 1:
        for text, request in zip(asked, requests, strict=True):
            present.say(f"> {text.strip()}\n{answers[request.id]['text']}\n")
    failed = [a["error"] for a in answers.values() if a["finish"] == "error"]
    if failed:
        raise RemoteError(
            failed[0] or "the engine gave no answer.", where="generate", fix="Look at the model with `volant show`."
        )


def speaks(model: Model) -> bool:
    """Whether the model takes and gives text."""
    from volant.serving import service

    return service.speaks(service.modality_routes(model))


def _asked(prompts: list[str] | None, made: bool) -> list[str]:
    """The prompts; content can be asked for without a word, text cannot."""
    if made and not prompts:
        return [""]
    asked = [sys.stdin.read()] if not prompts or prompts == ["-"] else prompts
    if not made and not any(text.strip() for text in asked):
        raise SettingError("there is nothing to ask.", fix='As in: volant generate "your question"')
    return [text.strip() for text in asked] if made else asked


def controls_of(words: list[str] | None) -> dict[str, float]:
    """`["guidance=2"]` as `{"guidance": 2.0}`."""
    found = {}
    for word in words or ():
        name, _, value = word.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            what = f"{word!r} is no control."
            raise SettingError(what, where="--control", fix="As in: --control guidance=2") from None
    return found


def _request(text: str, seed: int, *, raw: bool, **controls: Any) -> Request:
    if raw:
        return Request(id=uuid.uuid4().hex, prompt=text, seed=seed, **controls)
    return Request(id=uuid.uuid4().hex, messages=({"role": "user", "content": text},), seed=seed, **controls)


def _gather(session: Session, requests: Sequence[Request], *, show: bool) -> dict[str, dict[str, Any]]:
    answers: dict[str, dict[str, Any]] = {
        r.id: {"text": "", "finish": "", "prompt_tokens": 0, "completion_tokens": 0, "error": ""} for r in requests
    }
    for chunk in session.generate(requests):
        answer = answers[chunk.id]
        answer["text"] += chunk.text
        if chunk.finish:
            answer.update(finish=chunk.finish, prompt_tokens=chunk.prompt_tokens)
            answer.update(completion_tokens=chunk.completion_tokens, error=chunk.error)
            if chunk.sample is not None:
                answer["sample"] = chunk.sample
        if show:
            print(chunk.text, end="", flush=True)
    if show:
        print()
    return answers


def chat(
    model: Name = "",
    prompt: PromptName = "",
    system: Annotated[str, typer.Option(help="An instruction that stands before the conversation.")] = "",
    max_tokens: Most = 256,
    temperature: Heat = 0.7,
    top_p: TopP = 0.95,
    seed: Seed = 0,
) -> None:
    """Talk with a model; the answer appears as it is made.

    In the chat, /new forgets the conversation, /again asks the last question with another seed, and /exit
    or Ctrl-D leaves. Ctrl-C ends the answer, not the chat.

    Example:  volant chat --model tuned
    """
    opened = place.project()
    found, session = open_session(opened, model, prompt)
    if not speaks(found):
        session.close()
        what = f"the model makes {found.about.modality} and cannot talk."
        raise SettingError(what, where="chat", fix="Ask it with `volant generate`, which writes files.")
    talk = Conversation(session, system, {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p}, seed)
    present.say(f"Model {found.digest[:12]}, {found.about.parameters:,} parameters. /exit leaves, /new starts over.")
    try:
        for line in _lines():
            if line in ("/exit", "/quit"):
                break
            talk.hear(line)
    finally:
        session.close()


def _lines() -> Iterator[str]:
    """What the person types, line by line; a line that ends with a backslash goes on."""
    if sys.stdin.isatty():
        import readline  # noqa: F401 - importing it gives `input` history and editing
    held: list[str] = []
    while True:
        try:
            line = input(". " if held else "> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if line.endswith("\\"):
            held.append(line[:-1])
            continue
        text = "\n".join([*held, line]).strip()
        held = []
        if text:
            yield text


class Conversation:
    """A chat's turns, and the session that answers.

    Args:
        controls: sampling settings of every request.
    """

    def __init__(self, session: Session, system: str, controls: dict[str, Any], seed: int) -> None:
        self.session, self.controls, self.seed = session, controls, seed
        self.start = [{"role": "system", "content": system}] if system else []
        self.turns: list[dict[str, str]] = list(self.start)

    def hear(self, line: str) -> None:
        """Take one line of the person: a command, or a message that gets an answer."""
        if line == "/new":
            self.turns = list(self.start)
            present.say("(a new conversation)")
            return
        if line == "/again":
            if not self.turns or self.turns[-1]["role"] != "assistant":
                present.say("(there is no answer to make again)")
                return
            self.turns.pop()
            self.seed += 1
        elif line.startswith("/"):
            present.say("(known: /new, /again, /exit)")
            return
        else:
            self.turns.append({"role": "user", "content": line})
        try:
            answer = self.answer()
        except VolantError as error:
            present.fail(error)
            self.turns.pop()
            return
        self.turns.append({"role": "assistant", "content": answer})

    def answer(self) -> str:
        """Ask the model and show its words as they come; Ctrl-C cancels the rest."""
        request = Request(id=uuid.uuid4().hex, messages=tuple(self.turns), seed=self.seed, **self.controls)
        before = signal.signal(signal.SIGINT, lambda *_: self.session.cancel(request.id))
        text, last = "", Chunk(request.id, "")
        try:
            for chunk in self.session.generate([request]):
                text, last = text + chunk.text, chunk
                print(chunk.text, end="", flush=True)
        finally:
            signal.signal(signal.SIGINT, before)
            print()
        if last.finish == "error":
            raise RemoteError(
                last.error or "the engine gave no answer.", where="chat", fix="Try a shorter message, or /new."
            )
        if last.finish == "cancelled":
            present.say("(ended)")
        return text
