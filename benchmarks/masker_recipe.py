"""The masker's recipe, one choice at a time: short trainings from one start, measured on the same held-out objects.

Usage: .venv/bin/python benchmarks/masker_recipe.py --start pretrained/home/masker --out runs/masker/recipe
       .venv/bin/python benchmarks/masker_recipe.py --guidance pretrained/home/masker

Every variant is `configs/masker/denoiser_home.yaml` with one change, sees the same samples in the same order (but
for the one with another seed, which shows the noise), and is compared within its group, object by object, with the
group's first:

    warm    all weights of the start are taken over
    fresh   the denoiser starts anew: there are no trained weights of another shape, or for another output
    layout  all that reads the layout starts anew

A variant whose `OUT/NAME.json` exists is not run again; one that was interrupted goes on. IoU in the view of 64 cells,
the refiner left out (with `--guidance`, its first level and 128 cells): the differences lie before it. Prints a
Markdown table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from masker.cases import Case, choose_groups
from masker.config import ExamplesConfig, GuidanceWeights, SamplingConfig
from masker.examples import ExampleSource, MaskExample
from masker.guides import GuideForm
from masker.model import MaskModel
from masker.sampling import sample_masks
from masker.stage_config import MaskerConfig
from masker.tasks import DenoiserTask
from masker.texts import TextBook
from masker.weights import load_masker
from runtime.config import load_config
from runtime.files import write_json
from runtime.seeding import numpy_rng, set_threads, torch_generator
from runtime.training import fit
from scene.corpus.store import Corpus
from scene.seeds import derive_seed

CONFIG = Path("configs/masker/denoiser_home.yaml")
SEED = 5
FORMS: tuple[GuideForm, ...] = ("box", "blob", "scribble")
BATCH = 32
SOLVER_STEPS = 4  # one step, as shipped, would ask an epsilon prediction for the mask out of pure noise
UNET = "denoiser={kind: unet, channels: [64, 128], blocks: 2}"  # as many parameters as the transformer, within 2 %


class RecipeTask(DenoiserTask):
    """Without sample sheets."""

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Draws nothing."""


@dataclass(frozen=True)
class Variant:
    """One training: a change of `CONFIG`, within a group that starts alike.

    Attributes:
        usual: How it is measured, see `measure`. also: Further measurements.
    """

    name: str
    group: str
    change: tuple[str, ...] = ()
    usual: str = "recorded"
    also: tuple[str, ...] = ()


VARIANTS = (
    Variant("base", "warm", also=("random order", "no context")),
    Variant("fresh base", "fresh"),
    Variant("U-Net", "fresh", (UNET,)),
    Variant("x0", "fresh", ("diffusion.prediction=sample",)),
    Variant("epsilon", "fresh", ("diffusion.prediction=epsilon",)),
    Variant("modal", "warm", ("examples.amodal=false",)),
    Variant("base, another seed", "warm", ("fit.seed=1",), also=("random order",)),
    Variant("patch 2", "fresh", ("denoiser.patch=2",)),
    Variant("text labels", "layout"),
    Variant("palette", "layout", ("layout_encoder.labels=palette",)),
    Variant("order random", "warm", ("examples.order=random",), also=("random order",)),
    Variant("order front to back", "warm", ("examples.order=front_to_back",), also=("random order",)),
    Variant("canvas share 0.5", "warm", ("examples.canvas_share=0.5",)),
    Variant("no context", "warm", ("dropout.context=1.0",), usual="no context"),
    Variant("width 192, 8 layers", "fresh", ("denoiser.width=192", "denoiser.layers=8")),
    Variant("width 384, 4 layers", "fresh", ("denoiser.width=384", "denoiser.layers=4")),
    Variant("fresh base, another seed", "fresh", ("fit.seed=1",)),
)
ANEW = {"warm": (), "fresh": ("denoiser.", "shortcut"), "layout": ("layout_encoder.", "no_layout")}


