"""Values and contracts: standard library and pydantic only.

Everything a method file needs at its top comes from here.
"""

from volant.core.artifact import Artifact as Artifact
from volant.core.artifact import Dataset as Dataset
from volant.core.artifact import Endpoint as Endpoint
from volant.core.artifact import Model as Model
from volant.core.artifact import Plan as Plan
from volant.core.artifact import Prompt as Prompt
from volant.core.artifact import Report as Report
from volant.core.errors import VolantError as VolantError
from volant.core.method import Scorers as Scorers
from volant.core.outside import Files as Files
from volant.core.outside import Folder as Folder
from volant.core.outside import Hub as Hub
from volant.core.outside import Machine as Machine
from volant.core.outside import Ratings as Ratings
from volant.core.outside import Records as Records
from volant.core.run import Run as Run
from volant.core.sample import Sample as Sample
from volant.core.score import Score as Score
