"""The inpainter's recipe, one choice at a time: short trainings from one start, measured on the same held-out objects.

    python -m benchmarks.inpainter_recipe --data runs/data/home --out runs/inpainter/recipe [--only fresh]

Every variant is `configs/inpainter/home.yaml` (`vae`: `vae_home.yaml`) with one change, sees the same examples, noise
and timesteps in the same order (but for the one with another seed, which shows the noise), and is compared within its
group, object by object, with the group's first:

    fresh  from random networks, equal ones: trained weights of another prediction cannot be carried over. Windows of
           64 pixels, where more samples fit into the time; no drafts, drawn from pure noise
    warm   from the shipped weights; drawn as shipped (a recalled draft, the sampler's last step) and from pure noise
    vae    from the shipped VAE; encoded and decoded, nothing is drawn

A ControlNet that sees more planes starts with its group's weights and zeros for those planes, so it starts alike. It
is given the layout of the whole scene, which no run has when it draws object by object: an upper bound.

A variant whose `OUT/NAME.json` exists is not run again; one that was interrupted goes on. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.inpainter_sampler import figures, objects
from inpainter.config import InpainterTraining, SamplerConfig
from inpainter.denoiser_task import DenoiserTask, Prepared
from inpainter.evaluate import Case, Method
from inpainter.examples import ExampleSource
from inpainter.judging import Judges
from inpainter.models import LATENT_CHANNELS, Denoiser, copy_denoiser
from inpainter.pipeline import draw_windows
from inpainter.planes import scene_planes
from inpainter.vae_task import VaeTask, reconstruct
from inpainter.window import crop, crop_mask, cut_out, place, resize_image, resize_mask, window_around
from perception.diffusion import NoiseProcess
from runtime.config import load_config
from runtime.files import write_json
from runtime.seeding import set_threads
from runtime.training import fit
from scene.corpus.store import Corpus
from scene.geometry import Box, Size
from scene.layers import composite

SHIPPED = Path("pretrained/home/inpainter")
SEED = 5
NOISE_LEVELS = (0.5, 1.0, 2.0, float("inf"))  # noise over signal; the last is pure noise
FROM_NOISE_STEPS = 8
BATCH = 8

START = {
    "fresh": (
        "window.resolution_px=64", "window.min_side_px=32", "window.dilate_px=2", "denoiser_training.appearance=null",
        "denoiser_training.timestep_power=0.5", "initial_weights=null", "sampler.draft_steps=null",
    ),
    "warm": (f"denoiser_training.appearance={SHIPPED}/appearance", f"initial_weights={SHIPPED}"),
    "vae": (f"initial_weights={SHIPPED}/vae",),
}  # fmt: skip
SAMPLES = {"fresh": 2000, "warm": 640, "vae": 2000}
PERCEPTUAL = {"fresh": 0.1, "warm": 0.1, "vae": 0.1}


@dataclass(frozen=True)
class Variant:
    """One training: a change of its group's configuration."""

    name: str
    group: str
    change: tuple[str, ...] = ()


def _perceptual(group: str) -> Variant:
    section = "vae_training" if group == "vae" else "denoiser_training"
    return Variant(f"{group} perceptual", group, (f"{section}.perceptual_weight={PERCEPTUAL[group]}",))


VARIANTS = (
    Variant("fresh x0", "fresh"),
    Variant("fresh flow", "fresh", ("noise.prediction=flow_prediction",)),
    Variant("fresh v", "fresh", ("noise.prediction=v_prediction",)),
    _perceptual("fresh"),
    Variant("fresh mask + layout + order", "fresh", ("denoiser.control_inputs=order",)),
    Variant("fresh mask + layout", "fresh", ("denoiser.control_inputs=layout",)),
    Variant("fresh x0, another seed", "fresh", ("fit.seed=1",)),
    Variant("warm", "warm"),
    _perceptual("warm"),
    Variant("warm mask + layout + order", "warm", ("denoiser.control_inputs=order",)),
    Variant("warm mask + layout", "warm", ("denoiser.control_inputs=layout",)),
    Variant("vae", "vae"),
    _perceptual("vae"),
)