def main() -> None:
    """Trains and measures what is missing, then prints the table; or compares guidance on trained weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, help="masker folder that every variant starts from")
    parser.add_argument("--out", type=Path, default=Path("runs/masker/recipe"))
    parser.add_argument("--samples", type=int, default=2500)
    parser.add_argument("--objects", type=int, default=48, help="per group of models, seen in training and held out")
    parser.add_argument("--data", type=Path, action="append", help="corpora, the measured one first")
    parser.add_argument("--guidance", type=Path, help="masker folder: compare guidance compositions, train nothing")
    arguments = parser.parse_args()
    set_threads(1)
    corpora = [Corpus.open(path) for path in arguments.data or (Path("runs/data/home"), Path("runs/data/icons"))]
    texts = TextBook.load(load_config(MaskerConfig, CONFIG).text)
    objects = Objects(corpora[0], arguments.objects)
    if arguments.guidance:
        compare_guidance(arguments.guidance, corpora, objects, texts)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    for variant in VARIANTS:
        result = arguments.out / f"{slug(variant)}.json"
        if not result.exists():
            run_variant(variant, arguments.start, arguments.samples, corpora, objects, texts, result)
    print_table(arguments.out)


def slug(variant: Variant) -> str:
    """File name of a variant."""
    return variant.name.replace(",", "").replace(" ", "_")


class Objects:
    """Validation objects, half of them of models that never occur in training, and their examples under guides.

    Args:
        corpus: Where they come from.
        each: How many with models seen in training, and how many without.
    """

    def __init__(self, corpus: Corpus, each: int) -> None:
        self.corpus = corpus
        groups = choose_groups([corpus], "val", each, SEED)
        self.cases: list[tuple[Case, bool]] = [
            (case, "held-out" in group.name) for group in groups for case in group.cases
        ]
        self._made: dict[str, list[MaskExample]] = {}

    def examples(self, labels: Sequence[str], order: str, cells: int) -> list[MaskExample]:
        """Every object under every form, in the view that its guide frames; made once.

        Args:
            labels: Label table of the model's examples.
            order: Which layers are there already, see `ExamplesConfig.order`.
            cells: Of guide and target, along one side.
        """
        if order not in self._made:
            config = ExamplesConfig(
                order=order, canvas_share=0, window_jitter=0, box_jitter=0, mirror=False, subset_share=0,
                shuffle_share=0, complete_share=0, label_only_share=0,
            )  # type: ignore[arg-type]  # fmt: skip
            source = ExampleSource(self.corpus, "val", config, 64, SEED, labels, cells)
            self._made[order] = [
                source.build(case.record, case.k, form, numpy_rng(case.seed(SEED, form)))
                for case, _ in self.cases
                for form in FORMS
            ]
        return self._made[order]


def run_variant(
    variant: Variant,
    start: Path,
    samples: int,
    corpora: Sequence[Corpus],
    objects: Objects,
    texts: TextBook,
    result: Path,
) -> None:
    """Trains one variant from the start's weights, measures its export and writes the result."""
    out = result.with_suffix("")
    config = load_config(
        MaskerConfig,
        CONFIG,
        (f"start_from={start}", f"codec={start}", "placement=", "refiner=", f"sampling.solver_steps={SOLVER_STEPS}",
         f"fit.total_samples={samples}", "fit.warmup_samples=200",
         "fit.snapshot_minutes=1000", f"fit.sheet_every={10 * samples}", "fit.log_every=100", *variant.change),
    )  # fmt: skip
    task = RecipeTask(config, corpora, texts=texts)
    resume = (out / "snapshots").exists()
    if not resume:
        start_anew(task.whole, load_masker(start)[2], ANEW[variant.group])
    begun, cpu = time.monotonic(), time.process_time()
    seen = fit(task, config.fit, out, resume=resume)
    if seen < samples:
        raise SystemExit(f"{variant.name}: stopped at {seen} of {samples} samples; the same command goes on")
    speed = {"samples_per_s": samples / (time.monotonic() - begun), "per_cpu_s": samples / (time.process_time() - cpu)}
    model = load_masker(out / "export")[2]
    kinds = {"usual": variant.usual, **{name: name for name in variant.also}}
    facts = {
        "name": variant.name,
        "group": variant.group,
        "change": variant.change,
        "samples": samples,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **({} if resume else speed),
        "held_out": [held_out for _, held_out in objects.cases],
        "visible": [case.record.layers[case.k].facts.visible_frac for case, _ in objects.cases],  # type: ignore[union-attr]
        "iou": {name: measure(model, task, objects, kind, config.sampling) for name, kind in kinds.items()},
    }
    write_json(result, facts)
    shutil.rmtree(out / "snapshots")
    print(f"{variant.name}: {summary(facts)}", flush=True)


