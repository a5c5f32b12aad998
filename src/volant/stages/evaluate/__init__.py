"""Stage 7, evaluate: is it good, better than the baseline, fair, safe?

A Model (with a Prompt, if it is used with one) and a Dataset enter; a Report leaves: `report.json` and
one self-contained `index.html`. Only methods of this stage see the test split.

| method    | pick it when                                                                              |
|-----------|-------------------------------------------------------------------------------------------|
| `suite`   | you want to know how good one model is: every figure, baselines beside it, gates, verdict |
| `compare` | a candidate stands against a champion: one paired test on the test split, and the gates   |
"""

from volant.stages.evaluate.compare import compare as compare
from volant.stages.evaluate.suite import suite as suite
