"""Volant: one package that takes a generative model through its whole life, and round again."""

__version__ = "0.1.0"
