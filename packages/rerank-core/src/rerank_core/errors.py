"""Errors a person can act on. The command line turns them into one line on stderr and exit code 2."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType


class RerankError(Exception):
    """Base of every error that is the input's, the installation's or the usage's fault; the text says what to do."""


class InputError(RerankError):
    """Something in a file is wrong.

    Parameters
    ----------
    message
        What is wrong and what to do.
    path, line
        Where; shown in front of the message as ``path:line:``.
    """

    def __init__(self, message: str, path: str | Path | None = None, line: int | None = None) -> None:
        self.path, self.line = path, line
        where = "" if path is None else f"{path}:" if line is None else f"{path}:{line}:"
        super().__init__(f"{where} {message}".strip())


class UsageError(RerankError):
    """A command or function was called with words it does not know or that do not go together."""


class MissingExtra(RerankError):
    """A package that an optional part needs is not installed.

    Parameters
    ----------
    module
        The module that could not be imported, as Python names it.
    extra
        What to install, for example ``rerank-core[ltr]``.
    """

    def __init__(self, module: str, extra: str, what: str = "this") -> None:
        self.module, self.extra = module, extra
        super().__init__(f"{what} needs the module {module!r}, which is not installed: pip install '{extra}'")


class ModelNotFound(RerankError):
    """A model name leads to no weights; the text lists where was looked and how to get it."""


def require(module: str, extra: str, what: str = "this") -> ModuleType:
    """Import a module of an optional extra, or say which extra to install.

    Raises
    ------
    MissingExtra
        When the module, or a module it needs, is absent; the real missing name stands in the message.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or module, extra, what) from error
