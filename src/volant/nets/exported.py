"""The part of a network that another runtime runs, and its ONNX file.

What enters: a trained network whose family has `onnx_part`. What leaves: a file of plain arithmetic, and facts from
which the family's `from_onnx` makes something that its `sample` takes in the network's place. So noise, steps and
guidance are the same code for torch and for ONNX Runtime; only the answer of the network comes from elsewhere.

Shape legend: B rows, C condition ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from volant.core.errors import MachineError, SettingError
from volant.nets.arrays import NONE

Answer: TypeAlias = Callable[[Mapping[str, torch.Tensor]], torch.Tensor]
"""Inputs by name to the output; on the CPU."""
OPSET = 18


@dataclass(frozen=True)
class Part:
    """What is exported of a network.

    Attributes:
        module: takes the inputs in their order and gives one tensor.
        inputs: an example of each, by name; the first axis is the rows.
        facts: plain values that `from_onnx` needs.
    """

    module: nn.Module
    inputs: dict[str, torch.Tensor]
    facts: dict[str, Any]


def check_family(family: Any, *, where: str = "") -> None:
    """Refuse a family without `onnx_part`.

    Raises:
        SettingError: it has none.
    """
    if "onnx" not in family.export():
        what = f"a {family.name} cannot be turned into ONNX."
        raise SettingError(what, where=where, fix="Serve it as it is, or make it smaller with `compress.quantise`.")


def write(part: Part, file: Path, *, opset: int = OPSET) -> None:
    """Write one ONNX file that holds all weights, takes any number of rows, and names no place of this machine.

    Args:
        part: what to export.
        file: to write.
        opset: version of ONNX's operators.

    Raises:
        MachineError: torch cannot turn the module into ONNX.
    """
    import logging
    import warnings

    rows = torch.export.Dim("rows", min=1, max=1_000_000)
    shapes: dict[str, Any] = {"dynamic_shapes": tuple({0: rows} for _ in part.inputs)}
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    said = logger.level
    logger.setLevel(logging.ERROR)  # that torchvision is not here concerns nobody
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's own, about how it works inside
            program: Any = torch.onnx.export(
                part.module.eval(), tuple(part.inputs.values()), dynamo=True, opset_version=opset, verbose=False,
                input_names=list(part.inputs), output_names=["output"], **shapes,
            )  # fmt: skip
            proto = program.model_proto
    except torch.onnx.errors.OnnxExporterError as error:
        first = str(error).strip().split("\n")[0]
        raise MachineError(f"torch cannot turn the network into ONNX: {first}", fix="Serve it as it is.") from error
    finally:
        logger.setLevel(said)
    _strip(proto)
    file.write_bytes(proto.SerializeToString(deterministic=True))


def condition_input(condition_BC: torch.Tensor, length: int) -> torch.Tensor:
    """Condition ids filled up, or cut, to the length that the file takes [B, length]."""
    missing = length - condition_BC.size(1)
    return nn.functional.pad(condition_BC, (0, missing), value=NONE)


def _strip(proto: Any) -> None:
    """Take out where in the sources each node came from: it is a path of this machine."""
    for graph in (proto.graph, *proto.functions):
        nodes = list(getattr(graph, "node", ()))
        named = [*getattr(graph, "input", ()), *getattr(graph, "output", ())] if graph is proto.graph else []
        held = [*graph.value_info, *(graph.initializer if graph is proto.graph else ())]
        for thing in (graph, *nodes, *named, *held):
            thing.ClearField("metadata_props")
            thing.ClearField("doc_string")
    proto.ClearField("metadata_props")
