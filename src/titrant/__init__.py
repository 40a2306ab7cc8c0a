"""Titrant: how much generalist instruction data should a specialist be trained with?

The package is imported lazily: this module holds the version and nothing else, so that `titrant --help` is quick.
"""

__version__ = "0.1.0"
