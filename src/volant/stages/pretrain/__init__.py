"""Get a model to start from: train one, or take one.

What enters: Datasets of text (`transformer`), or the name of a model that exists (`base`). What
leaves: a Model whose directory opens with transformers alone, tokenizer and chat template included.

* `transformer`: from scratch, with its own tokenizer. For a domain, language or format that no base
  knows, for learning how it works, or where every byte of the training data has to be accounted for.
* `base`: transfer learning from a local directory or the Hugging Face hub; right for most tasks. Or
  a hosted model behind an OpenAI-compatible address, for prompting, judging and synthesis.
"""

from volant.stages.pretrain.base import base as base
from volant.stages.pretrain.transformer import transformer as transformer
