"""CoDraw importer: string parser on made-up scenes, whole importer on the real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scene.corpus.codraw import import_codraw, parse_scene, split_of
from scene.corpus.store import Corpus
from scene.errors import UserError

WORLD = Path(__file__).resolve().parents[2] / "configs" / "worlds" / "park.yaml"


def test_paint_order_sun_then_sky_then_the_rest_far_to_near() -> None:
    text = (
        "5,t_4s.png,0,4,7,10,20,0,1,hb0_11s.png,1,11,2,30,40,2,0,s_2s.png,2,2,0,50,60,1,0,s_3s.png,3,3,0,70,80,0,0,"
        "p_9s.png,4,9,1,-10000,-10000,0,0,"
    )
    sprites = parse_scene(text)
    assert [s.png for s in sprites] == ["s_3s", "s_2s", "hb0_11s", "t_4s"]  # x = -10000 is unused
    assert sprites[3].flip
    assert not sprites[0].flip


@pytest.mark.parametrize("text", ["2,a_0s.png,0,0,4,1,2,0,0", "x,1", "1,a_0s.png,0,0,4,1,2,5,0"])
def test_malformed_strings_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_scene(text)


def test_empty_canvas() -> None:
    assert parse_scene("") == []
    assert parse_scene("0,") == []


def test_splits_never_part_a_group_of_ten() -> None:
    assert [split_of(i) for i in (0, 70, 79, 80, 89, 90)] == ["train", "test", "test", "val", "val", "train"]
    for group in range(40):
        assert len({split_of(group * 10 + i) for i in range(10)}) == 1


def test_real_scenes(tiny_corpus: Corpus) -> None:
    records = tiny_corpus.records()
    assert len(records) == 60
    assert {r.split for r in records} == {"train", "val", "test"}
    for record in records[:10]:
        assert [layer.label for layer in record.layers[:2]] == ["sky", "grass"]
        scene = tiny_corpus.scene(record)
        assert scene.layers[0].mask.all()
        assert (scene.layout.index >= 0).all()  # no hole in the background
        assert record.prompts
        assert record.turns
        for turn in record.turns:
            assert isinstance(turn.teller, str)
    assert Corpus.open(tiny_corpus.path).records()[3].layers == records[3].layers


def test_render_agrees_with_a_plain_paste_of_the_sprites(tiny_corpus: Corpus, codraw_dir: Path) -> None:
    """At 500x400, pasting sprites by their alpha must give nearly the picture that the corpus gives scaled."""
    import json

    raw = json.loads((tiny_corpus.path.parent / "CoDraw_tiny.json").read_text())["data"]
    record = tiny_corpus.records()[5]
    canvas = Image.open(codraw_dir / "Pngs" / "background.png").convert("RGB")
    for sprite in parse_scene(raw[record.id]["abs_t"]):
        picture = Image.open(codraw_dir / "Pngs" / f"{sprite.png}.png").convert("RGBA")
        scale = (1.0, 0.7, 0.49)[sprite.z]
        picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
        if sprite.flip:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        corner = (round(sprite.x - picture.width / 2), round(sprite.y - picture.height / 2))
        canvas.paste(picture, corner, picture)
    ours = Image.fromarray(tiny_corpus.scene(record).image).resize((500, 400), Image.Resampling.LANCZOS)
    difference = np.abs(np.asarray(ours, np.int16) - np.asarray(canvas, np.int16))
    assert difference.mean() < 2.0
    assert (difference.max(axis=2) > 60).mean() < 0.01  # edges only


def test_masks_are_amodal(tiny_corpus: Corpus) -> None:
    for record in tiny_corpus.records():
        for layer in record.layers[2:]:
            mask = tiny_corpus.mask(layer)
            assert mask.dtype == np.bool_
            assert mask.shape == (512, 640)
        layout = tiny_corpus.layout(record)
        hidden = [i for i, layer in enumerate(record.layers) if (tiny_corpus.mask(layer) & ~layout.visible(i)).any()]
        assert 0 in hidden  # the grass hides part of the sky


def test_errors_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="point SRC at the CoDraw folder"):
        import_codraw(tmp_path, tmp_path / "out", WORLD)
    (tmp_path / "CoDraw.json").write_text("[]")
    with pytest.raises(UserError, match="not CoDraw JSON"):
        import_codraw(tmp_path, tmp_path / "out", WORLD)
    with pytest.raises(UserError, match="no corpus in"):
        Corpus.open(tmp_path / "out")


def test_a_malformed_scene_is_named(tmp_path: Path, codraw_dir: Path) -> None:
    (tmp_path / "CoDraw.json").write_text('{"data": {"train_00007": {"image_id": 7, "abs_t": "9,oops", "dialog": []}}}')
    (tmp_path / "Pngs").symlink_to(codraw_dir / "Pngs")
    with pytest.raises(UserError, match="train_00007"):
        import_codraw(tmp_path, tmp_path / "out", WORLD)


def test_same_input_same_bytes(tiny_corpus: Corpus, codraw_dir: Path, tmp_path: Path) -> None:
    again = import_codraw(tiny_corpus.path.parent, tmp_path / "park", WORLD)
    for name in ("corpus.json", "scenes.jsonl", "assets.jsonl", "assets.bin"):
        assert (again.path / name).read_bytes() == (tiny_corpus.path / name).read_bytes()


def test_prompts_state_true_counts(tiny_corpus: Corpus) -> None:
    vocabulary = tiny_corpus.vocabulary
    for record in tiny_corpus.records():
        labels = [layer.label for layer in record.layers]
        for prompt in record.prompts[1:3]:
            for label, count in vocabulary.counts(prompt).items():
                assert labels.count(label) >= count, (prompt, label)
