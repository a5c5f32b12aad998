"""A diffusers pipeline as the start: its files checked, copied, opened once and described.

What enters: the files of a directory or of a hub's repository, by name. What leaves: a Model of family `pipeline`
that opens with diffusers alone, with a codec of its own beside. It belongs to `base`, which finds the files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volant.core import Model, Run, Score
from volant.core.artifact import ModelAbout
from volant.core.errors import ArtifactError, SettingError
from volant.core.spaces import Grid, space_json

INDEX = "model_index.json"
_MOST_STEPS = 100  # that are taken without being asked for; a pipeline's own may be a thousand


def adopt(run: Run, files: Mapping[str, Path], where: str) -> Model:
    """Take a pipeline.

    Args:
        run: the step's.
        files: path of each, by its name in the directory.
        where: what the user named.

    Raises:
        ArtifactError: it is a pickle, would run code of its own, or does not draw pictures of words or a class.
        SettingError: the project is not about images.
    """
    from volant.nets import pipeline_files

    if run.modality != "image":
        what = f"a diffusers pipeline makes images, and this project makes {run.modality}."
        raise SettingError(what, where=f"{run.step} source", fix="Set `modality: image`, or name another model.")
    try:
        index = pipeline_files.read_index(files[INDEX])
        for name in pipeline_files.chosen(index, files):
            target = run.out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(files[name], target)
        return _described(run, index, where)
    except ArtifactError as error:
        # The directory that failed is a scratch copy; the user knows the one that was named.
        raise ArtifactError(error.what, where=f"{run.step} {where}", fix=error.fix) from error


def _described(run: Run, index: Mapping[str, Any], where: str) -> Model:
    """Open what was copied, draw one picture for its size, and write the codec and `volant.json`."""
    from volant.modalities.image_pipeline_codec import PipelineCodec
    from volant.nets import content, pipeline_files
    from volant.nets.pipeline import family, tokenizer_json

    pipeline_files.forget_places(run.out)
    net = family.load(run.out).to(run.device)
    try:
        picture = family.sample(net, [[]], seed=run.seed, steps=2)[0]
    except Exception as error:  # whatever the classes of the parts raise where they do not fit together
        first = str(error).strip().split("\n")[0]
        raise ArtifactError(f"the pipeline opens and draws nothing: {first}", fix="Try it in diffusers.") from error
    channels, height, width = (int(n) for n in picture.shape)
    grid = Grid(channels, (height, width))
    if net.told == "words":
        text, length = tokenizer_json(net)
        codec = PipelineCodec(Grid(channels, (height, width), len(net.pipe.tokenizer), length), "words", (), text)
    elif net.told == "class":
        codec = PipelineCodec(Grid(channels, (height, width), net.classes), "class", tuple(net.names()))
    else:
        codec = PipelineCodec(grid)
    codec.save(run.out)
    parameters = content.parameters(net)
    about = ModelAbout(
        family="pipeline",
        modality=run.modality,
        engine="sampler",
        space=space_json(codec.space),
        parameters=parameters,
        extra={"architecture": str(index["_class_name"]), "base": Path(where).name, "controls": _controls(net)},
    )
    body = json.dumps(about.model_dump(mode="json"), indent=2, sort_keys=True)
    (run.out / "volant.json").write_text(body + "\n", encoding="utf-8")
    run.say(f"a {index['_class_name']} of {width} x {height} pixels, told {net.told}")
    run.score(Score.exact("parameters", parameters, direction="lower"))
    return Model(run.out)


def _controls(net: Any) -> dict[str, float]:
    """What holds where a request says nothing: the pipeline's own guidance and steps, the latter bounded."""
    found: dict[str, float] = {}
    guidance, steps = net.standard("guidance_scale"), net.standard("num_inference_steps")
    if guidance is not None:
        found["guidance"] = float(guidance)
    if steps is not None:
        found["steps"] = min(int(steps), _MOST_STEPS)
    return found
