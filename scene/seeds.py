"""Seeds derived by hashing, so that no result depends on what ran before."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from any parts; equal parts give equal seeds on every machine."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class StepSeed:
    """Where in a run a random draw happens: (run seed, step id, attempt)."""

    run: int
    step: int
    attempt: int = 0

    def derive(self, purpose: str, *parts: int | str) -> int:
        """Seed of one purpose (and, say, candidate number) within this attempt."""
        return derive_seed(self.run, self.step, self.attempt, purpose, *parts)

    def retry(self) -> StepSeed:
        """The next attempt of the same step."""
        return replace(self, attempt=self.attempt + 1)
