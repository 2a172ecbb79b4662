"""A planner behind an OpenAI-compatible endpoint that serves a LLaVA (vLLM and the like).

The layout picture travels as bytes in a data URL; nothing of this machine's disk is named. What a user typed is kept
from posing as control tokens. The answer is JSON, checked by the same vocabulary, guards and relations as the embedded
planner.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from planner.decoding import PlannerConfig
from planner.grammar import LINKS, plain_link
from planner.guards import PlanState, settle, too_close
from planner.prompt import plain_words, scene_objects
from planner.situation import SceneReader, Situation, due_links, held
from runtime.config import Config
from scene.errors import ModelError, UserError
from scene.geometry import Box
from scene.layers import LayeredScene
from scene.layout import layout_picture
from scene.proposal import Proposal
from scene.seeds import StepSeed
from scene.vocabulary import Vocabulary

MAX_REPLY_BYTES = 1_000_000
TASK = (
    "You plan a picture back to front, one object at a time; what carries comes before what it carries. You see the "
    "layout so far, each object a flat colour. Answer with one JSON object and nothing else, either "
    '{"label": "...", "description": "...", "box": [x0, y0, x1, y1], "relation": ["on", "..."], "confidence": 0.9} '
    'or {"stop": true, "reason": "..."}. box is in pixels of the canvas; box, relation and confidence may be left out; '
    "relation says how the new object stands to one that is there, its word is one of "
    f"{', '.join(LINKS)}."
)
# What chat templates of LLaVA, Vicuna, Llama, Qwen and ChatML take for control: <image>, <|im_start|>, [INST], <<SYS>>,
# "USER:" anywhere, "user:" at the start of a line.
_CONTROL = re.compile(r"<\|[^|>\n]*\|>|</?[a-zA-Z_]+>|<<|>>|\[/?[A-Z_]{2,}\]")
_ROLE = re.compile(
    r"(^\s*(?:[Ss]ystem|[Uu]ser|[Aa]ssistant|[Hh]uman|[Gg]pt)|\b(?:SYSTEM|USER|ASSISTANT|HUMAN|GPT))\s*:", re.MULTILINE
)
_FENCE = re.compile(r"^```(?:json)?\s*|\s*```$")


class ServerConfig(Config):
    """Which endpoint, and how patiently."""

    url: str
    """Base of the API, such as http://127.0.0.1:8000/v1; "/chat/completions" is added."""
    model: str
    """Name under which the server knows the model."""
    api_key_env: str | None = None
    """Environment variable that holds the key; None = no key is sent."""
    timeout_s: float = Field(default=60.0, gt=0)
    """Of one request."""
    retries: int = Field(default=3, ge=0)
    """Further attempts after time-outs, broken connections, 429 and 5xx."""
    backoff_s: float = Field(default=1.0, ge=0)
    """Wait before the first of them; it doubles each time, and a Retry-After header wins."""
    max_tokens: int = Field(default=200, ge=16)
    """Longest answer."""
    temperature: float = Field(default=0.0, ge=0)
    """Sampling; the step's seed is sent along."""
    unusable: int = Field(default=2, ge=0)
    """How often an answer that is no valid proposal is asked for again, told what was wrong."""
    constrained: bool = True
    """Send a JSON schema as `response_format`, which vLLM and others decode by."""


class _Reply(BaseModel):
    """A model's answer."""

    model_config = ConfigDict(extra="ignore")

    label: str = ""
    description: str = ""
    box: tuple[float, float, float, float] | None = None
    relation: tuple[str, str] | None = None
    confidence: float | None = Field(default=None, ge=0, le=1)
    stop: bool = False
    reason: str = ""

    @model_validator(mode="after")
    def _complete(self) -> _Reply:
        if not self.stop and not self.label:
            raise ValueError("neither a label nor stop")
        return self


def neutral(text: str) -> str:
    """User text in which nothing reads as a control token or a speaker's mark; the words stay legible."""
    text = _CONTROL.sub(lambda match: match.group().translate(_LOOKALIKES), text)
    return _ROLE.sub(r"\1 -", text)


_LOOKALIKES = str.maketrans({"<": "‹", ">": "›", "|": "¦", "[": "(", "]": ")"})


