"""The engine that runs image models through ONNX Runtime, from a file that `compress.onnx` wrote.

What enters: requests, as in `engines/sampler.py`, whose session this is: noise, steps and guidance are the family's
own code, and only what the network answers comes from the file. So the same seed draws the same sample as torch,
within rounding. An ONNX file is opened only where its digest is the one that the model states and was sealed with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch

from volant.core.artifact import Model
from volant.core.errors import ArtifactError, MachineError, SettingError
from volant.core.protocols import Session
from volant.nets.session import DrawSession

FILE = "model.onnx"


class OnnxEngine:
    """Opens what `compress.onnx` made."""

    name = "onnx"
    version = 1
    tolerance = 1e-3

    def open(self, model: Model, *, threads: int = 1, device: str = "cpu") -> Session:
        """Load the file into ONNX Runtime, on the processor.

        Raises:
            ArtifactError: it is damaged, or not the file that was made with the model.
            MachineError: a device other than the processor is asked for.
        """
        from volant.modalities import open_modality
        from volant.nets import open_family
        from volant.nets.opened import open_codec

        about = model.about
        if device != "cpu":
            what = f"the engine onnx runs on the processor, not on {device!r}."
            raise MachineError(what, where=str(model.path), fix="Set `device: cpu`.")
        torch.set_num_threads(threads)
        family: Any = open_family(about.family)
        facts = about.extra.get("onnx", {}).get("facts", {})
        answer = Answerer(checked(model), threads=threads, where=str(model.path))
        try:
            net = family.from_onnx(answer, facts)
        except (AttributeError, KeyError, TypeError, ValueError, SettingError) as error:
            what = f"volant.json does not say how a {about.family} asks its ONNX file: {error}"
            raise ArtifactError(what, where=str(model.path), fix="Make it again with `compress.onnx`.") from error
        codec = open_codec(open_modality(about.modality), model.path)
        return DrawSession(family, net, codec, about.extra.get("controls", {}))


class Answerer:
    """An ONNX file as a function of tensors by name.

    Args:
        content: of the file.
        threads: for the arithmetic.
        where: the file's place, for messages.

    Raises:
        ArtifactError: the content is no ONNX that the runtime knows.
    """

    def __init__(self, content: bytes, *, threads: int = 1, where: str = "") -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's errors have no common class
            first = str(error).strip().split("\n")[0]
            raise ArtifactError(
                f"the ONNX file cannot be opened: {first}", where=where, fix="Run `volant verify`."
            ) from error
        self._names = {i.name for i in self._session.get_inputs()}

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The output; inputs that the file does not need are left out."""
        given = {name: tensor.numpy() for name, tensor in inputs.items() if name in self._names}
        return torch.from_numpy(self._session.run(None, given)[0])


def checked(model: Model) -> bytes:
    """The model's ONNX file, whose digest is the one that `volant.json` and the card state.

    Raises:
        ArtifactError: there is no such file, or it is another one.
    """
    where = str(model.path)
    try:
        content = (model.path / FILE).read_bytes()
    except OSError as error:
        what, fix = f"the model has no {FILE}.", "Make it with `compress.onnx`."
        raise ArtifactError(what, where=where, fix=fix) from error
    found = hashlib.sha256(content).hexdigest()
    stated = {str(model.about.extra.get("onnx", {}).get("sha256", ""))}
    if model.card is not None:
        stated.add(next((f.sha256 for f in model.card.files if f.path == FILE), ""))
    if stated != {found}:
        what = f"{FILE} is not the file that was made with the model."
        raise ArtifactError(what, where=where, fix="Run `volant verify`, and make it again with `compress.onnx`.")
    return content


engine = OnnxEngine()
