"""Configuration: frozen pydantic models, YAML files, and `--set a.b=c` overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from scene.errors import UserError

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of every configuration: unknown keys are errors, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _apply(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UserError(f"--set {override!r} is not key=value; write it like --set masker.steps=8")
    *path, last = key.strip().split(".")
    for part in path:
        if not isinstance(data.setdefault(part, {}), dict):
            raise UserError(f"--set {override!r}: {part!r} is a value, not a section")
        data = data[part]
    try:
        data[last] = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        raise UserError(f"--set {override!r}: the value is not valid YAML") from None


def validate(cls: type[C], data: Any, origin: str) -> C:
    """Builds a config from plain data.

    Raises:
        UserError: one line naming the first wrong field and where the data came from.
    """
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise UserError(f"{origin}: {where}: {first['msg']} (got {str(first['input'])[:60]!r})") from None


def load_config(cls: type[C], path: Path, overrides: Sequence[str] = ()) -> C:
    """Reads a YAML file, applies overrides in order, validates.

    Args:
        cls: root config model.
        path: YAML file.
        overrides: ``"a.b=value"`` strings; the value is YAML ("3", "true", "[1, 2]").

    Raises:
        UserError: file missing, not YAML, or a field is wrong.
    """
    return validate(cls, read_values(path, overrides), str(path))


def changed(config: C, overrides: Sequence[str]) -> C:
    """A config with ``"a.b=value"`` overrides applied in order.

    Raises:
        UserError: an override is malformed, or a field is wrong.
    """
    data = config.model_dump()
    for override in overrides:
        _apply(data, override)
    return validate(type(config), data, "the changed settings")


def load_stage(stages: Mapping[str, type[Config]], path: Path, overrides: Sequence[str] = ()) -> Config:
    """`load_config` for a room that trains in stages: the file's `stage` decides which root model it is.

    Raises:
        UserError: as `load_config`, or no such stage.
    """
    data = read_values(path, overrides)
    stage = data.get("stage")
    if not isinstance(stage, str) or stage not in stages:
        raise UserError(f"{path}: stage is {stage!r}; it must be one of {', '.join(stages)}")
    return validate(stages[stage], data, str(path))


def read_values(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The settings of a YAML file as they stand there, `a.b=c` overrides applied.

    Raises:
        UserError: it cannot be read, is no mapping, or an override is malformed.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise UserError(f"cannot read config {path} ({error.strerror}); name an existing YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())[:120]}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} is not a YAML mapping of settings")
    for override in overrides:
        _apply(data, override)
    return data


def save_config(config: Config, path: Path) -> None:
    """Writes the resolved config as YAML, every default spelled out."""
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
