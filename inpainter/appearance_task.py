"""Stage two: codes of appearances, read off real objects, and the model that draws them from words and masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inpainter.appearance import Appearance, save_appearance
from inpainter.config import InpainterTraining
from inpainter.examples import Example, ExampleSource, validation_examples
from inpainter.sheets import grid, save_sheet
from inpainter.text import TextTokens
from perception.codes import NOISE
from perception.diffusion import spread_timesteps
from runtime.seeding import sample_noise, seeded
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.seeds import derive_seed

SHEET_COLUMNS, SHEET_ROWS = 16, 2
DRAFTS = 2  # per object on a sheet


class AppearanceTask:
    """`TrainingTask` of the `appearance` stage.

    Args:
        config: root configuration.
        corpus: opened corpus; trains on `train`, looks at `val`.
        embed: text -> (T, C); None takes the shared encoder.

    Raises:
        UserError: fewer objects than a code has numbers.
    """

    def __init__(self, config: InpainterTraining, corpus: Corpus, embed: Any = None) -> None:
        self.config, self.training, self.corpus = config, config.appearance_training, corpus
        self.embed = embed or TextTokens(config.sampler.max_tokens)
        self.source = ExampleSource(corpus, corpus.records("train"), config.examples, config.window, config.fit.seed)
        self.looks = seeded(lambda: Appearance(config.appearance, config.denoiser.text_channels), config.fit.seed)
        self.model: nn.Module = self.looks
        self._pool: dict[int, tuple[Tensor, Tensor]] = {}

    def _learn_components(self) -> None:
        """Once, from the first objects; a run that is resumed finds them in its snapshot."""
        count = min(self.training.component_examples, self.training.pool)
        if count <= self.config.appearance.code:
            raise UserError(f"codes of {self.config.appearance.code} numbers need more than {count} objects")
        examples = [self.source.example(number) for number in range(count)]
        self.looks.learn_components(self.looks.examples([e.target for e in examples], [e.mask for e in examples]))

    def batch(self, samples: Sequence[int]) -> dict[str, Tensor]:
        """`known` (B, F), `codes` and `noise` (B, C), `timesteps` (B,)."""
        if not self.looks.knows_components:
            self._learn_components()
        known, codes = (
            torch.stack(column).float()
            for column in zip(*(self._pooled(n % self.training.pool) for n in samples), strict=True)
        )
        return {
            "known": known,
            "codes": codes,
            "noise": sample_noise(self.config.fit.seed, "appearance", samples, (self.looks.code_width,)),
            "timesteps": spread_timesteps(samples, NOISE.train_timesteps),
        }

    def _pooled(self, number: int) -> tuple[Tensor, Tensor]:
        if number not in self._pool:
            example = self.source.example(number)
            with torch.no_grad():
                known = self.looks.known(self.embed(example.text)[None], [example.mask])[0]
                code = self.looks.read(self.looks.examples([example.target], [example.mask]))[0]
            self._pool[number] = known.half(), code.half()
        return self._pool[number]

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """See `perception.codes.CodeModel.loss`."""
        looks: Any = model
        return looks.loss(batch["codes"], batch["noise"], batch["timesteps"], batch["known"]).mean(), {}

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Validation objects: canvas and mask, drafts, what the code of the real object shows, and the real object."""
        assert isinstance(model, Appearance)
        examples = validation_examples(self.corpus, self.config, SHEET_COLUMNS * SHEET_ROWS)
        temperature = self.config.sampler.draft_temperature

        def draft(example: Example, number: int) -> np.ndarray:
            seed = derive_seed("sheet", number)
            return model.draft(
                example.image, example.mask, self.embed(example.text), seed=seed, temperature=temperature
            )

        rows: list[np.ndarray] = []
        for start in range(0, len(examples), SHEET_COLUMNS):
            some = examples[start : start + SHEET_COLUMNS]
            rows += [np.where(e.mask[..., None], np.uint8(160), e.image) for e in some]
            for number in range(DRAFTS):
                rows += [draft(example, number) for example in some]
            codes = model.read(model.examples([e.target for e in some], [e.mask for e in some]))
            rows += [model.paint(code, e.image, e.mask) for code, e in zip(codes, some, strict=True)]
            rows += [e.target for e in some]
        title = f"canvas and mask / {DRAFTS} drafts / what the real object's code shows / real"
        save_sheet(grid(np.stack(rows), columns=SHEET_COLUMNS), path, title)

    def export(self, model: nn.Module, out: Path) -> None:
        """Writes `out/appearance`."""
        assert isinstance(model, Appearance)
        (out / "appearance").mkdir(parents=True, exist_ok=True)
        save_appearance(model, out / "appearance")
