"""Texts as weighted words: what two texts have in common that is rare among all.

In go Arrow strings; out comes a sparse matrix of unit rows, whose products are cosines. A word weighs by how often the
text has it (damped: 1 + log) and by how few texts have it at all (TF-IDF; Sparck Jones 1972). Words are those of
`text_features.likeness`; nothing is fetched, and the same texts give the same numbers.

Legend: N texts, V different words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from volant.modalities.text_features import likeness


def weighted(texts: pa.LargeStringArray) -> Any:
    """Unit rows [N, V] in SciPy's compressed form, float32; zeros for a text without a word."""
    from scipy import sparse

    words = likeness(texts).words
    known, column_W = np.unique(words.hash_W, return_inverse=True)
    ones = np.ones(len(column_W), np.float32)
    found = sparse.csr_matrix((ones, column_W, words.begin_N), shape=(len(words), len(known)))
    found.sum_duplicates()
    texts_V = np.bincount(found.indices, minlength=len(known))
    found.data = (1 + np.log(found.data)) * (1 + np.log((1 + len(words)) / (1 + texts_V)))[found.indices]
    length_N = np.sqrt(np.asarray(found.multiply(found).sum(1))).ravel()
    found.data /= np.repeat(np.where(length_N > 0, length_N, 1), np.diff(found.indptr))
    return found.astype(np.float32)
