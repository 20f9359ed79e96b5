"""The SDK's own version."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("driftline")
except PackageNotFoundError:  # run from a source tree
    __version__ = "0"
