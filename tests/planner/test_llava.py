import numpy as np
import pytest
import torch

from planner.examples import PlanSource, fixed_descriptions, plan_answers
from planner.language_train import PackedLlava, PlannerTask, fresh_model
from planner.lessons import CorpusLessons
from planner.llava import IMAGE_TOKEN_ID, LoraSettings, add_lora, pixel_values
from planner.weights import load_planner
from runtime.training import fit
from scene.errors import UserError
from tests.planner.conftest import SIZE, TINY_LORA, TINY_VISION, make_llava, tiny_config


def test_picture_tokens_land_where_the_placeholders_are():
    llava = make_llava()
    ids = torch.tensor([[20, 21, *[IMAGE_TOKEN_ID] * TINY_VISION.image_tokens, 22]])
    picture = torch.randn(1, 3, 32, 32)
    seen = llava.model.get_image_features(picture).pooler_output[0]
    embedded = llava.get_input_embeddings()(ids)
    embedded[0, 2:6] = seen
    expected = llava.model.language_model(inputs_embeds=embedded).last_hidden_state
    found = llava.model(input_ids=ids, pixel_values=picture).last_hidden_state
    torch.testing.assert_close(found, expected)


def test_pixel_values_keep_axes_and_range():
    picture = np.zeros((*SIZE.shape, 3), dtype=np.uint8)
    picture[:128, :, 0] = 255
    values = pixel_values(picture, TINY_VISION)
    assert values.shape == (3, 32, 32)
    assert values[0, 0, 0] == 1.0
    assert values[0, -1, 0] == values[1, 0, 0] == -1.0


def test_packing_equals_one_sequence_per_sample(corpus, encoder):
    """The branch of step k gives the very logits that a separate (scene, k) sample would."""
    llava = make_llava()
    task = PlannerTask(tiny_config(), CorpusLessons(corpus, "train"), model=llava, encoder=encoder)
    scene = task.scene(0)
    with torch.no_grad():
        logits, _, _ = PackedLlava(llava).logits(scene)
        record, plan, _ = PlanSource(corpus, "train").sampled(0, 0)
        assert record.id
        answers = plan_answers(plan, fixed_descriptions(corpus))
        lines = [encoder.line(answer) for answer in answers]
        offset = sum(len(line) for line in lines)
        for index, step in enumerate(scene.packed.steps):
            ids = [*encoder.trunk(plan.prompt, answers[:step]), *encoder.picture, *lines[step]]
            alone = llava(input_ids=torch.tensor([ids]), pixel_values=scene.pixels[index : index + 1]).logits[0]
            size = len(lines[step])
            torch.testing.assert_close(logits[offset : offset + size], alone[-size - 1 : -1], rtol=1e-4, atol=1e-4)
            offset += size
        ids = encoder.trunk(plan.prompt, answers)
        alone = llava(input_ids=torch.tensor([ids])).logits[0]
        text = sum(len(line) for line in lines)
        torch.testing.assert_close(logits[:text], alone[-text - 1 : -1], rtol=1e-4, atol=1e-4)


def test_only_tower_projector_and_adapters_train():
    model = add_lora(make_llava(), TINY_LORA)
    for name, parameter in model.named_parameters():
        ours = "lora_" in name or "vision_tower" in name or "projector" in name
        assert parameter.requires_grad == ours
        assert not ("lora_" in name and "vision_tower" in name)
    assert any("mlp" in name and "lora_" in name for name, _ in model.named_parameters())


def test_overfits_one_batch(corpus, encoder):
    task = PlannerTask(tiny_config(), CorpusLessons(corpus, "train"), model=make_llava(), encoder=encoder)
    batch = task.batch([0, 1])
    optimizer = torch.optim.Adam(task.model.parameters(), lr=5e-3)
    losses = []
    for _ in range(120):
        loss, _ = task.loss(task.model, batch)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]