def start_anew(model: nn.Module, start: nn.Module, anew: tuple[str, ...]) -> None:
    """Copies the start's weights where names and shapes agree, but for names that begin with one of `anew`.

    Where the layout starts anew, so do those weights of the shape prior that read it: zeros, whatever their number.
    """
    mine, theirs = model.state_dict(), start.state_dict()
    taken = {
        name: value
        for name, value in theirs.items()
        if name in mine and mine[name].shape == value.shape and not (anew and name.startswith(anew))
    }
    if "layout_encoder." in anew:
        name = "shape_prior.draw.0.weight"
        assert isinstance(start, MaskModel) and start.shape_prior is not None
        cells = start.shape_prior.config.layout_cells**2
        facts = theirs[name].shape[1] - cells * start.layout_encoder.config.layout_channels
        taken[name] = torch.zeros_like(mine[name])
        taken[name][:, :facts] = theirs[name][:, :facts]
    model.load_state_dict(taken, strict=False)


@torch.no_grad()
def measure(
    model: MaskModel, task: DenoiserTask, objects: Objects, name: str, sampling: SamplingConfig
) -> list[list[float]]:
    """IoU on the canvas part of the view, one list of `FORMS` an object.

    Args:
        model: In evaluation mode.
        task: Turns examples into conditions; its codec and diffusion are the model's.
        objects: What is measured.
        name: "random order": movable layers placed before the object are a random set. "no context": T_context is
            empty. "recorded": the layers behind it, and the scene's text.
        sampling: Sampler settings.
    """
    cells = task.codec.resolution * (1 if model.refiner is None else 2)
    examples = objects.examples(task.source.labels, "random" if name == "random order" else "recorded", cells)
    if name == "no context":
        examples = [replace(example, context="") for example in examples]
    codec, scores = task.codec, []
    shape = (codec.latent_channels, codec.latent_size, codec.latent_size)
    for first in range(0, len(examples), BATCH):
        batch = examples[first : first + BATCH]
        seeds = [derive_seed(SEED, "recipe", first + i) for i in range(len(batch))]
        noise = torch.stack([torch.randn(shape, generator=torch_generator(seed)) for seed in seeds])
        likeliest = torch.zeros(len(batch), 1, model.code_width)
        conditions = model.draw_codes(task.conditions(batch), likeliest)
        soft = sample_masks(
            model,
            conditions,
            sampling.temperature * noise,
            sampling.weights,
            task.config.diffusion,
            sampling,
            [False] * len(batch),
        )
        scores += [view_iou(mask.numpy(), example) for mask, example in zip(soft, batch, strict=True)]
    return np.array(scores).reshape(-1, len(FORMS)).tolist()  # type: ignore[no-any-return]


