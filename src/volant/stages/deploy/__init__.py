"""Deploy: how people reach the model, and how it does.

What enters: a Model, and where there are some a Prompt to put before requests, a Report to cite and a
Dataset whose validation prompts the smoke test asks. What leaves: an Endpoint, a description with the
receipt of a smoke test; nothing of it runs on. `volant serve` and `volant up` run it.

| method      | pick it when                                                                |
|-------------|-----------------------------------------------------------------------------|
| `serve`     | the model is served from this project, and follows the champion as it moves |
| `container` | one pinned model goes to another machine, with the same server around it    |
"""

from volant.stages.deploy.container import container as container
from volant.stages.deploy.serve import serve as serve
