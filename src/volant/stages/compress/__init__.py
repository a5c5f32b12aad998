"""Compress: how small and fast a model can get within a stated loss.

Enters: a Model that torch runs, and a Dataset to measure on. Leaves: a Model for another engine, with the loss
written into it, or a refusal (`GateRefused`) with the numbers.

| method     | pick it when                                                     |
|------------|------------------------------------------------------------------|
| `quantise` | the model will be served on a processor: int8, a quarter the size |
| `distil`   | a flow takes too long to draw: 4 sampling steps in place of 40   |
"""

from volant.stages.compress.distil import distil as distil
from volant.stages.compress.quantise import quantise as quantise
