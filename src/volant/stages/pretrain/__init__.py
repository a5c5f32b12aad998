"""Get a model to start from: train one, or take one.

What enters: Datasets, or the name of a model that exists (`base`). What leaves: a Model whose directory
opens with transformers or diffusers alone, tokenizer and chat template included.

* `transformer`: from scratch, with its own tokenizer. For a domain, language or format that no base
  knows, for learning how it works, or where every byte of the training data has to be accounted for.
* `masked`: a transformer that reads in both directions (BERT-type), as a base for judges, classifiers and features.
* `fit`: images, tables and other content, by any family that fits: flow, vae, gan, tree ...
* `judge`: a small classifier whose features image scorers measure in.
* `base`: transfer learning from a local directory or the Hugging Face hub; right for most tasks. For
  text a transformers model, for images a diffusers pipeline (Stable Diffusion and its like). Or a hosted
  model behind an OpenAI-compatible address, for prompting, judging and synthesis.
"""

from volant.stages.pretrain.base import base as base
from volant.stages.pretrain.fit import fit as fit
from volant.stages.pretrain.judge import judge as judge
from volant.stages.pretrain.masked import masked as masked
from volant.stages.pretrain.transformer import transformer as transformer