def test_loss_over_common_tokens_is_a_lower_bound(corpus, encoder):
    """Fewer classes in the normaliser can only lower the loss; the targets must all be among them."""
    llava = make_llava()
    task = PlannerTask(tiny_config(), CorpusLessons(corpus, "train"), model=llava, encoder=encoder)
    batch = task.batch([0])
    used = np.unique(batch[0].packed.targets[batch[0].packed.targets >= 0])
    whole, _ = PackedLlava(llava)(batch)
    some, _ = PackedLlava(llava, used)(batch)
    assert 0 < some.item() < whole.item()


def test_resumed_training_equals_uninterrupted(corpus, encoder, tmp_path):
    def task() -> PlannerTask:
        model = add_lora(make_llava(), TINY_LORA)
        return PlannerTask(tiny_config(), CorpusLessons(corpus, "train"), model=model, encoder=encoder)

    straight, broken = task(), task()
    fit(straight, tiny_config(total_samples=8).fit, tmp_path / "a")
    fit(broken, tiny_config(total_samples=4).fit, tmp_path / "b")
    resumed = task()
    fit(resumed, tiny_config(total_samples=8).fit, tmp_path / "b", resume=True)
    for (name, one), (_, two) in zip(straight.model.named_parameters(), resumed.model.named_parameters(), strict=True):
        assert torch.equal(one, two), name


def test_export_loads_as_the_adapted_model(corpus, encoder, tmp_path, monkeypatch):
    """What `load_planner` builds from the exported folder computes what the trained model computes (up to fp16)."""
    model = add_lora(make_llava(), TINY_LORA)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(1))
    task = PlannerTask(tiny_config(), CorpusLessons(corpus, "train"), model=model, encoder=encoder)
    task.export(task.model, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "planner.json", "vision.safetensors", "adapter_model.safetensors", "adapter_config.json",
    }  # fmt: skip
    monkeypatch.setattr("planner.weights.load_base", lambda vision, base: make_llava())
    loaded, card = load_planner(tmp_path)
    assert card.vision == TINY_VISION
    assert card.licence == "CC0-1.0"
    ids = torch.tensor([[20, *[IMAGE_TOKEN_ID] * TINY_VISION.image_tokens, 21, 22]])
    picture = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        plain = make_llava()(input_ids=ids, pixel_values=picture).logits
        expected = task.model.plain(input_ids=ids, pixel_values=picture).logits
        found = loaded(input_ids=ids, pixel_values=picture).logits
    assert (expected - plain).abs().max() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=3e-3)


def test_peft_reads_the_exported_adapters_too(corpus, encoder, tmp_path):
    from peft import PeftModel

    task = PlannerTask(
        tiny_config(), CorpusLessons(corpus, "train"), model=add_lora(make_llava(), TINY_LORA), encoder=encoder
    )
    task.export(task.model, tmp_path)
    again = PeftModel.from_pretrained(make_llava(), str(tmp_path))
    state = {name: value for name, value in task.model.llava.named_parameters() if "lora_A" in name}
    for name, value in again.named_parameters():
        if "lora_A" in name:
            torch.testing.assert_close(value.float(), state[name], rtol=1e-2, atol=1e-3)


def test_training_goes_on_from_a_weight_folder(corpus, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("planner.language_train.load_base", lambda vision, seed: make_llava(seed=5))
    task = PlannerTask(
        tiny_config(), CorpusLessons(corpus, "train"), model=add_lora(make_llava(), TINY_LORA), encoder=encoder
    )
    task.export(task.model, tmp_path)
    again = fresh_model(tiny_config().model_copy(update={"start": tmp_path}))
    before = dict(task.model.llava.named_parameters())
    for name, value in again.named_parameters():
        if value.requires_grad:
            torch.testing.assert_close(value, before[name], rtol=1e-2, atol=1e-3)
    other = tiny_config().model_copy(update={"start": tmp_path, "lora": LoraSettings(rank=4)})
    with pytest.raises(UserError, match="lora settings"):
        fresh_model(other)
    with pytest.raises(UserError, match=r"vision\.yaml"):
        fresh_model(tiny_config().model_copy(update={"tower": tmp_path / "none"}))


def test_broken_weight_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="no planner"):
        load_planner(tmp_path)
    (tmp_path / "planner.json").write_text("{}")
    with pytest.raises(UserError, match="not a planner card"):
        load_planner(tmp_path)
