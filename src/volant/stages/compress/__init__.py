"""Compress: how small and fast a model can get within a stated loss.

Enters: a Model that torch runs, and a Dataset to measure on. Leaves: a Model for another engine, with the loss
written into it, or a refusal (`GateRefused`) with the numbers.

| method     | pick it when                                                     |
|------------|------------------------------------------------------------------|
| `quantise` | the model will be served on a processor: int8, a quarter the size |
| `distil`   | a flow takes too long to draw: 4 sampling steps in place of 40   |
| `onnx`     | images will be drawn by ONNX Runtime, where torch is too slow    |
"""

from volant.stages.compress.distil import distil as distil
from volant.stages.compress.onnx import onnx as onnx
from volant.stages.compress.quantise import quantise as quantise
