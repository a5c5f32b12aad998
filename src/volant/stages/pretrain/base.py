"""Start from a model that exists: one that comes with Volant, a local directory, a hub name, or a hosted service.

What enters: a name. What leaves: a Model with the base's own files (weights in safetensors,
configuration, tokenizer; for images a whole diffusers pipeline), so that every later stage treats it
like one trained here; or, for a hosted model, a description alone. Only safetensors are taken, code
that a repository brings is never run, and a configuration that asks for it is refused.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from volant.core import Hub, Model, Run, Score
from volant.core.artifact import ModelAbout
from volant.core.errors import ArtifactError, MissingPackage, RemoteError, SettingError
from volant.core.spaces import Tokens, space_json
from volant.stages.pretrain import pipelines

_TAKEN = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "LICENSE*",
    "volant.json",  # of a model that Volant made: the template that it was trained with is held against the one here
)


_SWITCH = "enable_thinking"
# In the template itself, so that whoever opens the model puts prompts to it as they were learnt. Who names the switch
# is still heard.
_OFF = f"{{%- set {_SWITCH} = {_SWITCH} | default(false) -%}}"


def base(
    run: Run,
    *,
    source: Hub,
    revision: str = "main",
    address: str = "",
    key_env: Annotated[str, Field(pattern=r"^([A-Z_][A-Z0-9_]*)?$")] = "",
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4,
    thinking: bool = False,
) -> Model:
    """Take an existing model as the start.

    Args:
        source: `volant/docstrings`, the small base that comes with Volant; or a directory with a transformers model or
            a diffusers pipeline (`model_index.json`), or the name of one on the Hugging Face hub; with `address`, the
            model's name at that service.
        revision: branch, tag or commit on the hub; a commit makes the result repeatable. Not used for a directory.
        address: of an OpenAI-compatible service, up to and with `/v1`; nothing is downloaded then, and every
            later use of the model sends its prompts there.
        key_env: name of the environment variable that holds the service's key; the key itself is stored nowhere.
        concurrency: requests to the service that are under way at once; more are faster and hit limits sooner.
        thinking: of a model whose chat template can switch thoughts on and off (Qwen3's `enable_thinking`): leave them
            on. Off, it answers at once, and learns answers without thoughts as they stand in the data. Answers that
            hold their thoughts (`<think>...</think>`) want it on.
    """
    if address:
        return _hosted(run, str(source), address, key_env, concurrency)
    snapshot = run.snapshot("source")
    if snapshot.files:
        files, where = {f.name: f.path for f in snapshot.files}, str(source)
    else:
        folder = _fetched(run, str(snapshot.facts.get("name", source)), revision)
        files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
        where = f"{source}@{revision}"
    if pipelines.INDEX in files:
        return pipelines.adopt(run, files, where)
    for name, path in files.items():
        if "/" not in name and _is_taken(name):
            shutil.copyfile(path, run.out / name)
    return _adopt(run, where, sorted(f.name for f in snapshot.files), thinking=thinking)


def _is_taken(name: str) -> bool:
    return any(Path(name).match(pattern) for pattern in _TAKEN)


def _hosted(run: Run, name: str, address: str, key_env: str, concurrency: int) -> Model:
    from pydantic import ValidationError

    from volant.engines.remote import RemoteAddress

    try:
        place = RemoteAddress(url=address, name=name, key_env=key_env, concurrency=concurrency)
    except ValidationError as error:
        raise SettingError(f"{error.errors()[0]['msg']}.", where=f"{run.step} address") from error
    about = ModelAbout(family="remote", modality=run.modality, engine="remote", extra=place.model_dump(mode="json"))
    _write(run.out / "volant.json", about.model_dump(mode="json"))
    run.say(f"prompts to this model are sent to {place.url}")
    return Model(run.out)


def _fetched(run: Run, name: str, revision: str) -> Path:
    """The files of a hub repository, in the hub's own cache: those of a pipeline where it is one."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingPackage("huggingface_hub is needed for hub names", fix="pip install huggingface_hub") from error
    from volant.nets import pipeline_files
    from volant.store.hub import hub_errors

    run.say(f"fetching {name} from the hub")
    try:
        first = Path(snapshot_download(name, revision=revision, allow_patterns=[pipelines.INDEX]))
        if not (first / pipelines.INDEX).is_file():
            return Path(snapshot_download(name, revision=revision, allow_patterns=list(_TAKEN)))
        # The second call names the commit of the first, in case the branch moves between them.
        commit = first.name if re.fullmatch(r"[0-9a-f]{40}", first.name) else revision
        wanted = pipeline_files.patterns(pipeline_files.read_index(first / pipelines.INDEX))
        left_out = list(pipeline_files.LEFT_OUT)
        return Path(snapshot_download(name, revision=commit, allow_patterns=wanted, ignore_patterns=left_out))
    except ArtifactError as error:
        raise ArtifactError(error.what, where=f"{run.step} {name}@{revision}", fix=error.fix) from error
    except hub_errors() as error:
        said = str(error).strip().split("\n")[0]
        fix = "Check the name and the network, or name a local directory (./models/name)."
        raise RemoteError(f"cannot fetch {name!r} from the hub: {said}", where=run.step, fix=fix) from error


def _adopt(run: Run, where: str, names: list[str], *, thinking: bool) -> Model:
    """Check what was copied, open it once, and describe it."""
    from volant.modalities import open_modality
    from volant.nets.transformer import check_files, family

    pickled = [n for n in names if n.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl"))]
    try:
        if not (run.out / "config.json").is_file():
            raise ArtifactError("it holds no config.json", fix="Name a transformers model directory.")
        if pickled and not list(run.out.glob("*.safetensors")):
            what = f"its weights are a pickle ({pickled[0]}), which can run code when it is read"
            raise ArtifactError(what, fix="Convert it to safetensors where you trust it, then name the result.")
        check_files(run.out)
        _plain_config(run.out / "config.json")
        codec = open_modality(run.modality).open_codec(run.out)
        if _SWITCH in getattr(codec, "chat_template", "") and not (thinking or (run.out / "volant.json").is_file()):
            (run.out / "chat_template.jinja").write_text(f"{_OFF}{codec.chat_template}", encoding="utf-8")
            codec = open_modality(run.modality).open_codec(run.out)
            run.say("its chat template can think: it is set not to (`thinking: true` leaves it on)")
        net = family.load(run.out)
    except ArtifactError as error:
        # The directory that failed is a scratch copy; the user knows the one that was named.
        raise ArtifactError(error.what, where=f"{run.step} {where}", fix=error.fix) from error
    space = codec.space
    assert isinstance(space, Tokens)
    vocab = int(net.config.vocab_size)
    if space.vocab > vocab:
        what = f"the tokenizer knows {space.vocab} tokens and the model {vocab}"
        raise ArtifactError(what, where=f"{run.step} {where}", fix="Fetch the tokenizer that belongs to the model.")
    parameters = sum(p.numel() for p in net.parameters())
    about = ModelAbout(
        family="transformer",
        modality=run.modality,
        space=space_json(Tokens(vocab, space.length)),
        chat_template_sha256=str(getattr(codec, "template_sha256", "")),
        parameters=parameters,
        extra={"architecture": str((net.config.architectures or [""])[0]), "base": Path(where).name},
    )
    _write(run.out / "volant.json", about.model_dump(mode="json"))
    if not getattr(codec, "had_template", True):
        codec.save(run.out)
        run.say("the base has no chat template; a plain one was added")
    run.score(Score.exact("parameters", parameters, direction="lower"))
    return Model(run.out)


def _plain_config(config: Path) -> None:
    body = json.loads(config.read_text(encoding="utf-8"))
    if body.pop("_name_or_path", None) is not None:
        _write(config, body)


def _write(file: Path, body: dict[str, Any]) -> None:
    file.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", encoding="utf-8")