class ServerPlanner:
    """`Planner` behind a server.

    Args:
        config: endpoint.
        vocabulary: the world's words; proposals are bound to its labels.
        planning: guards.
        sleep: waits between retries.
    """

    def __init__(
        self,
        config: ServerConfig,
        vocabulary: Vocabulary,
        planning: PlannerConfig | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not config.url.startswith(("http://", "https://")):
            raise UserError(f"planner server {config.url!r} is no http address; write it like http://127.0.0.1:8000/v1")
        self.config, self.vocabulary, self.planning = config, vocabulary, planning or PlannerConfig()
        self.reader, self._sleep = SceneReader(vocabulary), sleep

    def propose(
        self,
        scene: LayeredScene,
        prompt: str,
        *,
        seed: StepSeed,
        turn: str | None = None,
        rejected: Sequence[str] = (),
    ) -> Proposal:
        """The next object for a scene, or stop; as `LlavaPlanner.propose`.

        Raises:
            ModelError: the server's answers stay unusable.
            UserError: the server cannot be reached, or refuses.
        """
        situation = self.reader.situation(scene, prompt, turn, rejected)

        def ask(labels: Sequence[str], allow_stop: bool) -> tuple[str | None, _Reply]:
            reply = self._ask(scene, situation, labels, allow_stop, seed)
            return None if reply.stop else reply.label, reply

        reply, notes = settle(situation.state, self.planning.guards, self.planning.max_rulings, ask)
        return self.reader.stop(situation, notes) if reply is None else self._finished(reply, situation, scene, notes)

    def _finished(self, reply: _Reply, situation: Situation, scene: LayeredScene, notes: list[str]) -> Proposal:
        if reply.stop:
            return self.reader.stop(situation, notes, reply.confidence)
        box = _on_canvas(reply.box, scene)
        asked = due_links(reply.label, situation, scene, self.planning.guards)
        link = reply.relation if not asked or reply.relation in asked else asked[0]
        twins = [layer.box for layer in scene.layers if layer.label == reply.label and layer.box is not None]
        if box is not None and too_close(box, twins, self.planning.guards):
            notes.append(f"another {reply.label} stood there: box left out")
            box = None
        if box is not None:
            box, moved = held(link, box, scene, asked)
            notes += moved
        words = plain_words(reply.description) or self.vocabulary.with_article(reply.label)
        return self.reader.proposal(situation, scene, reply.label, words, box, link, notes, reply.confidence)

    def _ask(
        self, scene: LayeredScene, situation: Situation, labels: Sequence[str], allow_stop: bool, seed: StepSeed
    ) -> _Reply:
        """A valid reply among `labels`."""
        complaint = ""
        for attempt in range(self.config.unusable + 1):
            content = self._chat(self._body(scene, situation, labels, allow_stop, complaint, seed, attempt))
            try:
                return self._checked(content, situation.state, scene, labels, allow_stop)
            except ModelError as error:
                complaint = str(error)
        raise ModelError(f"the planner server's answers are unusable: {complaint}")

    def _checked(
        self, content: str, state: PlanState, scene: LayeredScene, labels: Sequence[str], allow_stop: bool
    ) -> _Reply:
        try:
            reply = _Reply.model_validate_json(_FENCE.sub("", content.strip()))
        except ValidationError as error:
            raise ModelError(f"answer {content[:120]!r}: {error.errors()[0]['msg']}") from None
        if reply.stop:
            if not allow_stop:
                raise ModelError("stopping is not allowed now")
            return reply
        label = self.vocabulary.canonical(reply.label)
        if label is None or label not in labels:
            raise ModelError(f"{reply.label[:40]!r} is not among the labels allowed now")
        there = {layer.label for layer in scene.layers}
        relation = reply.relation if reply.relation and plain_link(reply.relation, there) else None
        return reply.model_copy(update={"label": label, "relation": relation})

    def _body(
        self,
        scene: LayeredScene,
        situation: Situation,
        labels: Sequence[str],
        allow_stop: bool,
        complaint: str,
        seed: StepSeed,
        attempt: int,
    ) -> dict[str, Any]:
        """The request. Order: what never changes, the prompt, the growing list, the picture: servers cache prefixes."""
        lines = [f"{item.label}: {item.description}, box {list(item.box)}" for item in scene_objects(scene)]
        text = (
            f"Canvas: {scene.size.width}x{scene.size.height}\nScene: {neutral(' '.join(situation.text.split()))}\n"
            f"Objects so far:\n" + "\n".join([neutral(line) for line in lines] or ["none"])
        )
        asked = f"Labels allowed now: {', '.join(labels)}." + ("" if allow_stop else " Do not stop yet.")
        asked += f"\nYour last answer was refused: {neutral(complaint)}" if complaint else ""
        body: dict[str, Any] = {
            "model": self.config.model,
            "messages": [
                {"role": "system", "content": TASK},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": text},
                        {"type": "image_url", "image_url": {"url": picture_url(scene)}},
                        {"type": "text", "text": asked},
                    ],
                },
            ],
            "max_tokens": self.config.max_tokens,
            "temperature": self.config.temperature,
            "seed": seed.derive("planner", "server", attempt) % 2**31,
        }
        if self.config.constrained:
            body["response_format"] = {"type": "json_schema", "json_schema": _schema(labels, allow_stop)}
        return body

    def _chat(self, body: dict[str, Any]) -> str:
        """One exchange, with retries where another attempt may help."""
        wait = self.config.backoff_s
        for attempt in range(self.config.retries + 1):
            try:
                return _content(self._post(body))
            except urllib.error.HTTPError as error:
                with error:
                    told = error.read(500).decode("utf-8", "replace")
                if error.code != 429 and error.code < 500:
                    raise UserError(
                        f"planner server {self.config.url} refuses ({error.code}: {' '.join(told.split())[:160]}); "
                        "correct planner.server"
                    ) from None
                reason, after = f"status {error.code}", _seconds(error.headers.get("Retry-After"))
            except (OSError, http.client.HTTPException) as error:
                reason, after = f"{getattr(error, 'reason', None) or error or type(error).__name__}", None
            if attempt < self.config.retries:
                self._sleep(wait if after is None else after)
                wait *= 2
        raise UserError(
            f"no answer from planner server {self.config.url} after {self.config.retries + 1} attempts ({reason}); "
            "start it, or raise planner.server.timeout_s"
        )

    def _post(self, body: dict[str, Any]) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.config.api_key_env:
            key = os.environ.get(self.config.api_key_env)
            if not key:
                raise UserError(f"environment variable {self.config.api_key_env} holds no key for {self.config.url}")
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(
            self.config.url.rstrip("/") + "/chat/completions", json.dumps(body).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=self.config.timeout_s) as answer:
            return bytes(answer.read(MAX_REPLY_BYTES))


