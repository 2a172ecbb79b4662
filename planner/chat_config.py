"""Settings of a public LLaVA as planner."""

from __future__ import annotations

from pydantic import Field

from runtime.config import Config


class ChatConfig(Config):
    """A LLaVA of transformers (`llava`, `llava_next`, `llava_onevision`), untuned, see `planner.chat`."""

    revision: str | None = None
    """Branch, tag or commit on the hub; pin a commit for results that can be repeated."""
    adapter_revision: str | None = None
    """The same of the LoRA that `planner.adapter` names."""
    shots: int = Field(2, ge=0, le=8)
    """Worked examples in the prompt (`configs/planner/shots_<world>.yaml`); 0 = instructions only."""
    list_labels: bool = True
    """Name all the world's categories in the prompt; answers are bound to them either way."""
    picture_px: int | None = Field(None, ge=28)
    """Longer side to which the layout picture is shrunk: models that cut pictures into tiles read fewer tokens then."""
    max_prompt_tokens: int = Field(3500, ge=64)
    """Longer prompts, picture included, are an error: most of these models know 4,096 positions."""
    max_description_tokens: int = Field(24, ge=1)
    """Longest description of an object."""
