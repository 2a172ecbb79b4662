"""Relations asked for, self-correction, plans of one's own and style."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator import assemble, versions
from orchestrator.asked import asked, place_for
from orchestrator.cli import run_cli
from orchestrator.compose import Composer, Run
from orchestrator.ports import Models
from orchestrator.run_folder import RunFolder
from scene.candidates import MaskCandidate
from scene.corpus.claims import RelationClaim
from scene.geometry import Box, Size
from scene.guidance import Guidance
from scene.layers import Layer, LayeredScene
from scene.proposal import PlannedRelation, Proposal
from scene.seeds import StepSeed
from tests.orchestrator.fakes import FakeInpainter, FakeMasker, FakePlanner, fake_models

VOCABULARY = fake_models().vocabulary
SIZE = Size(256, 256)


class PlacedMasker(FakeMasker):
    """Boxes from a list per label, whatever guides them; with a planner's guide moved later, follows the guide."""

    def __init__(self, boxes: dict[str, Sequence[tuple[int, int, int, int]]]) -> None:
        self.boxes = boxes

    def predict(self, scene: LayeredScene, label: str, *words: str, **rest: Any) -> list[MaskCandidate]:
        guidance: Guidance | None = rest["guidance"]
        boxes = self.boxes[label]
        if guidance is not None:
            found = Box.from_mask(guidance.map > 0.5)
            boxes = [tuple(found)] if found else boxes
        masks = []
        for number, (x0, y0, x1, y1) in enumerate(boxes):
            mask = np.zeros(scene.size.shape, dtype=bool)
            mask[y0:y1, x0:x1] = True
            masks.append(MaskCandidate(mask, 1.0 - number / 10))
        return masks


class AskedPlanner(FakePlanner):
    """Gives a box only when it is told what does not hold."""

    def __init__(self, box: Box | None = None, relation: PlannedRelation | None = None) -> None:
        super().__init__(("boy", "dog"))
        self.box, self.relation, self.turns = box, relation, []

    def propose(self, scene: LayeredScene, prompt: str, **rest: Any) -> Proposal:
        proposal = super().propose(scene, prompt, **rest)
        if rest.get("turn"):
            self.turns.append(rest["turn"])
        box = self.box if rest.get("turn") else None
        relation = self.relation if proposal.label == "dog" else None
        return proposal if proposal.stop else Proposal(proposal.label, proposal.description, box, relation=relation)


def composed(
    out: Path,
    prompt: str,
    dog: Sequence[tuple[int, int, int, int]],
    box: Box | None = None,
    relation: PlannedRelation | None = None,
    **set_: int,
) -> Run:
    masker = PlacedMasker({"boy": [(100, 60, 160, 200)], "dog": dog})
    models = Models(AskedPlanner(box, relation), masker, FakeInpainter(), VOCABULARY)
    settings = ["width=256", "height=256", *(f"{name}={value}" for name, value in set_.items())]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, "versions", dict)
        run = Composer.from_preset("park", overrides=settings, models=models).start(prompt, seed=7, out=out)
    list(run.steps())
    run.close()
    return run


def attempts(run: Run) -> list[tuple[str, int, bool]]:
    return [(a["how"], len(a["violated"]), a["taken"]) for a in run.folder.history.steps[2].attempts]


def test_another_sample_that_keeps_the_relation_is_taken(tmp_path: Path) -> None:
    right, left = (190, 120, 240, 200), (10, 120, 60, 200)
    run = composed(tmp_path / "run", "a dog to the left of a boy", [right, left])
    assert attempts(run) == [("first", 1, False), ("sample", 0, True)]
    assert run.scene.find("dog").box == left
    assert run.relations()[0]["holds"] is True


def test_else_the_object_is_moved(tmp_path: Path) -> None:
    run = composed(tmp_path / "run", "a dog to the left of a boy", [(190, 120, 240, 200)])
    assert attempts(run) == [("first", 1, False), ("move", 0, True)]
    assert run.scene.find("dog").box.x1 <= 100  # type: ignore[union-attr]


def test_else_the_planner_is_asked_and_told(tmp_path: Path) -> None:
    run = composed(tmp_path / "run", "a dog inside a boy", [(190, 120, 240, 200)])
    assert run.folder.history.steps[2].attempts == ()  # "inside" is no relation that prompts are read for
    run = composed(tmp_path / "two", "a boy behind a dog", [(190, 120, 240, 200)], Box(110, 100, 150, 220))
    assert attempts(run)[-1][0] in ("move", "ask") and attempts(run)[-1][1:] == (0, True)


def test_what_the_plan_proposes_is_kept_as_well(tmp_path: Path) -> None:
    right, left = (190, 120, 240, 200), (10, 120, 60, 200)
    planned = PlannedRelation("left of", "boy", 1)
    run = composed(tmp_path / "run", "a dog and a boy", [right, left], relation=planned)
    assert attempts(run) == [("first", 1, False), ("sample", 0, True)]
    assert run.scene.find("dog").box == left


def test_what_the_prompt_says_goes_before_the_plan(tmp_path: Path) -> None:
    planned = PlannedRelation("right of", "boy", 1)
    run = composed(tmp_path / "run", "a dog to the left of a boy", [(10, 120, 60, 200)], relation=planned)
    assert attempts(run) == [("first", 0, True)]


def test_a_sample_that_hides_nothing_is_taken(tmp_path: Path) -> None:
    over, beside = (80, 40, 200, 220), (165, 20, 250, 220)
    run = composed(tmp_path / "run", "a dog and a boy", [over, beside], **{"planner.keep_visible": False})
    assert attempts(run) == [("first", 0, False), ("sample", 0, True)]
    assert run.folder.history.steps[2].attempts[0]["hides"] == 1
    assert run.scene.find("dog").box == beside
    run = composed(tmp_path / "kept", "a dog and a boy", [over, beside])  # goes behind instead
    assert run.folder.history.steps[2].attempts == ()
    assert [layer.label for layer in run.scene.layers] == ["dog", "boy"]


