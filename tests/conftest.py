"""Lets every test import the plain modules that lie in this folder (`tiny_models`)."""
