"""Stage 11, improve: what did use teach us, has the world moved, and may this be released.

Enters: what people did with the served model (requests, feedback, from the records), and what was made.
Leaves: a Dataset that `collect.clean` takes in, which closes the wheel, or a Report that a promotion reads.

| pick      | to                                                                               |
|-----------|----------------------------------------------------------------------------------|
| `harvest` | turn corrections and praise into training data, with consent and source          |
| `drift`   | see whether requests, or fresh data, differ from what the training data holds    |
| `review`  | write the law and ethics note on a release; without it there is no promotion     |
"""

from volant.stages.improve.drift import drift as drift
from volant.stages.improve.harvest import harvest as harvest
from volant.stages.improve.review import review as review
