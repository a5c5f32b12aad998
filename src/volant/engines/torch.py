"""The reference engine: a transformers model in torch, with a decode loop of its own.

What enters: a Model with safetensors, and requests. What leaves: chunks of text as they come. Its
own loop, not `model.generate`, because requests have to stream, carry their own seeds and limits,
be cancelled between two tokens, and leave the batch when done so that others can enter. Prompts are
padded on the left, keys and values are cached, rows that end give their slot to waiting ones.

Shape legend: B rows in the batch, L length in tokens, V vocabulary.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional as F

from volant.core.artifact import Model
from volant.core.errors import ArtifactError, MachineError
from volant.core.protocols import Chunk, Codec, Request, Session
from volant.engines.decoding import TextStream, choose
from volant.nets.batches import shorten
from volant.nets.transformer import family

_SCORED_BYTES = 128 * 2**20


class TorchEngine:
    """Runs any causal language model of transformers; the one that other engines are compared with."""

    name = "torch"
    version = 1
    tolerance = 0.0

    def open(self, model: Model, *, threads: int = 1, device: str = "cpu") -> Session:
        """Load the model.

        Raises:
            ArtifactError: it is damaged, or no transformers model.
            MachineError: the device is not there.
        """
        from volant.modalities import open_modality

        if (model.path / "config.json").is_file() is False:
            what = f"the torch engine runs transformers models; this one is {model.about.family!r}"
            raise ArtifactError(what, where=str(model.path), fix=f"Use its own engine, {model.about.engine!r}.")
        torch.set_num_threads(threads)
        try:
            net = family.load(model.path).to(device)
        except (RuntimeError, AssertionError) as error:
            raise MachineError(
                f"cannot use device {device!r}: {error}", where=str(model.path), fix="Set `device: cpu`."
            ) from error
        return TorchSession(net, open_modality(model.about.modality).open_codec(model.path))


@dataclass
class _Row:
    """One request on its way."""

    request: Request
    id: str
    prompt: list[int]
    room: int
    text: TextStream
    random: torch.Generator
    out: list[int] = field(default_factory=list)

    def finished(self, finish: Any, text: str = "") -> Chunk:
        """Its last chunk."""
        return Chunk(self.id, text, finish, len(self.prompt), len(self.out))


class TorchSession:
    """An open model.

    Args:
        net: a causal language model of transformers.
        codec: the one that travels with it.
        slots: how many requests run at once; more wait.
    """

    def __init__(self, net: Any, codec: Codec, *, slots: int = 16) -> None:
        self._net, self._codec, self._slots = net.eval(), codec, slots
        self.context = int(getattr(net.config, "max_position_embeddings", 0) or codec.space.length)  # type: ignore[union-attr]
        self._stop_ids = stop_ids(net, codec)
        start = getattr(net.config, "bos_token_id", None)
        self._start = start if start is not None else min(self._stop_ids, default=None)
        self._cancelled: set[str] = set()
        self._lock = threading.Lock()

    def generate(self, requests: Sequence[Request]) -> Iterator[Chunk]:
        """Run the requests together; yields chunks of all of them as they come."""
        waiting = deque(self._row(request, index) for index, request in enumerate(requests))
        known = {row.id for row in waiting}
        table = _Table(self._net)
        try:
            while waiting or table.rows:
                fresh: list[_Row] = []
                while waiting and len(table.rows) + len(fresh) < self._slots:
                    row = waiting.popleft()
                    if self._is_cancelled(row.id):
                        yield row.finished("cancelled")
                    else:
                        fresh.append(row)
                if not (fresh or table.rows):
                    continue
                with torch.inference_mode():
                    if fresh:
                        table.admit(fresh)
                    chosen = [
                        choose(logits_V, row.request, row.out, row.random)
                        for logits_V, row in zip(table.logits_BV, table.rows, strict=True)
                    ]
                yield from self._advance(table, chosen)
        finally:
            with self._lock:
                self._cancelled -= known

    def _advance(self, table: _Table, chosen: list[int]) -> Iterator[Chunk]:
        """Give each row its token; say what became readable; keep the rows that go on."""
        going = []
        for place, (row, token) in enumerate(zip(table.rows, chosen, strict=True)):
            if self._is_cancelled(row.id):
                yield row.finished("cancelled", row.text.rest())
                continue
            if token in self._stop_ids:
                yield row.finished("stop", row.text.rest())
                continue
            row.out.append(token)
            text = row.text.push(token)
            if not row.text.stopped and len(row.out) >= row.room:
                text += row.text.rest()
                yield row.finished("stop" if row.text.stopped else "length", text)
            elif row.text.stopped:
                yield row.finished("stop", text)
            else:
                going.append(place)
                if text:
                    yield Chunk(row.id, text)
        with torch.inference_mode():
            table.go_on(going, chosen)

    def logprobs(self, pairs: Sequence[tuple[Request, str]]) -> list[list[float]]:
        """For each (request, continuation): log-probability in nats of each token of the continuation.

        A continuation longer than the context is read in windows that overlap by half of it.
        """
        found: list[list[float]] = []
        windows: list[tuple[int, list[int], int]] = []
        for index, (request, continuation) in enumerate(pairs):
            wanted = self._codec.encode_text(continuation)
            prompt = self._prompt(request, min(len(wanted), self.context // 2))
            ids, at = prompt + wanted, len(prompt)
            found.append([])
            while at < len(ids):
                end = min(len(ids), max(self.context, at + self.context // 2))
                start = max(0, end - self.context)
                windows.append((index, ids[start:end], end - at))
                at = end
        # Like lengths share a batch; the sort is stable, so a continuation's windows stay in order.
        scored: dict[int, list[float]] = {}
        order = sorted(range(len(windows)), key=lambda w: len(windows[w][1]))
        vocab = int(self._net.config.vocab_size)
        while order:
            longest, group = 0, list[int]()
            while order and len(group) < 64:
                longest = len(windows[order[0]][1])
                if group and 4 * vocab * longest * (len(group) + 1) > _SCORED_BYTES:
                    break
                group.append(order.pop(0))
            scored |= zip(group, self._score([windows[w][1:] for w in group]), strict=True)
        for place, (index, _, _) in enumerate(windows):
            found[index] += scored[place]
        return found

    @torch.inference_mode()
    def _score(self, rows: Sequence[tuple[list[int], int]]) -> list[list[float]]:
        """Log-probabilities of the last `n` ids of each row."""
        width = max(len(ids) for ids, _ in rows)
        ids_BL = torch.zeros(len(rows), width, dtype=torch.int64)
        real_BL = torch.zeros_like(ids_BL)
        for place, (ids, _) in enumerate(rows):
            ids_BL[place, : len(ids)], real_BL[place, : len(ids)] = torch.tensor(ids), 1
        device = self._net.device
        ids_BL = ids_BL.to(device)
        mask = None if bool(real_BL.all()) else real_BL.to(device)
        logits_BLV = self._net(input_ids=ids_BL, attention_mask=mask, use_cache=False).logits[:, :-1].float()
        logp_BL = -F.cross_entropy(logits_BLV.transpose(1, 2), ids_BL[:, 1:], reduction="none").cpu()
        return [logp_BL[p, len(ids) - 1 - n : len(ids) - 1].tolist() for p, (ids, n) in enumerate(rows)]

    def cancel(self, id: str) -> None:
        """End a running or waiting request at the next token and free its slot."""
        with self._lock:
            if len(self._cancelled) < 10_000:
                self._cancelled.add(id)

    def close(self) -> None:
        """Free memory."""
        self._net = None

    def tokens(self, request: Request) -> int:
        """How many tokens the request's prompt has before any shortening."""
        return len(self._ids(request))

    def _is_cancelled(self, id: str) -> bool:
        with self._lock:
            return id in self._cancelled

    def _row(self, request: Request, index: int) -> _Row:
        prompt = self._prompt(request, min(request.max_tokens, self.context // 2))
        room = max(1, min(request.max_tokens, self.context - len(prompt)))
        random = torch.Generator().manual_seed(request.seed % 2**63)
        return _Row(request, request.id or str(index), prompt, room, TextStream(self._codec, request.stop), random)

    def _ids(self, request: Request) -> list[int]:
        if request.messages:
            return list(self._codec.encode_prompt(request.messages))
        start = [] if self._start is None else [int(self._start)]
        return start + list(self._codec.encode_text(request.prompt or ""))

    def _prompt(self, request: Request, reserved: int) -> list[int]:
        """The prompt's ids, shortened to leave `reserved` tokens; plain text keeps its tail."""
        ids, room = self._ids(request), max(1, self.context - reserved)
        if len(ids) <= room:
            return ids or [0]
        return shorten(ids, room) if request.messages else ids[-room:]


class _Table:
    """The rows that run now, with their cached keys and values, all padded on the left to one length."""

    def __init__(self, net: Any) -> None:
        self._net = net
        self.rows: list[_Row] = []
        self.logits_BV = torch.empty(0, 0)
        self._real_BL = torch.empty(0, 0, dtype=torch.int64)
        self._cache: Any = None

    def admit(self, rows: list[_Row]) -> None:
        """Read the prompts of new rows, each once however many ask it, and join them to the running ones."""
        from transformers import DynamicCache

        once = {prompt: place for place, prompt in enumerate(dict.fromkeys(tuple(row.prompt) for row in rows))}
        width = max(map(len, once))
        ids_BL = torch.zeros(len(once), width, dtype=torch.int64)
        real_BL = torch.zeros(len(once), width, dtype=torch.int64)
        for prompt, place in once.items():
            ids_BL[place, width - len(prompt) :] = torch.tensor(prompt)
            real_BL[place, width - len(prompt) :] = 1
        positions_BL = (real_BL.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache()
        logits_BV = self._forward(ids_BL, real_BL, positions_BL, cache)
        if len(once) < len(rows):
            place_B = torch.tensor([once[tuple(row.prompt)] for row in rows])
            cache.batch_select_indices(place_B.to(self._net.device))
            real_BL, logits_BV = real_BL[place_B], logits_BV[place_B]
        if not self.rows:
            self._cache, self._real_BL, self.logits_BV = cache, real_BL, logits_BV
        else:
            self._join(cache, real_BL, logits_BV)
        self.rows = [*self.rows, *rows]

    def _join(self, cache: Any, real_BL: torch.Tensor, logits_BV: torch.Tensor) -> None:
        width = max(self._real_BL.size(1), real_BL.size(1))
        for mine, theirs in zip(self._cache.layers, cache.layers, strict=True):
            mine.keys = torch.cat([_pad_left(mine.keys, width), _pad_left(theirs.keys, width)])
            mine.values = torch.cat([_pad_left(mine.values, width), _pad_left(theirs.values, width)])
        pads = [F.pad(real, (width - real.size(1), 0)) for real in (self._real_BL, real_BL)]
        self._real_BL, self.logits_BV = torch.cat(pads), torch.cat([self.logits_BV, logits_BV])

    def go_on(self, places: list[int], chosen: list[int]) -> None:
        """Keep the rows at `places`, feed each its chosen token, and have the next logits."""
        if len(places) < len(self.rows):
            self.rows = [self.rows[p] for p in places]
            self._keep(places)
        if not self.rows:
            return
        ids_BL = torch.tensor([[chosen[p]] for p in places])
        self._real_BL = F.pad(self._real_BL, (0, 1), value=1)
        positions_BL = self._real_BL.sum(-1, keepdim=True) - 1
        self.logits_BV = self._forward(ids_BL, self._real_BL, positions_BL, self._cache)

    def _keep(self, places: list[int]) -> None:
        if not places:
            self._cache = None
            return
        index = torch.tensor(places)
        self._real_BL = self._real_BL[index]
        # Columns that are padding in every row that is left only cost time.
        cut = int(self._real_BL.any(0).int().argmax())
        self._real_BL = self._real_BL[:, cut:]
        device_index = index.to(self._net.device)
        for layer in self._cache.layers:
            layer.keys, layer.values = layer.keys[device_index, :, cut:], layer.values[device_index, :, cut:]

    def _forward(self, ids_BL: torch.Tensor, real_BL: torch.Tensor, positions_BL: torch.Tensor, cache: Any) -> Any:
        device = self._net.device
        reply = self._net(
            input_ids=ids_BL.to(device),
            attention_mask=None if bool(real_BL.all()) else real_BL.to(device),
            position_ids=positions_BL.to(device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return reply.logits[:, -1].float().cpu()


def stop_ids(net: Any, codec: Codec) -> frozenset[int]:
    """Ids that end a generation: what the model's configuration and the codec say."""
    said = [getattr(c, "eos_token_id", None) for c in (net.config, getattr(net, "generation_config", None))]
    said += [getattr(codec, "eos_id", None), getattr(codec, "stop_ids", None)]
    found: set[int] = set()
    for value in said:
        found.update([value] if isinstance(value, int) else value or ())
    return frozenset(found)


def _pad_left(cached_BHLD: torch.Tensor, width: int) -> torch.Tensor:
    return F.pad(cached_BHLD, (0, 0, width - cached_BHLD.size(2), 0))


engine = TorchEngine()
