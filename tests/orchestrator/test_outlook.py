import numpy as np

from orchestrator.config import ComposeConfig
from orchestrator.history import History
from orchestrator.outlook import Outlook
from scene.geometry import Size
from scene.layers import Layer, LayeredScene
from tests.orchestrator.fakes import fake_models

SIZE = Size(100, 80)


def block(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(SIZE.shape, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def outlook(*layers: Layer) -> Outlook:
    models = fake_models()
    config = ComposeConfig.model_validate({"preset": "park", "world": "park", "planner": {"keep_visible": True}})
    return Outlook(models, config, 3, History(), LayeredScene(SIZE, "", layers))


def test_what_would_hide_a_smaller_thing_goes_behind_it():
    sky = Layer(1, "sky", "sky", block(0, 0, 100, 80))
    boy, dog = Layer(2, "boy", "a boy", block(40, 30, 50, 70)), Layer(3, "dog", "a dog", block(80, 60, 95, 75))
    place = outlook(sky, boy, dog)
    assert place.hidden_by(block(20, 0, 70, 75)) == (2,)
    assert place.hidden_by(block(20, 0, 43, 75)) == ()  # a third of the boy is no matter
    assert place.hidden_by(block(42, 32, 48, 60)) == ()  # smaller than the boy: it stands before him
    assert place.hidden_by(block(0, 0, 100, 80)) == (2, 3)  # never a surface


def test_nothing_goes_where_it_would_vanish():
    dog, house = Layer(1, "dog", "a dog", block(10, 50, 20, 60)), Layer(2, "tent", "a tent", block(0, 0, 90, 80))
    place = outlook(dog, Layer(3, "boy", "a boy", block(60, 20, 62, 24)), house)
    assert place.hidden_by(block(5, 45, 30, 70)) == ()
