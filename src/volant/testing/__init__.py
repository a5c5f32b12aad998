"""The contracts of the extension points, as suites that anybody can run.

An implementation enters a `check_<point>` function; it returns, or raises `AssertionError` with the
sentence that says what is broken. An outside plug-in certifies itself in three lines:

    from volant.testing import check_method
    def test_contract(tmp_path):
        check_method(mine, lambda project: {"data": dataset(project, tasks())}, folder=tmp_path)

| suite            | what has to hold                                                              |
|------------------|-------------------------------------------------------------------------------|
| `check_method`   | documented, repeatable, resumable, pure; says what is wrong with its input     |
| `check_modality` | round trips; poisoned files refused; delivery readable; routes served          |
| `check_family`   | learns, samples by seed, saves bit-exactly                                     |
| `check_engine`   | agrees with torch, streams, stops, cancels, lets go                            |
| `check_content_engine` | images and rows: whole, good, by their seeds; refuses what it cannot give |
| `check_scorer`   | ranks its ladder; intervals cover; nothing to score is an error                |
| `check_channel`  | delivers once; says what it refuses                                            |
| `check_runner`   | the same work as in this process                                               |

`tasks`, `dataset` and `put` make the small worlds that methods are tried in. Importing this loads no
heavy library.
"""

from volant.testing.channels import arrived_in as arrived_in
from volant.testing.channels import check_channel as check_channel
from volant.testing.content_sessions import check_content_engine as check_content_engine
from volant.testing.content_sessions import check_content_session as check_content_session
from volant.testing.engines import check_engine as check_engine
from volant.testing.engines import check_session as check_session
from volant.testing.families import check_family as check_family
from volant.testing.methods import check_method as check_method
from volant.testing.modalities import check_modality as check_modality
from volant.testing.runners import check_runner as check_runner
from volant.testing.scorers import check_scorer as check_scorer
from volant.testing.worlds import dataset as dataset
from volant.testing.worlds import put as put
from volant.testing.worlds import tasks as tasks
