"""The Batchyard agent: runs attempts on one host and reports what it sees."""

from importlib.metadata import version

__version__ = version("batchyard")