def view_iou(soft: np.ndarray, example: MaskExample) -> float:
    """IoU of a soft mask with the true one, over cells of the canvas."""
    inside = example.geometry[0].repeat(len(soft) // 64, axis=0).repeat(len(soft) // 64, axis=1) > 0.5
    found, truth = (soft > 0.5) & inside, (example.target > 0.5) & inside
    union = int((found | truth).sum())
    return int((found & truth).sum()) / union if union else 1.0


def summary(facts: dict[str, object]) -> str:
    """Means by form, for the log."""
    return ", ".join(
        f"{name}: " + " ".join(f"{value:.3f}" for value in np.mean(scores, axis=0))
        for name, scores in facts["iou"].items()  # type: ignore[attr-defined]
    )


def difference(values: np.ndarray, reference: np.ndarray) -> str:
    """Mean difference of objects' mean IoU and its standard error, in hundredths."""
    gaps = 100 * (values.mean(axis=1) - reference.mean(axis=1))
    return f"{gaps.mean():+.1f} ± {gaps.std(ddof=1) / len(gaps) ** 0.5:.1f}"


def print_table(out: Path) -> None:
    """One Markdown table of all results in a folder, group by group."""
    found = [json.loads(path.read_text()) for v in VARIANTS if (path := out / f"{slug(v)}.json").exists()]
    columns = (
        "group", "variant", "parameters", "samples/CPU s", *FORMS, "held-out models", "hidden parts",
        "difference from the group's first, hundredths", "other measurements (difference)",
    )  # fmt: skip
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for group in dict.fromkeys(facts["group"] for facts in found):
        rows = [facts for facts in found if facts["group"] == group]
        reference = {name: np.array(scores) for name, scores in rows[0]["iou"].items()}
        for facts in rows:
            print(table_row(facts, reference))


def table_row(facts: dict, reference: dict[str, np.ndarray]) -> str:  # type: ignore[type-arg]
    """One row; held-out models and objects of which less than 70 % show as means over the three forms."""
    scores = np.array(facts["iou"]["usual"])
    hidden = np.array(facts["visible"]) < 0.7
    first = np.array_equal(scores, reference["usual"])
    also = [
        f"{name}: {np.mean(values):.3f} ({difference(np.array(values), reference['usual' if first else name])})"
        for name, values in facts["iou"].items()
        if name != "usual"
    ]
    cells = [
        facts["group"], facts["name"], f"{facts['parameters'] / 1e6:.1f} M", f"{facts.get('per_cpu_s', 0):.1f}",
        *(f"{value:.3f}" for value in scores.mean(axis=0)),
        f"{scores[np.array(facts['held_out'])].mean():.3f}", f"{scores[hidden].mean():.3f}",
        difference(scores, reference["usual"]), "; ".join(also),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def guidance_settings() -> Iterator[tuple[str, float, GuidanceWeights]]:
    """Composition, weight and weights; equal weights in the chain are the joint weight, so there S keeps 1."""
    yield "chained", 1.0, GuidanceWeights()
    yield "one_text", 1.0, GuidanceWeights()
    for weight in (1.5, 3.0):
        for composition in ("chained", "one_text"):
            yield composition, weight, GuidanceWeights(object=weight, context=weight)
        yield "joint", weight, GuidanceWeights(layout=weight, object=weight, context=weight)


def compare_guidance(folder: Path, corpora: Sequence[Corpus], objects: Objects, texts: TextBook) -> None:
    """Guidance compositions on trained weights."""
    config, _, model, _ = load_masker(folder)
    task = DenoiserTask(config.model_copy(update={"codec": str(folder)}), corpora, texts=texts)
    print("| composition | weight | box | blob | scribble | against the plain model, hundredths | s per mask |\n"
          "|---|---|---|---|---|---|---|")  # fmt: skip
    reference: np.ndarray | None = None
    clock: Callable[[], float] = time.process_time
    for composition, weight, weights in guidance_settings():
        sampling = SamplingConfig.model_validate(
            {**config.sampling.model_dump(), "composition": composition, "weights": weights,
             "free_weights": GuidanceWeights()}
        )  # fmt: skip
        begun = clock()
        scores = np.array(measure(model, task, objects, "recorded", sampling))
        spent = (clock() - begun) / scores.size
        reference = scores if reference is None else reference
        means = " | ".join(f"{value:.3f}" for value in scores.mean(axis=0))
        print(f"| {composition} | {weight} | {means} | {difference(scores, reference)} | {spent:.3f} |", flush=True)


if __name__ == "__main__":
    main()
