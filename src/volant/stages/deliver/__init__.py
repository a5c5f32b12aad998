"""Stage 10, deliver: how the content reaches its audience.

Enters: a model and prompts. Leaves: a Dataset of generated content, and files that people read, each
marked as made by a machine.

| pick       | to                                                                               |
|------------|----------------------------------------------------------------------------------|
| `generate` | write texts under conditions that are checked, edited, filtered, held for a word |
| `content`  | make images or rows for conditions in words, checked by scorers                  |
| `publish`  | put what may go out into a folder and onto a page, once                          |
"""

from volant.stages.deliver.content import content as content
from volant.stages.deliver.generate import generate as generate
from volant.stages.deliver.publish import publish as publish
