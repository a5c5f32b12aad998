"""Where things are kept: artifacts (`blobs`), samples (`dataset`), runs and use (`records`, `lineage`).

Enters: directories that methods filled, rows that runs and servers report. Leaves: immutable artifacts
by digest, and answers about what happened. Importing this package loads nothing heavy: `blobs` needs the
standard library and fsspec on demand, `dataset` needs pyarrow, `records` needs SQLAlchemy.
"""