def main() -> None:
    """Trains and measures what is missing, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("runs/data/home"))
    parser.add_argument("--out", type=Path, default=Path("runs/inpainter/recipe"))
    parser.add_argument("--objects", type=int, default=100)
    parser.add_argument("--samples", type=int, help="of every variant; the group's own number if left out")
    parser.add_argument("--only", help="variants whose name begins so")
    arguments = parser.parse_args()
    set_threads(1)
    corpus = Corpus.open(arguments.data)
    arguments.out.mkdir(parents=True, exist_ok=True)
    found, judges = objects(corpus, arguments.objects, SEED)
    pools: dict[tuple[str, int], dict[int, Prepared]] = {}
    for variant in VARIANTS:
        result = arguments.out / f"{slug(variant)}.json"
        if not result.exists() and variant.name.startswith(arguments.only or ""):
            samples = arguments.samples or SAMPLES[variant.group]
            run_variant(variant, samples, corpus, found, judges, pools, result)
    print_table(arguments.out)


def slug(variant: Variant) -> str:
    """File name of a variant."""
    return "_".join(variant.name.replace(",", "").replace("+", "").split())


class RecipeTask(DenoiserTask):
    """Without sheets; its examples have the planes whether its ControlNet sees them or not, so they can be shared."""

    def __init__(self, config: InpainterTraining, corpus: Corpus) -> None:
        super().__init__(config, corpus)
        self.source = ExampleSource(
            corpus, corpus.records("train"), config.examples, config.window, config.fit.seed, planes=True
        )

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Draws nothing."""


class VaeRecipeTask(VaeTask):
    """Without sheets."""

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Draws nothing."""


def configured(variant: Variant, samples: int) -> InpainterTraining:
    """The variant's whole configuration."""
    vae = variant.group == "vae"
    settings = [
        *START[variant.group], f"fit.total_samples={samples}", "fit.warmup_samples=400", "fit.snapshot_minutes=1000",
        "fit.threads=1", f"fit.sheet_every={10 * samples}", "fit.log_every=200",
    ]  # fmt: skip
    if not vae:
        settings += [f"denoiser_training.vae={SHIPPED}/vae", f"denoiser_training.pool={samples // 2}"]
    path = Path("configs/inpainter") / ("vae_home.yaml" if vae else "home.yaml")
    return load_config(InpainterTraining, path, (*settings, *variant.change))


def run_variant(
    variant: Variant,
    samples: int,
    corpus: Corpus,
    found: Sequence[Case],
    judges: Judges,
    pools: dict[tuple[str, int], dict[int, Prepared]],
    result: Path,
) -> None:
    """Trains one variant, measures its averaged weights and writes the result."""
    out, config = result.with_suffix(""), configured(variant, samples)
    resume = (out / "snapshots").exists()
    task: RecipeTask | VaeRecipeTask
    if variant.group == "vae":
        task = VaeRecipeTask(config, corpus)
    else:
        task = RecipeTask(config, corpus)
        task.prepared = pools.setdefault((variant.group, config.fit.seed), {})
        if variant.group == "fresh" and not resume:
            start_alike(task)
        fill(task)
    cpu = time.process_time()
    seen = fit(task, config.fit, out, resume=resume)
    if seen < samples:
        raise SystemExit(f"{variant.name}: stopped at {seen} of {samples} samples; the same command goes on")
    speed = {} if resume else {"per_cpu_s": samples / (time.process_time() - cpu)}
    average(task, out / "export")
    if isinstance(task, VaeRecipeTask):
        error, methods = {}, {"decoded": decoded(task, found)}
    else:
        error, methods = denoising_error(task, found), drawn(task, found, variant.group)
    facts = {
        "name": variant.name, "group": variant.group, "change": variant.change, "samples": samples, **speed,
        "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        "denoising_error": error,
        "figures": {name: figures(method, judges) for name, method in methods.items()},
        "rows": {name: method.rows for name, method in methods.items()},
    }  # fmt: skip
    write_json(result, facts)
    shutil.rmtree(out / "snapshots")
    print(f"{variant.name}: {json.dumps(facts['figures'])} {json.dumps(error)}", flush=True)


