"""The icons world as data: labels, surfaces and layouts, read from `configs/worlds/icons.yaml` and `icons/*.yaml`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from scene.errors import UserError
from scene.vocabulary import Vocabulary

Colour = tuple[int, int, int]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class IconLabel(_Model):
    """One category; see the head of `configs/worlds/icons.yaml` for the fields."""

    kind: str
    habitat: tuple[str, ...]
    size_m: float | None = Field(None, gt=0)
    span_frac: tuple[float, float] | None = None
    icons: tuple[str, ...] = ()
    only: dict[str, tuple[str, ...]] = {}
    tones: bool = False
    mirror: bool = True
    synonyms: tuple[str, ...] = ()
    plural: str | None = None
    plural_only: bool = False
    mass: bool = False

    @model_validator(mode="after")
    def _sized(self) -> IconLabel:
        to_scale = set(self.habitat) - UNSCALED
        if (to_scale and self.size_m is None) or (set(self.habitat) & UNSCALED and self.span_frac is None):
            raise ValueError("needs size_m for habitats on the ground, span_frac for sky and horizon")
        return self


class IconSurface(_Model):
    """A surface; `colours` = description -> far and near colour."""

    colours: dict[str, tuple[Colour, Colour]]
    synonyms: tuple[str, ...] = ()
    plural_only: bool = False
    mass: bool = False


class Zone(_Model):
    """Where things of one habitat stand; rows run from 0 at the horizon to 1 at the bottom.

    `inside` narrows the columns to that share of the canvas width, about its middle.
    """

    habitat: str
    count: tuple[int, int]
    from_: float = Field(0.0, alias="from")
    to: float = 1.0
    max_size_m: float = 1e9
    inside: float = 1.0


class Layout(_Model):
    """One kind of scene."""

    place: str
    weight: float = Field(gt=0)
    horizon: tuple[float, float]
    camera_m: tuple[float, float]
    surfaces: tuple[tuple[str, str] | tuple[str, str, float] | tuple[str, str, float, float], ...]
    zones: tuple[Zone, ...]


UNSCALED = frozenset({"sky", "horizon"})  # habitats in which nothing is to scale


class IconWorld(_Model):
    """The whole world; get one with `IconWorld.load`."""

    name: Literal["icons"]
    licence: str
    families: dict[str, str]
    held_out_frac: float = Field(gt=0, lt=0.5)
    surfaces: dict[str, IconSurface]
    layouts: dict[str, Layout]
    labels: dict[str, IconLabel]
    digest: str

    @classmethod
    def load(cls, path: Path) -> IconWorld:
        """Reads `icons.yaml` and the files of labels in the folder beside it.

        Raises:
            UserError: a file is missing or malformed, or a label stands in two files.
        """
        try:
            texts = [file.read_text("utf-8") for file in (path, *sorted(path.with_suffix("").glob("*.yaml")))]
            head, *parts = (yaml.safe_load(text) for text in texts)
            labels: dict[str, Any] = {}
            for part in parts:
                twice = labels.keys() & part
                if twice:
                    raise UserError(f"label {min(twice)!r} stands twice in {path.with_suffix('')}; keep one")
                labels |= part
            digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
            return cls(**head, labels=labels, digest=digest)
        except (OSError, yaml.YAMLError, TypeError, ValidationError) as error:
            raise UserError(f"{path} does not describe the icons world: {' '.join(str(error).split())[:300]}") from None

    @property
    def vocabulary(self) -> Vocabulary:
        """Surfaces first, then labels."""
        words = ("synonyms", "plural", "plural_only", "mass")
        entries: dict[str, dict[str, Any]] = {}
        for label, surface in self.surfaces.items():
            entries[label] = {"kind": "surface", **surface.model_dump(include=set(words), exclude_defaults=True)}
        for label, thing in self.labels.items():
            entries[label] = {"kind": thing.kind, **thing.model_dump(include=set(words), exclude_defaults=True)}
        return Vocabulary(self.name, {label: _plain(entry) for label, entry in entries.items()})


def _plain(entry: dict[str, Any]) -> dict[str, Any]:
    """JSON's own types only: tuples become lists."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in entry.items()}
