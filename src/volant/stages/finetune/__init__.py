"""Teach a model a task from prompts with answers.

What enters: a Model and a Dataset with samples of shape `completion` or `messages`. What leaves: a
Model of the same shape. The loss counts the answers only; three rendered examples with the mask are
shown before training, and the project's task metric is compared with the model before.

* `lora`: trains small matrices beside the frozen weights; a fraction of the memory, and little is
  forgotten. The first choice for any base that was not trained minutes ago. The adapter is kept
  beside the merged weights.
* `qlora`: the same over weights in 4 bits, where even reading the base takes too much memory; needs bitsandbytes.
* `full`: trains every weight; for small models, or where the task is far from what the base knows.
"""

from volant.stages.finetune.full import full as full
from volant.stages.finetune.lora import lora as lora
from volant.stages.finetune.qlora import qlora as qlora
