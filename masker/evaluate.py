"""`smartscene evaluate masker`: one table, by corpus, on held-out scenes and on held-out models, beside baselines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from masker.baselines import Silhouettes, eroded_scribble, fill_box
from masker.cases import Case, Group, choose_groups, moved_at_random, true_guide
from masker.config import ExamplesConfig
from masker.guides import FORMS, GuideForm
from masker.metrics import Examiner, FreeScores, GroupScores, Judge, headline, mean_pairwise_iou
from masker.placing import guide_box
from masker.ranking import iou
from masker.smartmask import SmartMask
from masker.support import SupportStatistics
from masker.table import text_table
from runtime.assets import asset_dir
from scene.corpus.store import Corpus
from scene.errors import ModelError, UserError
from scene.geometry import Box, Size
from scene.guidance import Guidance
from scene.layers import LayeredScene

DEFAULT_LIMIT = 40
FREE_DRAWS, FREE_EVERY = 8, 2  # every second object is drawn so often without a guide
GUIDED_DRAWS, GUIDED_EVERY = 4, 1  # under each guide, to see what ranking is worth; the model draws four at once
MOVES = 4  # random places of every real mask


def evaluate(
    pretrained: Path,
    *,
    data: Sequence[Path],
    split: str = "val",
    limit: int | None = None,
    seed: int = 0,
    progress: bool = True,
    oneshot: Path | None = None,
    judge: Path | None = None,
) -> dict[str, Any]:
    """Measures a masker folder on held-out scenes.

    Args:
        pretrained: Exported masker folder.
        data: Corpus folders. The baselines and the support statistics know the training scenes of all of them.
        split: val for tuning, test for the record.
        limit: Movable objects per group (corpus, models seen in training or not), drawn once by `seed`, rare labels
            favoured; None = `DEFAULT_LIMIT`.
        seed: Of the draw, the guides and the model.
        progress: Draw a bar on stderr.
        oneshot: Another exported masker folder, measured on the same guides as a baseline.
        judge: Folder of the silhouette judge; None = `pretrained/judge`, if it is there.

    Returns:
        `corpus`, `split`, `metrics.headline` of all; `groups`, by name: `iou` by method and form of guidance (first
        draw, exact boxes, canvas size; an empty mask counts 0), `iou_label_mean`, `ranked` (mean and best-ranked of
        several draws), `mask_free` (shares of recognised, rightly supported and impossibly overlapping draws, for all
        draws, the best-ranked one and the real masks; size ratios; diversity), `calibration` (the same support and
        overlap tests on real masks, and on real masks moved at random), `empty`, `seconds_per_mask` after warm-up.
        `table`: all of it as text. Mask-free IoU compares with the one place where the thing is, so it says how
        predictable places are, not how good they look.

    Raises:
        UserError: weights or corpora cannot be read, or hold no such objects.
    """
    started = time.monotonic()
    corpora = [Corpus.open(path) for path in data]
    if len({corpus.name for corpus in corpora}) < len(corpora):
        raise UserError("two of the --data folders hold the same world; name each world once")
    limit = DEFAULT_LIMIT if limit is None else limit
    groups = choose_groups(corpora, split, limit, seed)
    if not groups:
        raise UserError(f"no movable object in split {split} of {', '.join(str(path) for path in data)}")
    session = _Session(
        model=SmartMask.from_pretrained(pretrained),
        oneshot=None if oneshot is None else SmartMask.from_pretrained(oneshot),
        silhouettes=Silhouettes(corpora, {case.label for group in groups for case in group.cases}),
        examiner=Examiner(_statistics(pretrained, corpora, progress), load_judge(judge)),
        seed=seed,
    )
    session.warm_up(groups[0])
    planned = sum(_planned_masks(number) for group in groups for number in range(len(group.cases)))
    results: dict[str, Any] = {}
    with tqdm(total=planned, unit="mask", disable=not progress) as bar:
        for group in groups:
            scores = GroupScores()
            for number, case in enumerate(group.cases):
                session.measure(group.corpus, case, number, scores)
                bar.update(_planned_masks(number))
            results[group.name] = {"corpus": group.corpus.name, **scores.summary()}
    result = {
        "corpus": "+".join(corpus.name for corpus in corpora),
        "split": split,
        **headline(results),
        "limit": limit,
        "seed": seed,
        "groups": results,
        "seconds": time.monotonic() - started,
        "command": " ".join(
            ["smartscene evaluate masker", *(f"--data {path}" for path in data), f"--split {split} --limit {limit}"]
        ),
    }
    return {**result, "table": text_table(result)}


def load_judge(folder: Path | None) -> Judge | None:
    """The silhouette judge, or None where no weights of one are installed.

    Raises:
        UserError: `folder` is named but cannot be read.
    """
    found = folder or asset_dir("pretrained") / "judge"
    if folder is None and not found.is_dir():
        return None
    from perception.silhouettes import SilhouetteJudge

    judge: Judge = SilhouetteJudge.from_pretrained(found)
    return judge


def _statistics(pretrained: Path, corpora: Sequence[Corpus], progress: bool) -> SupportStatistics:
    """Those shipped with the weights where they are of the same corpora, else learned now."""
    shipped = pretrained / "statistics.json"
    if shipped.is_file():
        statistics = SupportStatistics.load(shipped)
        if statistics.are_of(corpora):
            return statistics
    return SupportStatistics.from_corpora(corpora, progress=progress)


def _planned_masks(number: int) -> int:
    free = FREE_DRAWS if number % FREE_EVERY == 0 else 1
    return free + 3 * (GUIDED_DRAWS if number % GUIDED_EVERY == 0 else 1)


@dataclass(frozen=True)
class _Session:
    """What every case is measured with."""

    model: SmartMask
    oneshot: SmartMask | None
    silhouettes: Silhouettes
    examiner: Examiner
    seed: int

    def warm_up(self, group: Group) -> None:
        """First calls are slow (lazy allocation, text features); they are not timed."""
        case = group.cases[0]
        for model in (self.model, self.oneshot):
            if model is not None:
                for form in FORMS:
                    self._predict(
                        model, case.scene(group.corpus), case, true_guide(case, form, group.corpus.size, 0), 1
                    )

    def measure(self, corpus: Corpus, case: Case, number: int, scores: GroupScores) -> None:
        """Everything of one object, which is number `number` of its group."""
        scene = case.scene(corpus)
        scores.labels.append(case.label)
        for form in FORMS:
            guidance = true_guide(case, form, corpus.size, self.seed)
            often, draws = (FREE_EVERY, FREE_DRAWS) if form == "none" else (GUIDED_EVERY, GUIDED_DRAWS)
            count = draws if number % often == 0 else 1
            begun = time.monotonic()
            ranked, first = self._predict(self.model, scene, case, guidance, count)
            scores.seconds["free" if form == "none" else "guided"].append((time.monotonic() - begun, count))
            scores.empty += [False] * len(ranked) + [True] * (count - len(ranked))
            # Of several draws the first one (not the best ranked) enters the mean, so that all objects count alike.
            scores.iou["model"][form].append(iou(first, case.truth) if first is not None else 0.0)
            if self.oneshot is not None:
                _, single = self._predict(self.oneshot, scene, case, guidance, 1)
                scores.iou["oneshot"][form].append(iou(single, case.truth) if single is not None else 0.0)
            if guidance is None:
                if count > 1:
                    scores.free.append(self._examine(case, scene, ranked, count))
                continue
            if count > 1:
                found = [iou(mask, case.truth) for mask in ranked] + [0.0] * (count - len(ranked))
                scores.ranked[form].append((float(np.mean(found)), found[0]))
            for name, mask in self._baselines(case, form, guidance, corpus.size).items():
                scores.iou[name][form].append(iou(mask, case.truth))
        real = [case.truth, *(moved_at_random(case, self.seed, move) for move in range(MOVES))]
        tested = [self.examiner.score(case, mask, scene.layout, recognise=False) for mask in real]
        scores.real.append(tested[0])
        scores.moved += tested[1:]

    def _predict(
        self, model: SmartMask, scene: LayeredScene, case: Case, guidance: Guidance | None, count: int
    ) -> tuple[list[np.ndarray], np.ndarray | None]:
        """Masks, best ranked first, and the one drawn first."""
        try:
            found = model.predict(
                scene,
                case.label,
                case.description,
                scene.prompt,
                guidance=guidance,
                count=count,
                seed=case.step(self.seed),
            )
        except ModelError:
            return [], None
        first = next((candidate.mask for candidate in found if candidate.details.get("candidate", 0.0) == 0.0), None)
        return [candidate.mask for candidate in found], first

    def _examine(self, case: Case, scene: LayeredScene, ranked: Sequence[np.ndarray], count: int) -> FreeScores:
        return FreeScores(
            wanted=count,
            draws=[self.examiner.score(case, mask, scene.layout, recognise=True) for mask in ranked],
            real=self.examiner.score(case, case.truth, scene.layout, recognise=True),
            overlap=mean_pairwise_iou(ranked),
        )

    def _baselines(self, case: Case, form: GuideForm, guidance: Guidance, size: Size) -> dict[str, np.ndarray]:
        box: Box = case.box if form == "box" else guide_box(guidance)
        masks = {
            "fill_box": fill_box(box, size),
            "mean_silhouette": self.silhouettes.mean(case.label, box, size),
            "nearest_silhouette": self.silhouettes.nearest(case.label, box, size),
        }
        if form != "box":
            masks["fill_guide"] = guidance.map > 0.5
        if form == "scribble":
            mean_radius = float(np.mean(ExamplesConfig().scribble_radius))
            masks["eroded_scribble"] = eroded_scribble(guidance.map > 0.5, mean_radius)
        return masks
