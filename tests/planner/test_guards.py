import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.guards import GuardConfig, PlanState, allowed_labels, plan_state, rule, too_close
from scene.geometry import Box

LABELS = ("sky", "grass", "boy", "dog", "tree", "ball")
SURFACES = ("sky", "grass")


def state(placed=("sky", "grass"), wanted=None, rejected=()) -> PlanState:
    return plan_state(placed, wanted or {}, LABELS, SURFACES, rejected)


def test_surfaces_come_first():
    assert rule("boy", state(()), GuardConfig()).labels == ("sky",)
    assert rule(None, state(("sky",)), GuardConfig()).labels == ("grass",)
    assert rule("sky", state(()), GuardConfig()) is None
    assert rule("boy", state((), rejected=SURFACES), GuardConfig()) is None


def test_named_objects_before_stop():
    ruling = rule(None, state(("sky", "grass", "boy"), {"boy": 1, "dog": 2}), GuardConfig())
    assert ruling.labels == ("dog",)
    assert "named objects" in ruling.note
    assert rule(None, state(("sky", "grass", "dog", "dog"), {"dog": 2}), GuardConfig()) is None


def test_counts_named_in_the_prompt_allow_repeats():
    assert rule("dog", state(("sky", "grass", "dog"), {"dog": 2}), GuardConfig()) is None
    ruling = rule("dog", state(("sky", "grass", "dog"), {}), GuardConfig())
    assert "repeat cap" in ruling.note
    assert "dog" not in ruling.labels
    assert ruling.allow_stop


def test_repeat_prefers_what_is_missing():
    ruling = rule("dog", state(("sky", "grass", "dog"), {"boy": 1}), GuardConfig())
    assert ruling.labels == ("boy",)
    assert not ruling.allow_stop


def test_what_the_prompt_names_may_be_more_than_the_maximum():
    wanted, four = {"dog": 5, "boy": 1}, ("sky", "grass", "dog", "dog", "dog", "dog")
    for most, stops in ((0, True), (4, True), (6, False), (24, False)):
        ruling = rule("dog", state(four, wanted), GuardConfig(max_objects=3, max_named=most, max_implied=9))
        assert (ruling is not None and ruling.labels == ()) == stops
    ruling = rule("tree", state(four, wanted), GuardConfig(max_objects=3, max_named=24, max_implied=9))
    assert ruling is not None, "the last places belong to what is named"
    assert "tree" not in ruling.labels


def test_maximum_stops():
    full = state(("sky", "grass", "boy", "dog"))
    assert rule("tree", full, GuardConfig(max_objects=2)).labels == ()
    assert rule("tree", full, GuardConfig(max_objects=3)) is None


def test_implied_objects_are_bounded():
    placed = ("sky", "grass", "boy", "dog")
    assert rule("tree", state(placed), GuardConfig(max_implied=2)).labels == ()
    assert rule("tree", state(placed, {"ball": 1}), GuardConfig(max_implied=2)).labels == ("ball",)
    assert rule("tree", state(placed, {"tree": 1}), GuardConfig(max_implied=2)) is None


def test_room_is_kept_for_named_objects():
    ruling = rule("tree", state(("sky", "grass", "boy"), {"dog": 1}), GuardConfig(max_objects=2))
    assert ruling.labels == ("dog",)
    assert "room" in ruling.note


def test_minimum_goes_on():
    ruling = rule(None, state(("sky", "grass")), GuardConfig(min_objects=1))
    assert set(ruling.labels) == {"boy", "dog", "tree", "ball"}
    assert rule(None, state(("sky", "grass", "boy")), GuardConfig(min_objects=1)) is None


def test_rejected_labels_are_never_asked_for():
    unlucky = state(("sky", "grass", "boy", "dog"), {"tree": 1}, rejected=("tree",))
    assert unlucky.missing == ()
    assert rule(None, unlucky, GuardConfig()) is None
    assert "tree" not in allowed_labels(unlucky, GuardConfig())


def test_nobody_joins_people_whom_the_prompt_names():
    def party(wanted) -> PlanState:
        return plan_state(("sky", "grass"), wanted, (*LABELS, "girl"), SURFACES, (), ("boy", "girl"))

    ruling = rule("girl", party({"boy": 1}), GuardConfig())
    assert ruling.labels == ("boy",)
    done = plan_state(("sky", "grass", "boy"), {"boy": 1}, (*LABELS, "girl"), SURFACES, (), ("boy", "girl"))
    assert set(rule("girl", done, GuardConfig()).labels) == {"dog", "tree", "ball"}
    assert rule("girl", party({"boy": 1}), GuardConfig(strangers=True)) is None
    assert rule("girl", party({"dog": 1}), GuardConfig()) is None
    assert rule("girl", party({"girl": 1}), GuardConfig()) is None


def test_twins_keep_apart():
    box = Box(0, 0, 100, 100)
    assert too_close(box, [Box(10, 10, 100, 100)], GuardConfig())
    assert not too_close(box, [Box(90, 0, 190, 100)], GuardConfig())
    assert not too_close(box, [], GuardConfig())
    assert not too_close(box, [box], GuardConfig(enabled=False))


def test_disabled_guards_never_fire():
    assert rule(None, state((), {"boy": 3}), GuardConfig(enabled=False)) is None


@given(
    st.lists(st.sampled_from(LABELS), max_size=9),
    st.dictionaries(st.sampled_from(LABELS), st.integers(1, 3), max_size=3),
    st.sets(st.sampled_from(LABELS), max_size=6),
    st.randoms(use_true_random=False),
    st.integers(1, 6),
    st.integers(0, 3),
)
def test_guarded_runs_end_with_everything_named(placed, wanted, rejected, rng, maximum, implied):
    """Whatever the model chooses, rulings settle at once, runs end, and what is named is placed if there is room."""
    config = GuardConfig(max_objects=maximum, max_implied=implied)
    scene = list(placed)
    for _ in range(40):
        now = plan_state(scene, wanted, LABELS, SURFACES, rejected, ("boy", "dog"))
        options: list[str | None] = [label for label in LABELS if label not in rejected] + [None]
        choice = rng.choice(options)
        for attempt in range(5):
            ruling = rule(choice, now, config)
            if ruling is None:
                break
            assert attempt < 4, "guards do not settle"
            assert not set(ruling.labels) & set(rejected)
            allowed: list[str | None] = [*ruling.labels, *([None] if ruling.allow_stop else [])]
            if not allowed or not ruling.labels:
                choice = None
                break
            choice = rng.choice(allowed)
        if choice is None:
            break
        scene.append(choice)
    else:
        pytest.fail("the run never ended")
    end = state(scene, wanted, rejected)
    assert end.objects <= max(maximum, state(placed).objects)
    if end.objects < maximum:
        assert not end.missing
