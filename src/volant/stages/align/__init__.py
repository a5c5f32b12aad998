"""Align: what do people prefer?

Enters: a Model and a Dataset of prompts, pictures or rows; people's ratings, if there are any. Leaves: pairs, a
model that judges, or a model that has moved towards what is preferred.

| method        | makes   | pick it                                                                |
|---------------|---------|------------------------------------------------------------------------|
| `preferences` | Dataset | first: pairs from `volant rate`, and from scorers where nobody rated   |
| `constitution` | Dataset | pairs from principles in a file: scorers check them, or a critic judges; text |
| `reward`      | Model   | to rank or filter answers, and to weed out doubtful pairs before `dpo`; text |
| `dpo`         | Model   | to align with pairs: no sampling while it trains, stays near; text, flows, VAEs |
| `simpo`, `orpo` | Model | the same without a reference: by nats per token; tuning and aligning at once; text |
| `kto`         | Model   | from answers that were rated one by one; text |
| `grpo`, `rloo` | Model  | towards what a scorer can check, or a reward model: draws groups of answers; text |
| `ppo`         | Model   | the same with a learnt value for each token: fewer draws, more memory; text |
| `reward_weighted` | Model | images and tables: towards what a judge, a rule or a constraint rewards |

Each tells the project's task metric before and after. Where a model of text has become significantly worse by it, its
weights go back on the line to where they came from, a quarter of the way at a time, until it has not.
"""

from volant.stages.align.constitution import constitution as constitution
from volant.stages.align.dpo import dpo as dpo
from volant.stages.align.grpo import grpo as grpo
from volant.stages.align.kto import kto as kto
from volant.stages.align.orpo import orpo as orpo
from volant.stages.align.ppo import ppo as ppo
from volant.stages.align.preferences import preferences as preferences
from volant.stages.align.reward import reward as reward
from volant.stages.align.reward_weighted import reward_weighted as reward_weighted
from volant.stages.align.rloo import rloo as rloo
from volant.stages.align.simpo import simpo as simpo
