"""The masker's evaluation as one readable table: a column for each group, a row for each number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

METHODS = {
    "model": "model, first draw",
    "oneshot": "one-shot network",
    "eroded_scribble": "scribble eroded by the mean radius",
    "fill_guide": "the guide itself",
    "nearest_silhouette": "nearest training silhouette",
    "mean_silhouette": "mean training silhouette",
    "fill_box": "fill the box",
}
FORM_TITLES = {
    "box": "exact box",
    "blob": "blob",
    "scribble": "scribble",
    "none": "no guide (how predictable the place is)",
}
WIDTH, COLUMN = 42, 17

Row = tuple[str, list[str]]


def text_table(result: Mapping[str, Any]) -> str:
    """Aligned text of what `masker.evaluate.evaluate` returns."""
    groups: Mapping[str, Mapping[str, Any]] = result["groups"]
    rows: list[Row] = [_head(name, list(groups)) for name in ("", " ")]
    rows += [_row("objects", groups, lambda g: str(g["n"])), _row("  of labels", groups, lambda g: str(g["labels"]))]
    for form in FORM_TITLES:
        rows += _iou_rows(form, groups)
    rows += _free_rows(groups)
    rows += [
        ("the same tests on all objects' real masks", []),
        _row("  support right", groups, lambda g: _share(g["calibration"]["support_right_real"])),
        _row("  support right, moved at random", groups, lambda g: _share(g["calibration"]["support_right_moved"])),
        _row("  impossible overlap", groups, lambda g: _share(g["calibration"]["impossible_overlap_real"])),
        _row("  impossible, moved at random", groups, lambda g: _share(g["calibration"]["impossible_overlap_moved"])),
        ("cost", []),
        _row("  seconds a mask, guided", groups, lambda g: _number(g["seconds_per_mask"].get("guided"), 2)),
        _row("  seconds a mask, no guide", groups, lambda g: _number(g["seconds_per_mask"].get("free"), 2)),
        _row("  came out empty", groups, lambda g: _share(g["empty"])),
    ]
    lines = [f"split {result['split']}, at most {result['limit']} objects a group, seed {result['seed']}"]
    lines += [
        (title.ljust(WIDTH) + "".join(value.rjust(COLUMN) for value in values)).rstrip() for title, values in rows
    ]
    return "\n".join(lines)


def _head(line: str, names: list[str]) -> Row:
    """Two lines of column heads: the corpus, and which of its models."""
    parts = [(*name.split(", "), "")[:2] for name in names]
    return "", [second if line else first for first, second in parts]


def _row(title: str, groups: Mapping[str, Mapping[str, Any]], value: Callable[[Mapping[str, Any]], str]) -> Row:
    return title, [value(group) for group in groups.values()]


def _iou_rows(form: str, groups: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    def of(table: str, method: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda group: _number(group[table].get(method, {}).get(form))

    def ranked(key: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda group: f"{_number(group['ranked'][form][key])} ({group['ranked'][form]['n']})"

    rows: list[Row] = [(f"IoU, {FORM_TITLES[form]}", [])]
    for method, title in METHODS.items():
        if any(form in group["iou"].get(method, {}) for group in groups.values()):
            rows.append(_row(f"  {title}", groups, of("iou", method)))
    rows.append(_row("  model, mean over labels", groups, of("iou_label_mean", "model")))
    if any(form in group["ranked"] for group in groups.values()):
        rows.append(_row("  model, mean of 4 draws (objects)", groups, ranked("mean_of_draws")))
        rows.append(_row("  model, best ranked of the 4", groups, ranked("best")))
    return rows


def _free_rows(groups: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    def free(*path: str, show: Callable[[Any], str]) -> Callable[[Mapping[str, Any]], str]:
        def value(group: Mapping[str, Any]) -> str:
            found: Any = group["mask_free"]
            for key in path:
                found = None if found is None else found[key]
            return show(found)

        return value

    rows: list[Row] = [
        ("mask-free samples, 8 each", []),
        _row("  objects", groups, free("n", show=str)),
        _row("  mean pairwise IoU (diversity)", groups, free("diversity_pairwise_iou", show=_number)),
        _row("  came out empty", groups, free("empty", show=_share)),
    ]
    if all(group["mask_free"]["recognised"] is None for group in groups.values()):
        rows.append(("  recognised", ["not shown: no judge, or it knows none of the labels"]))
    else:
        rows += [
            _row("  recognised, objects judged", groups, free("recognised", "n", show=lambda n: str(n or 0))),
            _row("  recognised, all samples", groups, free("recognised", "all", show=_share)),
            _row("  recognised, best ranked", groups, free("recognised", "best_ranked", show=_share)),
            _row("  recognised, real masks", groups, free("recognised", "real", show=_share)),
            _row("  samples over real masks", groups, free("recognised", "all_over_real", show=_share)),
            _row("  best ranked over real masks", groups, free("recognised", "best_ranked_over_real", show=_share)),
        ]
    for key, title in (("support_right", "support right"), ("impossible_overlap", "impossible overlap")):
        for which, words in (("all", "all samples"), ("best_ranked", "best ranked"), ("real", "real masks")):
            rows.append(_row(f"  {title}, {words}", groups, free(key, which, show=_share)))
    for which, words in (("all", "all samples"), ("best_ranked", "best ranked")):
        rows.append(_row(f"  size over real, {words}, median", groups, free("size_ratio", which, show=_median)))
        rows.append(_row("    10th and 90th percentile", groups, free("size_ratio", which, show=_ends)))
    return rows


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _median(spread: Mapping[str, float] | None) -> str:
    return "-" if spread is None else f"{spread['median']:.2f}"


def _ends(spread: Mapping[str, float] | None) -> str:
    return "-" if spread is None else f"{spread['p10']:.2f} {spread['p90']:.2f}"