def test_what_stands_wholly_to_the_left_is_left(tmp_path: Path) -> None:
    run = composed(tmp_path / "run", "a dog to the left of a boy", [(10, 220, 60, 256)])
    assert attempts(run) == [("first", 0, True)]


def test_what_cannot_be_repaired_is_listed_and_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = composed(tmp_path / "run", "a dog to the left of a boy", [(190, 120, 240, 200)], corrections=0)
    assert attempts(run) == [("first", 1, True)]
    assert run_cli(["show", str(run.folder.path)]) == 0
    said = capsys.readouterr().out
    assert "relation  dog left of boy: VIOLATED" in said
    assert "first: breaks dog left of boy" in said


@pytest.mark.parametrize("relation", ["left of", "right of", "above", "below", "next to", "on", "in front of"])
@pytest.mark.parametrize("is_first", [True, False])
def test_the_place_fulfils_the_relation(relation: Any, is_first: bool) -> None:
    from orchestrator.asked import broken

    mask = np.zeros(SIZE.shape, dtype=bool)
    mask[100:180, 100:160] = True
    claim = RelationClaim("dog", relation, "boy", "") if is_first else RelationClaim("boy", relation, "dog", "")
    scene = LayeredScene(SIZE, "", (Layer(1, "boy", "a boy", mask),))
    place = place_for(claim, "dog", Box(20, 200, 60, 240), scene)
    if not is_first and relation in ("on", "in front of"):
        assert place is None  # depth decides, and a new object is nearest
        return
    assert place is not None
    moved = np.zeros(SIZE.shape, dtype=bool)
    moved[place.y0 : place.y1, place.x0 : place.x1] = True
    assert broken([claim], scene, "dog", moved) == []


def test_higher_is_not_above() -> None:
    from orchestrator.asked import broken

    chest, clock = (np.zeros(SIZE.shape, dtype=bool) for _ in range(2))
    chest[160:200, 160:220] = True
    clock[60:90, 10:30] = True
    scene = LayeredScene(SIZE, "", (Layer(1, "boy", "a boy", chest),))
    claim = RelationClaim("dog", "above", "boy", "")
    assert broken([claim], scene, "dog", clock) == [claim]
    place = place_for(claim, "dog", Box(10, 60, 30, 90), scene)
    assert place is not None
    assert (place.y0, place.y1) == (60, 90)  # it hangs as high as before
    assert 110 < place.x0 < 160  # and no farther over than it has to


def test_sunny_days_are_not_places() -> None:
    assert asked("a girl near a tree on a sunny day", VOCABULARY)[-1].second != "sun"
    assert [c.relation for c in asked("a ball on a table", VOCABULARY)] in (["on"], [])


class StyledInpainter(FakeInpainter):
    """Remembers the words."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def render(self, image: np.ndarray, mask: np.ndarray, *words: str, seed: StepSeed) -> np.ndarray:
        self.words.append(words[1])
        return super().render(image, mask, *words, seed=seed)


@pytest.fixture
def inpainter(monkeypatch: pytest.MonkeyPatch) -> StyledInpainter:
    drawn = StyledInpainter()
    models = Models(FakePlanner(), FakeMasker(), drawn, VOCABULARY)
    monkeypatch.setattr(assemble, "assemble", lambda config: models)
    monkeypatch.setattr(versions, "versions", dict)
    return drawn


def test_a_plan_is_followed_and_survives_a_stop(tmp_path: Path, inpainter: StyledInpainter) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(["a sky", {"words": "a dog", "box": [0.1, 0.5, 0.4, 0.9]}, "a dog", "a red balloon"]))
    command = ["generate", "--preset", "park", "--plan", str(plan), "--style", "a pencil sketch", "--size", "256x256"]
    assert run_cli([*command, "--out", str(tmp_path / "run")]) == 0
    folder = RunFolder.open(tmp_path / "run", write=False)
    assert [layer.description for layer in folder.scene().layers] == ["a sky", "a dog", "a dog", "a red balloon"]
    assert folder.scene().layers[1].box == (26, 128, 102, 230)
    assert folder.facts["prompt"] == "a sky, a dog, a dog, a red balloon"
    assert inpainter.words == [f"{words}, a pencil sketch" for words in ("a sky", "a dog", "a dog", "a red balloon")]
    final = (tmp_path / "run/final.png").read_bytes()
    assert run_cli(["undo", str(tmp_path / "run"), "2"]) == 0
    assert run_cli(["resume", str(tmp_path / "run")]) == 0  # the plan is part of the run
    assert RunFolder.open(tmp_path / "run", write=False).scene().layers[-1].description == "a red balloon"
    assert run_cli([*command, "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again/final.png").read_bytes() == final


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ("[]", "holds 0 entries"),
        ("{}", "holds dict"),
        ("[", "cannot read plan"),
        ('["a dog", "a quasar"]', "entry 2: 'a quasar' names nothing"),
        ('[{"words": "a dog", "box": [9, 9, 1, 1]}]', "entry 1: box"),
        ('[{"box": [9, 9, 1, 1]}]', "entry 1 has no words"),
    ],
)
def test_wrong_plans_are_named_by_entry(
    tmp_path: Path, inpainter: StyledInpainter, capsys: pytest.CaptureFixture[str], plan: str, says: str
) -> None:
    (tmp_path / "plan.json").write_text(plan)
    assert run_cli(["generate", "--plan", str(tmp_path / "plan.json"), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "\n" not in error
    assert not (tmp_path / "run").exists()
