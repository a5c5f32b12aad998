"""Stage 1, plan: what is built, for whom, what exists already, what counts as good, what it will cost.

Enters: the project's goal and its steps, and what is declared of the outside (local models, past runs,
the machine). Leaves: a Plan, one page for people and one `plan.json` for programs.

| pick     | to                                                                           |
|----------|------------------------------------------------------------------------------|
| `brief`  | write down problem, audience, targets and risks, and see what nobody stated  |
| `survey` | find out whether to build, to adapt what exists, or to stop                  |
| `sizing` | know memory, time and disk of each step before it runs                       |
"""

from volant.stages.plan.brief import brief as brief
from volant.stages.plan.sizing import sizing as sizing
from volant.stages.plan.survey import survey as survey
