"""The shipped rules hang together, and a mistake in them is named by file and key."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml

from scene.corpus.home.recipes import Item, Recipe
from scene.corpus.home.rules import FEWEST_TO_HOLD_OUT, Rules
from scene.errors import UserError

ROOT = Path(__file__).resolve().parents[4]
FOLDER = ROOT / "configs" / "worlds" / "home"


@pytest.fixture(scope="module")
def rules() -> Rules:
    return Rules.load(FOLDER)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The shipped rules, to be spoilt."""
    shutil.copytree(FOLDER, tmp_path / "home")
    shutil.copy(FOLDER.with_suffix(".yaml"), tmp_path / "home.yaml")
    return tmp_path / "home"


def test_there_is_enough_of_everything(rules: Rules) -> None:
    assert len({rule.label for rule in rules.models.values()}) >= 250
    assert len(rules.recipes) >= 40
    rooms = {name.split("/")[0] for name in rules.recipes}
    assert {"living_room", "bedroom", "kitchen", "bathroom", "office", "garden", "street"} <= rooms


def test_every_description_names_its_own_label_and_no_other(rules: Rules) -> None:
    for name, rule in rules.models.items():
        text = rule.text.format(colour=rule.colour)
        assert set(rules.vocabulary.counts(text)) == {rule.label}, f"{name}: {text}"


def test_every_label_has_a_model_and_every_synonym_one_label(rules: Rules) -> None:
    used = {rule.label for rule in rules.models.values()}
    vocabulary = rules.vocabulary
    assert used == {label for label in vocabulary.labels if vocabulary.kind(label) != "surface"}
    words = Counter(word for label in vocabulary.labels for word in (label, *vocabulary.synonyms(label)))
    assert [word for word, count in words.items() if count > 1] == []


def test_a_tenth_of_large_labels_and_rooms_is_held_out(rules: Rules) -> None:
    by_label = Counter(rule.label for rule in rules.models.values())
    held = Counter(rules.models[name].label for name in rules.held_out_models)
    for label, count in by_label.items():
        assert held[label] == (max(1, count // 10) if count >= FEWEST_TO_HOLD_OUT else 0)
    share = len(rules.held_out_recipes) / len(rules.recipes)
    assert 0.07 <= share <= 0.13


def test_held_out_models_depend_on_nothing_but_ids(rules: Rules) -> None:
    again = Rules.load(FOLDER)
    assert again.held_out_models == rules.held_out_models
    backwards = Rules(
        rules.vocabulary,
        dict(reversed(list(rules.models.items()))),
        rules.colours,
        rules.materials,
        rules.sets,
        rules.shapes,
        dict(reversed(list(rules.recipes.items()))),
    )
    assert backwards.held_out_models == rules.held_out_models
    assert backwards.held_out_recipes == rules.held_out_recipes


def _spoil(file: Path, change: dict[str, object]) -> None:
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    for path, value in change.items():
        *parents, last = path.split(".")
        target = data
        for key in parents:
            target = target[int(key) if key.isdigit() else key]
        target[last] = value
    file.write_text(yaml.safe_dump(data), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("sets.yaml", {"sets.pets": [{"pick": "unicorn"}]}, "pets picks 'unicorn'"),
        ("sets.yaml", {"sets.pets": [{"pick": "cat", "att": "floor"}]}, r"sets.yaml: sets.pets\[0\].att: "),
        ("sets.yaml", {"sets.pets": [{"use": "nothing"}]}, "uses the set 'nothing'"),
        ("sets.yaml", {"sets.pets": [{"pick": "cat", "x": [2, 1]}]}, "goes downwards"),
        ("sets.yaml", {"sets.pets": [{"pick": "cat", "use": "pets"}]}, "needs either pick"),
        ("rooms/kitchen.yaml", {"place.floor": ["lava"]}, "the material 'lava'"),
        ("rooms/kitchen.yaml", {"place.camera.zoom": 2}, r"kitchen.yaml: recipes.\w+.place.camera.zoom"),
        ("models.yaml", {"models": {"A#b": {"label": "thing", "text": "thing"}}}, "picks"),
        ("models.yaml", {"models.Scopia#bed1.text": "{colour} bed"}, "models.Scopia#bed1: .*go together"),
        ("models.yaml", {"models.Scopia#bed1.label": "throne"}, "picks|label 'throne'"),
    ],
)
def test_a_mistake_is_named(copy: Path, file: str, change: dict[str, object], message: str) -> None:
    _spoil(copy / file, change)
    with pytest.raises(UserError, match=message):
        Rules.load(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "world.yaml").unlink()
    with pytest.raises(UserError, match=r"world.yaml is missing"):
        Rules.load(copy)


def test_values_are_frozen(rules: Rules) -> None:
    recipe: Recipe = next(iter(rules.recipes.values()))
    with pytest.raises(ValueError, match="frozen"):
        recipe.weight = 2.0  # type: ignore[misc]


def test_one_number_stands_for_a_range() -> None:
    item = Item.model_validate({"pick": "cat", "gap": 0.1, "count": 2})
    assert item.gap == (0.1, 0.1)
    assert item.count == (2, 2)
    assert item.pick == {"cat": 1.0}