def start_alike(task: RecipeTask) -> None:
    """Random networks that do not depend on what the ControlNet sees; what is beyond canvas and mask starts at 0."""
    torch.manual_seed(task.config.fit.seed)
    start = Denoiser(task.config.denoiser.model_copy(update={"control_inputs": "mask"}), task.side)
    assert isinstance(task.model, Denoiser)
    assert copy_denoiser(task.model, start.unet, start.controlnet) is None


def fill(task: RecipeTask) -> None:
    """Makes all examples before the clock starts: the first variant would pay for the others."""
    for number in range(task.training.pool):
        task.batch([number])


def average(task: RecipeTask | VaeRecipeTask, export: Path) -> None:
    """Puts the exported (averaged) weights into the task's networks."""
    from inpainter.models import load_folder, load_vae

    if isinstance(task, VaeRecipeTask):
        task.model = load_vae(export / "vae")
        return
    folder = load_folder(export)
    assert isinstance(task.model, Denoiser)
    assert copy_denoiser(task.model, folder.unet, folder.controlnet) is None
    task.model.eval().requires_grad_(False)


@torch.no_grad()
def denoising_error(task: RecipeTask, found: Sequence[Case]) -> dict[str, float]:
    """Mean squared error of the estimate of z_0 inside the mask, at equal ratios of noise to signal."""
    errors: dict[str, list[float]] = {f"{level:g}": [] for level in NOISE_LEVELS}
    source = ExampleSource(task.corpus, (), task.config.examples, task.config.window, 0, planes=True)
    plain = [source.plain(case.record, case.k) for case in found]
    examples = [example for example in plain if example is not None and example.mask.any()]
    for first in range(0, len(examples), BATCH):
        part = examples[first : first + BATCH]
        batch = task.collate(part, range(first, first + len(part)))
        for level in NOISE_LEVELS:
            timesteps = torch.full((len(part),), timestep_at(task.schedule, level))
            noisy = task.schedule.add_noise(batch["latents"], batch["noise"], timesteps)
            output = task.model(noisy, timesteps, batch["text"], batch["control"])
            error = (task.schedule.estimate_clean(noisy, output, timesteps) - batch["latents"]) ** 2
            errors[f"{level:g}"] += mean_inside(error, batch["inside"])
    return {name: round(float(np.mean(values)), 5) for name, values in errors.items()}


def mean_inside(error: Tensor, inside: Tensor) -> list[float]:
    """Of each sample, over the cells of its mask."""
    total = (error * inside).sum(dim=(1, 2, 3)) / (inside.sum(dim=(1, 2, 3)).clamp(min=1) * LATENT_CHANNELS)
    return [float(value) for value in total]


def timestep_at(process: NoiseProcess, level: float) -> int:
    """The timestep with that much noise over signal; the last for infinite noise."""
    count = len(process.alphas_cumprod)
    if level == float("inf"):
        return count - 1
    signal, sigma = process.coefficients(torch.arange(1, count - 1), 1)
    return 1 + int(((sigma / signal).log() - torch.tensor(level).log()).abs().argmin())


def in_window(task: RecipeTask | VaeRecipeTask, case: Case) -> tuple[Any, np.ndarray, np.ndarray]:
    """Window of a case, its canvas uint8 (R, R, 3) and its mask bool (R, R), as when it is drawn."""
    config, box = task.config.window, Box.from_mask(case.mask)
    assert box is not None
    window = window_around(
        box, Size(*case.image.shape[1::-1]), context=config.context, min_side_px=config.min_side_px
    )  # fmt: skip
    side = config.resolution_px
    return window, resize_image(crop(case.image, window), side), resize_mask(crop_mask(case.mask, window), side)


