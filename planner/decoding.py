"""How one token is chosen among those that the grammar allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from planner.guards import GuardConfig
from runtime.config import Config

if TYPE_CHECKING:
    import torch

    from scene.seeds import StepSeed


class PlannerConfig(Config):
    """How proposals are decoded and guarded."""

    guards: GuardConfig = GuardConfig()
    max_description_tokens: int = Field(default=16, ge=1)
    """Longest description."""
    temperature: float = Field(default=0.0, ge=0)
    """Labels and descriptions: 0 = the likeliest, whatever the seed; above 0 draws from the step's own generator."""
    box_spread: float = Field(default=0.5, ge=0, le=1)
    """Boxes: each coordinate is a quantile of its predicted distribution, drawn from the middle `box_spread` of all
    quantiles by the step's generator. 0 = the median box, whatever the seed; 1 = a plain draw."""
    box_draws: int = Field(default=1, ge=1)
    """A place head's box is the most typical of so many draws (`planner.places.medoid`): 1 = one as likely as it is;
    more where the prompt says the place, and surprises are mistakes."""
    write_boxes: bool = True
    """False: a box is decided only where something asks for one (a relation of the prompt, another object of the
    label); elsewhere `STAND_IN` is read in its place, eight choices fewer, and the proposal has none."""
    max_rulings: int = Field(default=4, ge=1)
    """A guarded choice is checked again, at most this often."""


class Picker:
    """Chooses tokens of one proposal.

    The likeliest digit after the likeliest digit is a poor box: "0" often beats every other first digit though most
    boxes start elsewhere. So a coordinate is read off its cumulative distribution instead: the first digit is where
    that crosses the quantile q, the second where the rest of q falls within the first. That is the exact quantile of
    the two-digit number given the coordinates before it, at the cost of a greedy choice.

    Args:
        config: temperature and spread.
        seed: of this attempt.
        quantiles: of x0, y0, x1, y1, instead of drawn ones.
    """

    def __init__(
        self, config: PlannerConfig, seed: StepSeed, quantiles: tuple[float, float, float, float] | None = None
    ) -> None:
        import torch

        self._config = config
        self._words = torch.Generator().manual_seed(seed.derive("planner", "words"))
        boxes = torch.Generator().manual_seed(seed.derive("planner", "box"))
        # One quantile per coordinate, drawn whether used or not: a guard's second look changes nothing else.
        drawn = torch.rand(4, generator=boxes, dtype=torch.float64)
        spread = (0.5 + config.box_spread * (drawn - 0.5)).tolist()
        self._quantiles: list[float] = list(quantiles) if quantiles else spread
        self._rest = 0.5

    def __call__(self, scores: torch.Tensor, allowed: tuple[int, ...], box_digit: int | None) -> int:
        """One of `allowed`.

        Args:
            scores: logits of `allowed`, in its order.
            allowed: ids, digits in rising order.
            box_digit: which digit of the box this is, or None.
        """
        import torch

        some = scores.double()
        if box_digit is not None:
            return allowed[self._digit(some.softmax(0), box_digit)]
        if self._config.temperature == 0:
            return allowed[int(some.argmax())]
        chances = (some / self._config.temperature).softmax(0)
        return allowed[int(torch.multinomial(chances, 1, generator=self._words))]

    def _digit(self, chances: torch.Tensor, box_digit: int) -> int:
        """Position of the digit where the cumulative distribution crosses the quantile."""
        wanted = self._quantiles[box_digit // 2] if box_digit % 2 == 0 else self._rest
        upto = chances.cumsum(0)
        index = min(int((upto < wanted).sum()), len(chances) - 1)
        before = float(upto[index - 1]) if index else 0.0
        self._rest = min(max((wanted - before) / max(float(chances[index]), 1e-12), 0.0), 1.0)
        return index
