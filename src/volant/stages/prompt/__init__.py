"""Prompt: how far do instructions and in-context examples get us without touching a weight?

Enters: a Model and a Dataset with prompts and answers. Leaves: a Prompt, which generation and serving put before every
request. The model stays what it is, digest and all.

| method     | pick it when                                                                   |
|------------|--------------------------------------------------------------------------------|
| `few_shot` | there are worked examples to show; it also says honestly when they do not help |
| `controls` | the model draws images or rows: guidance, steps, temperature are measured      |
"""

from volant.stages.prompt.controls import controls as controls
from volant.stages.prompt.few_shot import few_shot as few_shot