def picture_url(scene: LayeredScene) -> str:
    """The layout picture as PNG bytes in a data URL."""
    buffer = io.BytesIO()
    Image.fromarray(layout_picture(scene.layout)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _schema(labels: Sequence[str], allow_stop: bool) -> dict[str, Any]:
    object_ = {
        "type": "object",
        "properties": {
            "label": {"enum": list(labels)},
            "description": {"type": "string", "maxLength": 120},
            "box": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 4, "maxItems": 4},
            "relation": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        },
        "required": ["label", "description"],
        "additionalProperties": False,
    }
    stop = {
        "type": "object",
        "properties": {"stop": {"const": True}, "reason": {"type": "string", "maxLength": 120}},
        "required": ["stop"],
        "additionalProperties": False,
    }
    return {"name": "proposal", "schema": {"anyOf": [object_, stop]} if allow_stop else object_}


def _content(answer: bytes) -> str:
    """The text of a chat completion.

    Raises:
        UserError: not the protocol.
    """
    try:
        content = json.loads(answer)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        raise UserError(f"the planner server does not speak the chat protocol: {answer[:120]!r}") from None
    return str(content)


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds; a date or nonsense counts as absent, and nobody waits longer than a minute."""
    try:
        return min(60.0, max(0.0, float(text))) if text else None
    except ValueError:
        return None


def _on_canvas(corners: tuple[float, float, float, float] | None, scene: LayeredScene) -> Box | None:
    """The model's box cut at the canvas; None when nothing of it is left."""
    if corners is None:
        return None
    x0, y0, x1, y1 = (round(corner) for corner in corners)
    box = Box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)).clip(scene.size)
    return box if box.area else None
