"""Collect: which data, from where, under which licence; cleaned, without duplicates, split.

Enters: files, datasets and Python's own sources, each declared as a setting. Leaves: a Dataset whose
records all carry source, licence, consent and a split; what was refused or dropped is kept with its
reason. One method gathers, `clean` judges, `split` deals anew.

| method           | when to pick it                                                               |
|------------------|-------------------------------------------------------------------------------|
| `candidates`     | first of all: which data there is, ranked by relevance, licence, size, overlap |
| `files`          | your own files: texts, images or tables, as the goal's modality reads them    |
| `hub`            | a dataset of the Hugging Face hub, or a local copy of one                     |
| `bucket`         | what lies below an S3 prefix, or another store of objects                     |
| `git`            | what a git repository tracks at a commit, with its licence file's licence     |
| `sql`            | the rows of a query: a SQLite file, or a Postgres server                      |
| `python_packages` | the installed packages with permissive licences: code, documentation, docstrings |
| `python_sources` | real text and code with no network: the library that every Python carries     |
| `screen`         | languages, word lists, broken Unicode, names of people; before `clean`        |
| `clean`          | always, after gathering: duplicates, quality rules, personal data, leakage    |
| `unseen`         | new data beside earlier ones: what these have already goes; their texts are not read |
| `alike`          | texts that say the same in other words, by rare words or a local model; after `clean` |
| `distinct`       | rows that repeat others: by key, equal, all but one column, numbers nearby    |
| `balance`        | classes and protected groups: how many, and how labels fall to them           |
| `mix`            | shares of sources or datasets, repetition, quality up-sampling; after `clean` |
| `label`          | labels from rules, functions, a model and people, weighed by how they agree   |
| `synthesize`     | more of the same by a model: from examples, rewritten, or answers that agree  |
| `questions`      | questions and answers from your own documents, each held against its passage  |
| `suspects`       | labels that the other records contradict (confident learning); after `label`  |
| `split`          | near duplicates, groups or dates to one side each; before `clean`          |
"""

from volant.stages.collect.alike import alike as alike
from volant.stages.collect.balance import balance as balance
from volant.stages.collect.bucket import bucket as bucket
from volant.stages.collect.candidates import candidates as candidates
from volant.stages.collect.clean import clean as clean
from volant.stages.collect.distinct import distinct as distinct
from volant.stages.collect.files import files as files
from volant.stages.collect.git import git as git
from volant.stages.collect.hub import hub as hub
from volant.stages.collect.label import label as label
from volant.stages.collect.mix import mix as mix
from volant.stages.collect.python_packages import python_packages as python_packages
from volant.stages.collect.python_sources import python_sources as python_sources
from volant.stages.collect.questions import questions as questions
from volant.stages.collect.screen import screen as screen
from volant.stages.collect.split import split as split
from volant.stages.collect.sql import sql as sql
from volant.stages.collect.suspects import suspects as suspects
from volant.stages.collect.synthesize import synthesize as synthesize
from volant.stages.collect.unseen import unseen as unseen
