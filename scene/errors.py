"""One family of errors; the command line maps them to exit codes."""

from __future__ import annotations


class SmartSceneError(Exception):
    """Base of every error that smartscene raises on purpose."""


class UserError(SmartSceneError):
    """Bad input: one line saying what was got, what is allowed and what to do. Exit code 2."""


class ModelError(SmartSceneError):
    """A model's answer cannot be used (unparsable proposal, empty mask): the step is rejected and retried."""