def pasted(task: RecipeTask | VaeRecipeTask, case: Case, window: Any, picture: np.ndarray) -> np.ndarray:
    """A drawn window back on the canvas, cut with the exact mask, uint8 (H, W, 3)."""
    canvas = place(picture, window, Size(*case.image.shape[1::-1]))
    return composite(case.image, cut_out(canvas, case.mask, task.config.window.feather_px))


def drawn(task: RecipeTask, found: Sequence[Case], group: str) -> dict[str, Method]:
    """All cases, each in one window, from pure noise; with trained weights also as shipped."""
    stored = task.config.sampler
    samplers = {"noise": stored.model_copy(update={"draft_steps": None, "steps": FROM_NOISE_STEPS})}
    if group == "warm":
        samplers = {"as shipped": stored, **samplers}
    views = [in_window(task, case) for case in found]
    planes = [
        scene_planes(task.corpus, case.record.layers, case.k, mask, window)[..., : task.planes]
        for case, (window, _, mask) in zip(found, views, strict=True)
    ]
    return {name: draw(task, found, views, planes, sampler) for name, sampler in samplers.items()}


def draw(
    task: RecipeTask,
    found: Sequence[Case],
    views: Sequence[tuple[Any, np.ndarray, np.ndarray]],
    planes: Sequence[np.ndarray],
    sampler: SamplerConfig,
) -> Method:
    """All cases with one sampler."""
    begun = time.monotonic()
    pictures = draw_windows(
        task.pipeline(task.model),
        [image for _, image, _ in views],
        [mask for _, _, mask in views],
        [task.embed(case.description) for case in found],
        task.embed(""),
        [case.seed.derive("inpaint") for case in found],
        sampler,
        dilate_px=task.config.window.dilate_px,
        batch=4,
        appearance=task.appearance,
        planes=planes if task.planes else None,
    )
    method = Method(seconds=time.monotonic() - begun)
    for case, (window, _, _), picture in zip(found, views, pictures, strict=True):
        method.add(case, pasted(task, case, window, picture))
    return method


def decoded(task: VaeRecipeTask, found: Sequence[Case]) -> Method:
    """The real pictures through the VAE."""
    method = Method()
    for case in found:
        window, _, _ = in_window(task, case)
        picture = resize_image(crop(case.truth, window), task.config.window.resolution_px)
        method.add(case, pasted(task, case, window, reconstruct(task.model, picture[None])[0]))
    return method


def difference(rows: Sequence[dict[str, float]], reference: Sequence[dict[str, float]], key: str, digits: int) -> str:
    """Mean difference over objects, and its standard error."""
    gaps = np.array([row[key] - other[key] for row, other in zip(rows, reference, strict=True)])
    return f"{gaps.mean():+.{digits}f} ± {gaps.std(ddof=1) / len(gaps) ** 0.5:.{digits}f}"


def print_table(out: Path) -> None:
    """One Markdown table of all results in a folder, group by group."""
    columns = (
        "variant", "samples", "samples/CPU s", "drawn from", "z_0 error at noise/signal 0.5, 1, 2, pure", "dB",
        "difference", "feature distance", "difference", "kernel distance (floor)", "recognised (real), of",
    )  # fmt: skip
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    found = [json.loads(path.read_text()) for v in VARIANTS if (path := out / f"{slug(v)}.json").exists()]
    firsts: dict[str, dict[str, Any]] = {}
    for facts in found:
        first = firsts.setdefault(facts["group"], facts)
        for name, report in facts["figures"].items():
            rows, reference = facts["rows"][name], first["rows"][name]
            cells = [
                facts["name"], str(facts["samples"]), f"{facts.get('per_cpu_s', 0):.1f}", name,
                " ".join(f"{value:.3f}" for value in facts["denoising_error"].values()),
                f"{report['inside_psnr_db']:.2f}", difference(rows, reference, "inside_psnr_db", 2),
                f"{report['inside_feature_distance']:.4f}", difference(rows, reference, "inside_feature_distance", 4),
                f"{report['local_kernel']:.3f} ({report['local_kernel_floor']:.3f})",
                f"{report['recognised']:.3f} ({report['recognised_real']:.3f}), {report['recognised_n']}",
            ]  # fmt: skip
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
