"""The value graph against recordings of the public code, and against what must hold of it."""

import csv
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostasis_gym.core import schedules
from homeostasis_gym.core.value_graph import (
    STRATEGIES,
    UTILITIES,
    CollapseRule,
    ValueGraphParams,
    article,
    circumplex,
    initial_state,
    interact,
    noise_path,
    outcomes,
    preset,
    reference,
    simulate,
    step,
    with_parameter,
)
from homeostasis_gym.errors import HomeostasisError, UnknownNameError

GOLDEN = Path(
    os.environ.get(
        "HOMEOSTASIS_ALICE_BOB_DATA", Path(__file__).resolve().parents[3] / "shared" / "data" / "alice_bob"
    )
)
# Of each recording a few steps, which are kept here: levels and utilities at steps 1, 10, 100 and 1000.
EXCERPTS = json.loads((Path(__file__).parent / "golden_alice_bob.json").read_text(encoding="utf-8"))
RUNS = (
    "sig_homeo_r025_seed0",
    "sig_homeo_r030_seed9",
    "sig_boost_r030_seed9",
    "sig_throttle_r025_seed0",
    "linear_homeo_r025_seed0",
    "prospect_homeo_r025_seed0",
    "concave_homeo_r030_seed9",
    "linhom_homeo_r025_seed0",
    "sqhom_boost_r025_seed0",
    "sig_homeo_r030_unrestricted_seed9",
    "sig_none_r025_seed0",
)
UTILITY_OF = {"prospect_theory": "prospect"}
STRATEGY_OF = {"homeostatic_boosting": "boosting", "homeostatic_throttling": "throttling"}


def golden(name):
    """A recorded run and its parameters."""
    if not GOLDEN.is_dir():
        pytest.skip(f"the recordings of the public code are not at {GOLDEN}")
    found = {entry["file"]: entry for entry in json.loads((GOLDEN / "manifest.json").read_text())}
    entry = found[f"{name}.npz"]
    with np.load(GOLDEN / f"{name}.npz") as data:
        return entry, params_of(entry), dict(data)


def params_of(entry):
    """The parameters of a recorded run."""
    return reference(
        rate=entry["rate"],
        utility=UTILITY_OF.get(entry["utility"], entry["utility"]),
        rebalancing=STRATEGY_OF.get(entry["rebalancing"], entry["rebalancing"]),
        restrict_negative=entry["restrict"],
        max_step=entry["max_step"],
        target=entry["target"],
    )


def worst(ours, theirs):
    """Greatest error, relative for what is greater than 1."""
    return np.max(np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs)))


@pytest.mark.parametrize("name", RUNS)
def test_one_step_equals_the_public_code(name):
    _, params, data = golden(name)
    values0, utilities0 = initial_state(params)
    np.testing.assert_allclose(values0, data["values0"], rtol=0, atol=0)
    np.testing.assert_allclose(utilities0, data["utilities0"], rtol=1e-14)
    before = np.concatenate([data["values0"][None], data["values"][:-1]])
    felt = np.concatenate([data["utilities0"][None], data["utilities"][:-1]])
    values, utilities = step(params, before, felt, data["who"], data["index"])
    assert worst(values, data["values"]) <= 1e-12
    assert worst(utilities, data["utilities"]) <= 1e-12


@pytest.mark.parametrize("name", RUNS)
def test_a_run_from_its_seeds_alone_equals_the_excerpts(name):
    entry = EXCERPTS[name]
    run = simulate(
        params_of(entry), schedules.random(entry["random_seed"], 1000), seeds=entry["np_random_seed"]
    )
    for step_number in entry["values"]:
        for ours, theirs in ((run.values, entry["values"]), (run.utilities, entry["utilities"])):
            assert worst(ours[int(step_number) - 1], np.array(theirs[step_number])) <= 1e-9


@pytest.mark.parametrize("name", RUNS)
def test_free_run_equals_the_public_code(name):
    _, params, data = golden(name)
    run = simulate(params, data["who"], data["index"])
    assert run.values.shape == run.utilities.shape == (1000, 2, 3)
    assert worst(run.values, data["values"]) <= 1e-9
    assert worst(run.utilities, data["utilities"]) <= 1e-9


@pytest.mark.parametrize("name", RUNS)
def test_own_choice_equals_the_public_code_ties_included(name):
    entry, params, data = golden(name)
    run = simulate(params, data["who"], seeds=entry["np_random_seed"])
    np.testing.assert_array_equal(run.tied, data["n_tied"])
    untied = data["n_tied"] == 1
    np.testing.assert_array_equal(run.chosen[untied], data["index"][untied])
    # The recorded seed replays the ties as well.
    np.testing.assert_array_equal(run.chosen, data["index"])


def test_schedules_equal_the_public_codes():
    if not GOLDEN.is_dir():
        pytest.skip(f"the recordings of the public code are not at {GOLDEN}")
    with (GOLDEN / "schedules_seeds0-49.csv").open() as file:
        rows = list(csv.DictReader(file))
    theirs = np.array([[int(c) for c in row["picks_0alice_1bob"]] for row in rows])
    np.testing.assert_array_equal(schedules.random(np.arange(len(rows)), 1000), theirs)


def test_seed_0_without_the_recordings():
    # The run of the article's main figure, as numbers of our own.
    run = simulate(reference(), schedules.random(0, 1000), seeds=0)
    np.testing.assert_allclose(
        run.values[-1], [[2.295714, 4.352741, 2.303412], [1.056252, 1.147259, 1.197167]], atol=5e-7
    )
    assert not (run.values < 0).any()
    later = simulate(reference(), schedules.random(0, 2000), seeds=0).values[-1, 1]
    np.testing.assert_allclose(later, [-45, -17, 18], atol=1.0)


def test_peaks_of_bob_in_seed_0():
    # Of the mean of the last 50 steps, as published.
    bob = simulate(reference(), schedules.random(0, 1000), seeds=0).values[:, 1]
    smooth = np.array([np.convolve(level, np.ones(50) / 50, mode="valid") for level in bob.T])
    peaks = smooth.argmax(axis=1) + 50
    np.testing.assert_allclose(peaks, [706, 719, 740], atol=2)


@pytest.mark.parametrize(("rate", "published"), [(0.02, 0.02), (0.025, 0.385), (0.03, 0.843)])
def test_published_rates_of_one_sided_collapse(rate, published):
    seeds = np.arange(1000)
    result = outcomes(reference(rate=rate), lambda s: schedules.random(s, 1000), seeds)
    found = np.mean(result.collapsed() == 1)
    # Half the width of a 95 % interval of 1000 runs.
    assert abs(found - published) <= 1.96 * np.sqrt(published * (1 - published) / 1000)
    assert not (result.collapsed() == 2).any()


def test_the_rate_at_the_usual_settings_to_the_last_run():
    result = outcomes(reference(), lambda s: schedules.random(s, 3000), np.arange(1000))
    assert np.count_nonzero(result.collapsed(1000) == 1) == 385
    assert np.count_nonzero(result.collapsed(3000) == 1) == 999


def test_nothing_collapses_without_power_acting_on_self_direction_between_agents():
    params = with_parameter(reference(), "between:Power:Self-direction", 0.0)
    rule = CollapseRule(hold=1)
    result = outcomes(params, lambda s: schedules.random(s, 3000), np.arange(300), rule=rule)
    assert not result.onset.any()


@pytest.mark.parametrize(
    ("utility", "strategy"),
    [
        ("prospect", "homeostatic"),
        ("prospect", "boosting"),
        ("linear_homeostasis", "homeostatic"),
        ("linear_homeostasis", "boosting"),
        ("squared_homeostasis", "homeostatic"),
        ("squared_homeostasis", "boosting"),
    ],
)
def test_settings_that_never_collapse(utility, strategy):
    params = reference(utility=utility, rebalancing=strategy)
    result = outcomes(params, lambda s: schedules.random(s, 1000), np.arange(100))
    assert not result.onset.any()


@pytest.mark.parametrize("strategy", ["none", "throttling"])
def test_without_boosting_both_collapse_power_first(strategy):
    params = reference(rebalancing=strategy)
    rule = CollapseRule(hold=1)
    result = outcomes(params, lambda s: schedules.random(s, 1000), np.arange(100), rule=rule)
    assert (result.collapsed() == 2).all()
    assert (result.first_value() == 0).all()
    assert np.median(result.agent_onset()) == 49


def test_timing_alone_makes_bob_collapse():
    rule = CollapseRule(hold=1)
    loaded = schedules.front_loaded(1000, 0.8, 50)
    assert schedules.same_totals(loaded, schedules.alternating(1000))
    run = simulate(reference(), loaded)
    assert (run.values[699, 1, :2] < 0).all()
    assert (run.values[699, 0] > 2).all()
    milder = outcomes(reference(), schedules.front_loaded(1000, 0.6, 100), [0], rule=rule)
    assert milder.agent_onset().tolist() == [[0, 971]]
    fair = outcomes(reference(), schedules.alternating(1000), [0], rule=rule)
    assert not fair.onset.any()


def test_ensemble_sees_what_the_recorded_runs_show():
    seeds = np.arange(40)
    turns = schedules.random(seeds, 1000)
    rule = CollapseRule(hold=7)
    params = reference(rate=0.03)
    run = simulate(params, turns, seeds=seeds)
    result = outcomes(params, turns, seeds, rule=rule, threads=2)
    np.testing.assert_array_equal(result.final_values, run.values[:, -1])
    below = run.values < 0
    lasting = np.lib.stride_tricks.sliding_window_view(below, 7, axis=1).all(axis=-1)
    expected = np.where(lasting.any(axis=1), lasting.argmax(axis=1) + 1, 0)
    np.testing.assert_array_equal(result.onset, expected)
    # Known by step T only if it has lasted long enough by then.
    first = expected[expected > 0].min()
    assert not result.agent_onset(int(first) + 5).any()
    assert result.agent_onset(int(first) + 6).any()


def test_decline_is_measured_from_the_peak_so_far():
    seeds = np.arange(20)
    turns = schedules.random(seeds, 1000)
    rule = CollapseRule("decline", level=0.4, hold=3)
    run = simulate(reference(), turns, seeds=seeds)
    result = outcomes(reference(), turns, seeds, rule=rule)
    levels = np.concatenate([run.values0[:, None], run.values], axis=1)
    fallen = run.values < 0.6 * np.maximum.accumulate(levels, axis=1)[:, 1:]
    lasting = np.lib.stride_tricks.sliding_window_view(fallen, 3, axis=1).all(axis=-1)
    expected = np.where(lasting.any(axis=1), lasting.argmax(axis=1) + 1, 0)
    np.testing.assert_array_equal(result.onset, expected)
    assert expected.any()


@pytest.mark.parametrize("utility", UTILITIES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_batches_single_runs_and_single_steps_agree_to_the_last_bit(utility, strategy):
    params = reference(utility=utility, rebalancing=strategy, noise=0.01, target=(2.0, 3.0))
    seeds = np.arange(6).reshape(2, 3)
    turns = schedules.random(seeds, 30)
    batch = simulate(params, turns, seeds=seeds)
    assert batch.values.shape == (2, 3, 30, 2, 3)
    for place in ((0, 0), (1, 2)):
        alone = simulate(params, turns[place], seeds=int(seeds[place]))
        for one, all_ in zip(alone, batch, strict=True):
            np.testing.assert_array_equal(one, all_[place])
    # What was chosen, replayed step by step (a strategy may depend on what went before).
    if strategy != "proportional":
        noise = noise_path(params, seeds, 30)
        state = (batch.values0, batch.utilities0)
        for t in range(30):
            state = step(params, *state, turns[..., t], batch.chosen[..., t], noise=noise[..., t, :, :])
            np.testing.assert_array_equal(state[0], batch.values[..., t, :, :])
            np.testing.assert_array_equal(state[1], batch.utilities[..., t, :, :])


def test_interaction_by_hand():
    values = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 4.0]])
    u = np.array([[1.0, -2.0, 3.0], [2.0, 1.0, -4.0]])
    params = reference(utility="linear", rate=0.1)
    expected = values + 0.1 * np.array(
        [
            # 0.5 S+ - B+ - 0.5 P+' - 0.5 S+';  0.5 P+ - 0.5 P+';  -P+ + 0.5 B'
            [0.0 - 3.0 - 1.0 - 0.5, 0.5 - 1.0, -1.0 - 2.0],
            [0.5 - 0.0 - 0.5 - 0.0, 1.0 - 0.5, -2.0 + 1.5],
        ]
    )
    found, utilities = interact(params, values, u)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    np.testing.assert_allclose(utilities, expected, rtol=1e-14)
    unclipped, _ = interact(replace(params, restrict_negative=False), values, u)
    np.testing.assert_allclose(unclipped[0, 0], 1.0 + 0.1 * (-1.0 - 3.0 - 1.0 - 0.5), rtol=1e-14)


def test_utility_functions_by_hand():
    level = np.array([[-3.0, 0.0, 12.0]])
    zero = np.zeros((1, 3))
    lone = reference(agents=("A",), rate=0.0, initial=None)
    expected = {
        "linear": [-3.0, 0.0, 12.0],
        "sigmoid": [-np.log(4.0), 0.0, np.log(13.0)],
        "concave": [1 - np.exp(3.0), 0.0, np.log(13.0)],
        "prospect": [0.0, 0.0, 0.0],
        "linear_homeostasis": [-1.3, -1.0, -0.2],
        "squared_homeostasis": [-1.69, -1.0, -0.04],
        "bounded": [-0.75, 0.0, 12 / 13],
    }
    assert set(expected) == set(UTILITIES)
    for name, want in expected.items():
        _, found = interact(replace(lone, utility=name), level, zero)
        np.testing.assert_allclose(found[0], want, rtol=1e-14, atol=1e-15)
    # Prospect theory feels changes: losses twice, and half of what it felt before.
    noise = np.array([[1.0, -1.0, 0.0]])
    _, found = interact(replace(lone, utility="prospect"), zero, zero + 1.0, noise=noise)
    np.testing.assert_allclose(found[0], [0.5 + np.log(2), 0.5 - 2 * np.log(2), 0.5])


def test_decay_incentive_and_noise_by_hand():
    still = reference(agents=("A",), rate=0.0, rebalancing="none")
    level, zero = np.array([[4.0, -4.0, 0.01]]), np.zeros((1, 3))
    constant, _ = interact(replace(still, decay="constant", decay_rate=0.1), level, zero)
    np.testing.assert_allclose(constant, [[3.9, -3.9, 0.0]], atol=1e-15)
    shrunk, _ = interact(replace(still, decay="multiplicative", decay_rate=0.1), level, zero)
    np.testing.assert_allclose(shrunk, 0.9 * level)
    pushed = replace(still, incentive=((0.5, 0.0, -0.5),), incentive_steps=(2, 4))
    run = simulate(pushed, np.full(6, -1))
    np.testing.assert_allclose(run.values[:, 0, 0], [1, 1, 1.5, 2, 2, 2])
    np.testing.assert_allclose(run.values[:, 0, 2], [1, 1, 0.5, 0, 0, 0])
    noise = np.arange(18.0).reshape(6, 1, 3)
    shaken = simulate(still, np.full(6, -1), noise=noise)
    np.testing.assert_allclose(shaken.values, 1.0 + np.cumsum(noise, axis=0))


def test_noise_belongs_to_the_seed_alone():
    params = reference(noise=0.5)
    path = noise_path(params, [3, 4], 200)
    assert path.shape == (2, 200, 2, 3)
    np.testing.assert_array_equal(path[1], noise_path(params, 4, 200))
    assert abs(path.std() - 0.5) < 0.02
    # Equal whatever is corrected, and the ensemble draws the same.
    turns = schedules.random([3, 4], 200)
    drawn = simulate(params, turns, seeds=[3, 4])
    given_ = simulate(params, turns, seeds=[3, 4], noise=path)
    np.testing.assert_array_equal(drawn.values, given_.values)
    result = outcomes(params, turns, [3, 4])
    np.testing.assert_array_equal(result.final_values, drawn.values[:, -1])


def corrected(strategy, values, **changes):
    """What one correction of agent 0 changes, nothing else moving."""
    params = reference(rate=0.0, rebalancing=strategy, **changes)
    levels = np.array([values, [5.0, 5.0, 5.0]])
    _, felt = interact(params, levels, np.zeros((2, 3)))
    after, _ = step(params, levels, felt, 0)
    np.testing.assert_array_equal(after[1], levels[1])
    return (after - levels)[0]


@pytest.mark.parametrize(
    ("strategy", "values", "expected"),
    [
        ("none", [1.0, 2.0, 3.0], [0, 0, 0]),
        ("homeostatic", [9.0, 12.0, 9.5], [0, -0.1, 0]),
        ("homeostatic", [9.97, 10.0, 10.0], [0.03, 0, 0]),
        ("boosting", [9.0, 12.0, 9.5], [0.1, 0, 0]),
        ("boosting", [11.0, 12.0, 13.0], [0, 0, 0]),
        ("throttling", [9.0, 12.0, 9.5], [0, -0.1, 0]),
        ("throttling", [9.0, 8.0, 7.0], [0, 0, 0]),
        ("round_robin", [9.0, 2.0, 12.0], [0.1, 0, 0]),
        ("lowest_utility", [9.0, 14.0, 8.0], [0, 0, 0.1]),
        ("proportional", [7.0, 11.0, 10.0], [0.075, -0.025, 0]),
        ("proportional", [9.99, 10.02, 10.0], [0.01, -0.02, 0]),
        # Most off target is Power, but there the agent is 2 ahead of the other.
        ("yielding", [7.0, 7.5, 9.0], [0.1, 0, 0]),
        ("yielding", [7.0, 6.0, 4.0], [0, 0, 0.1]),
        ("falling", [9.0, 9.5, 8.0], None),
        ("random", [9.0, 9.5, 8.0], None),
        ("memory", [9.0, 9.5, 8.0], [0, 0, 0.1]),
        ("lookahead", [9.0, 9.5, 8.0], [0, 0, 0.1]),
    ],
)
def test_strategies_by_hand(strategy, values, expected):
    found = corrected(strategy, values)
    if expected is None:
        assert np.count_nonzero(found) == 1
        assert abs(found).max() == pytest.approx(0.1)
    else:
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_band_is_left_alone_inside():
    assert not corrected("homeostatic", [9.0, 10.0, 11.0], target=(9.0, 11.0)).any()
    np.testing.assert_allclose(
        corrected("homeostatic", [8.0, 11.5, 10.0], target=(9.0, 11.0)), [0.1, 0, 0], atol=1e-12
    )


def test_round_robin_counts_an_agents_own_turns():
    params = reference(rebalancing="round_robin")
    run = simulate(params, np.array([0, 1, 1, 0, -1, 0, 1, 0]))
    assert run.chosen.tolist() == [0, 0, 1, 1, -1, 2, 2, 0]


def test_falling_corrects_what_the_interaction_takes_most_from():
    params = reference(rebalancing="falling", rate=0.1)
    run = simulate(params, np.array([0]))
    # At the start everything is equal, and Power loses most.
    assert run.chosen.tolist() == [0]


def test_looking_ahead_chooses_what_ends_nearest_to_the_target():
    params = reference(rebalancing="lookahead", rate=0.2)
    values = np.array([[6.0, 2.0, 5.0], [3.0, 4.0, 5.0]])
    _, felt = interact(replace(params, rate=0.0), values, np.zeros((2, 3)))
    distance = []
    for k in range(3):
        # The corrections are made after this step's interaction.
        v, u = step(params, values, felt, 0, k)
        for _ in range(2):
            v, u = interact(params, v, u)
        distance.append(((v[0] - 10.0) ** 2).sum())
    free = step(params, values, felt, 0)[0]
    best = step(params, values, felt, 0, int(np.argmin(distance)))[0]
    np.testing.assert_array_equal(free, best)


def test_agents_may_follow_different_strategies():
    mixed = reference(rebalancing=("homeostatic", "none"))
    run = simulate(mixed, schedules.alternating(20))
    assert (run.chosen[0::2] >= 0).all()
    assert (run.chosen[1::2] == -1).all()


def test_ties_are_drawn_evenly():
    params = reference(rate=0.0, rebalancing="homeostatic")
    runs = simulate(params, np.zeros((3000, 1), dtype=int), seeds=np.arange(3000))
    assert (runs.tied == 3).all()
    counts = np.bincount(runs.chosen[:, 0], minlength=3)
    assert (abs(counts - 1000) < 4 * np.sqrt(3000 * 2 / 9)).all()


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations(range(3)),
    utility=st.sampled_from(UTILITIES),
    strategy=st.sampled_from([s for s in STRATEGIES if s not in ("round_robin", "random")]),
    seed=st.integers(0, 1000),
)
def test_permuting_the_values_permutes_the_run(order, utility, strategy, seed):
    generator = np.random.default_rng(seed)
    start = generator.uniform(1.0, 4.0, (2, 3))
    params = reference(utility=utility, rebalancing=strategy, initial=start)
    turns = generator.integers(0, 2, 25)
    run = simulate(params, turns)
    other = simulate(params.permuted(tuple(order)), turns)
    if (run.tied > 1).any() or (other.tied > 1).any():
        return  # a draw among tied values does not know their names
    np.testing.assert_allclose(other.values, run.values[..., list(order)], rtol=1e-9, atol=1e-9)


def test_swapping_the_agents_swaps_the_run():
    turns = schedules.random(5, 300)
    run = simulate(reference(), turns, seeds=5)
    mirrored = simulate(reference(), 1 - turns, seeds=5)
    np.testing.assert_array_equal(mirrored.values, run.values[:, ::-1])


def test_self_direction_is_conserved_but_for_corrections():
    # Its couplings between the agents cancel: the sum changes by the corrections alone.
    turns = schedules.random(3, 500)
    run = simulate(reference(), turns, seeds=3)
    total = run.values[:, :, 1].sum(axis=1)
    np.testing.assert_allclose(total, 2.0 + np.cumsum(run.amounts[:, 1]), rtol=1e-10)


def test_any_number_of_agents_and_values():
    params = circumplex(agents=("A", "B", "C"))
    run = simulate(params, schedules.random(0, 50, 3))
    assert run.values.shape == (50, 3, 10)
    lone = reference(agents=("A",))
    assert simulate(lone, np.zeros(10, dtype=int)).values.shape == (10, 1, 3)
    # Every other agent acts, so two equal others act twice as much as one.
    one, _ = interact(reference(), np.ones((2, 3)), np.ones((2, 3)))
    two, _ = interact(reference(agents=("A", "B", "C")), np.ones((3, 3)), np.ones((3, 3)))
    inside, _ = interact(lone, np.ones((1, 3)), np.ones((1, 3)))
    np.testing.assert_allclose(two[0] - inside[0], 2 * (one[0] - inside[0]))


def test_circumplex_has_schwartzs_circle():
    params = circumplex(adjacent=0.25, opposite=-2.0)
    matrix = np.array(params.self_clipped)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert ((matrix == 0.25).sum(axis=1) == 2).all()
    assert ((matrix == -2.0).sum(axis=1) == 1).all()
    power, achievement = params.values.index("Power"), params.values.index("Achievement")
    assert matrix[power, achievement] == 0.25
    assert matrix[power, params.values.index("Universalism")] == -2.0


def test_article_preset_is_what_its_prose_says():
    params = article()
    run = simulate(params, schedules.alternating(2000))
    assert (np.abs(run.utilities) < 1).all()
    assert not np.any(params.between_clipped) and not np.any(params.between_unclipped)
    assert params.band == (9.0, 11.0)
    again = simulate(params, schedules.alternating(2000), seeds=99)
    # Without ties nothing is drawn; with one at the start only the order of equals changes.
    assert run.values.shape == again.values.shape
    assert article(rate=0.1).rate == 0.1


def test_presets_by_name():
    assert preset("reference") == ValueGraphParams()
    assert preset("article", decay_rate=0.1).decay_rate == 0.1
    with pytest.raises(UnknownNameError, match="`preset` must be one of reference, article, circumplex"):
        preset("book")
    with pytest.raises(UnknownNameError, match="unknown parameters: speed"):
        reference(speed=3)
    with pytest.raises(UnknownNameError, match="unknown parameters: speed"):
        circumplex(speed=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": -0.1}, r"`rate` must be at least 0, got -0\.1"),
        ({"rate": float("nan")}, "`rate` must be finite, got nan"),
        ({"rate": "fast"}, "`rate` must be a number, got 'fast'"),
        ({"utility": "happy"}, "`utility` must be one of linear, .*, got 'happy'"),
        ({"decay": "slow"}, "`decay` must be one of none, constant, multiplicative, got 'slow'"),
        ({"decay": "multiplicative", "decay_rate": 2}, r"`decay_rate` must be in \[0, 1\]"),
        ({"rebalancing": "wishful"}, "`rebalancing` must be one of none, .*, got 'wishful'"),
        ({"rebalancing": ("none",)}, r"one per agent \(2\), got 1"),
        ({"target": (11, 9)}, r"`target` must be a level or a lower and an upper edge, got \(11, 9\)"),
        ({"self_clipped": ((1.0,),)}, r"`self_clipped` must have shape \(3, 3\), got \(1, 1\)"),
        ({"initial": ((1, 1, 1),)}, r"`initial` must have shape \(2, 3\)"),
        ({"retention": 1.0}, r"`retention` must be in \[0, 1\), got 1\.0"),
        ({"values": ("A", "A", "B")}, "`values` must hold at least one name, each once"),
        ({"agents": "ALICE"}, "`agents` must be a sequence of names, got 'ALICE'"),
        ({"incentive_steps": (5, 2)}, "`incentive_steps` must be a first step"),
    ],
)
def test_parameters_that_are_refused(changes, message):
    with pytest.raises(HomeostasisError, match=message):
        reference(**changes)


def test_arguments_that_are_refused():
    with pytest.raises(HomeostasisError, match="`schedule` must hold numbers from -1 to 1, got 0 to 2"):
        simulate(reference(), [0, 2])
    with pytest.raises(HomeostasisError, match="`schedule` must hold integers, got float64"):
        simulate(reference(), [0.0, 1.0])
    with pytest.raises(HomeostasisError, match="`picks` must hold numbers from -1 to 2, got 3 to 3"):
        simulate(reference(), [0], [3])
    with pytest.raises(HomeostasisError, match=r"`picks` must have the schedule's shape \(2,\)"):
        simulate(reference(), [0, 1], [1])
    with pytest.raises(HomeostasisError, match=r"`noise` must have shape \(2, 2, 3\), got \(2, 3\)"):
        simulate(reference(), [0, 1], noise=np.zeros((2, 3)))
    with pytest.raises(HomeostasisError, match=r"`values` must end in the axes"):
        interact(reference(), np.zeros((3, 2)), np.zeros((3, 2)))
    with pytest.raises(HomeostasisError, match=r"`utilities` must have leading axes \(4,\), got \(\)"):
        interact(reference(), np.zeros((4, 2, 3)), np.zeros((2, 3)))
    with pytest.raises(HomeostasisError, match="`threads` must be at least 1, got 0"):
        outcomes(reference(), [0, 1], [0], threads=0)
    with pytest.raises(HomeostasisError, match="collapse `hold` must be a whole number, at least 1, got 0"):
        CollapseRule(hold=0)
    with pytest.raises(UnknownNameError, match="collapse `rule` must be one of negative, decline"):
        CollapseRule("sad")
    with pytest.raises(UnknownNameError, match="parameter must be one of rate, "):
        with_parameter(reference(), "speed", 1.0)
    with pytest.raises(UnknownNameError, match="got 'Fun'"):
        with_parameter(reference(), "between:Power:Fun", 1.0)


def test_parameters_can_be_hashed_pickled_and_changed_by_name():
    params = reference(initial=np.full((2, 3), 2.0))
    assert hash(params) == hash(pickle.loads(pickle.dumps(params)))
    assert with_parameter(params, "rate", 0.5).rate == 0.5
    assert with_parameter(params, "band", 0.5).band == (9.5, 10.5)
    assert with_parameter(with_parameter(params, "band", 0.5), "target", 4.0).band == (3.5, 4.5)
    coupled = with_parameter(params, "self:Power:Benevolence", 0.25)
    assert coupled.self_clipped[0][2] == coupled.self_clipped[2][0] == 0.25


def test_rules_name_themselves():
    assert str(CollapseRule()) == "negative: level below 0, 20 steps in a row"
    assert str(CollapseRule("decline", 0.25, 1)) == "decline: level has lost 25% of its peak"


def test_what_is_given_stays_as_it_is_and_no_global_generator_is_touched():
    values, utilities = initial_state(reference())
    copies = values.copy(), utilities.copy()
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    interact(reference(), values, utilities)
    step(reference(), values, utilities, 0)
    simulate(reference(noise=0.1), [0, 1], start=(values, utilities))
    np.testing.assert_array_equal(values, copies[0])
    np.testing.assert_array_equal(utilities, copies[1])
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_uncompiled_kernels_do_the_same():
    code = (
        "import numpy as np\n"
        "from homeostasis_gym.core import schedules\n"
        "from homeostasis_gym.core.value_graph import *\n"
        "seeds = np.arange(3)\n"
        "for strategy in ('homeostatic', 'lookahead', 'proportional'):\n"
        "    for utility in UTILITIES:\n"
        "        p = reference(rebalancing=strategy, utility=utility)\n"
        "        run = simulate(p, schedules.random(seeds, 12), seeds=seeds)\n"
        "        ends = outcomes(p, schedules.random(seeds, 12), seeds, rule=CollapseRule(hold=1))\n"
        "        print(run.values.tobytes().hex(), ends.final_values.tobytes().hex())\n"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env={"NUMBA_DISABLE_JIT": off, "PATH": ""},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for off in ("0", "1")
    ]
    assert printed[0]
    assert printed[0] == printed[1]


def test_import_needs_neither_numba_nor_gymnasium():
    # The package's own __init__ may import Gymnasium, so this module is loaded without it.
    code = (
        "import sys\n"
        "import homeostasis_gym.core.value_graph, homeostasis_gym.core.schedules\n"
        "assert 'numba' not in sys.modules and 'pettingzoo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_runs_with_more_ties_than_bytes_at_first_begin_again():
    """Corrections below the tolerance leave every step tied; a recorded run has all bytes from the start."""
    params = reference(rate=0.0, max_step=1e-8)
    for changes in ({}, {"rebalancing": "random"}, {"noise": 0.01}):
        own = replace(params, **changes)
        seeds = np.arange(300)
        turns = schedules.random(seeds, 400)
        whole = simulate(own, turns, seeds=seeds)
        if not changes:
            assert (whole.tied == 3).all()
        result = outcomes(own, turns, seeds)
        np.testing.assert_array_equal(result.final_values, whole.values[:, -1])


def test_a_decline_needs_a_peak_above_zero():
    rule = CollapseRule("decline", 0.5, hold=1)
    sinking = reference(initial=-1.0, rate=0.0, max_step=0.0, decay="multiplicative", decay_rate=0.01)
    assert not outcomes(sinking, schedules.alternating(50), [0], rule=rule).onset.any()
    falling = replace(sinking, initial=1.0)
    assert (outcomes(falling, schedules.alternating(80), [0], rule=rule).onset == 69).all()
    for level in (0.0, -0.1, 1.01):
        with pytest.raises(HomeostasisError, match="collapse `level` must be a share above 0"):
            CollapseRule("decline", level)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((3, 40), dtype=int), [0, 1]), r"`schedule` must have one row per seed \(2\), got 3 rows"),
        ((lambda seeds: np.zeros((3, 40), dtype=int), [0, 1]), "`schedule` must give one row per seed"),
        (
            (np.zeros(10, dtype=int), [0]),
            "`schedule` must have at least the 20 steps that `rule` holds",
        ),
        ((np.zeros(40, dtype=int), [-1]), r"`seeds` must be at least 0 and below 2\*\*32, got -1"),
        ((np.zeros(40, dtype=int), [0.5]), "`seeds` must be whole numbers, got 0.5"),
        ((np.zeros((1, 1, 40), dtype=int), [0]), r"`schedule` must be \(runs, steps\) or \(steps,\)"),
    ],
)
def test_ensembles_that_are_refused(arguments, message):
    with pytest.raises(HomeostasisError, match=message):
        outcomes(reference(), *arguments)


@pytest.mark.parametrize("hold", [0, 2.5, True, "3"])
def test_holds_that_are_refused(hold):
    with pytest.raises(HomeostasisError, match="collapse `hold` must be a whole number, at least 1"):
        CollapseRule(hold=hold)


def test_what_would_do_nothing_is_refused():
    with pytest.raises(HomeostasisError, match=r"`decay_rate` must be 0 with decay none, got 0\.01"):
        reference(decay_rate=0.01)
    with pytest.raises(HomeostasisError, match="`decay_rate` must be 0 with decay none"):
        with_parameter(reference(), "decay_rate", 0.01)
    assert article(decay="none").decay_rate == 0.0
    with pytest.raises(HomeostasisError, match="`retention` must be left alone unless the strategy memory"):
        with_parameter(reference(), "retention", 0.5)
    assert with_parameter(reference(rebalancing="memory"), "retention", 0.5).retention == 0.5


def test_directed_couplings_incentives_and_switches_by_name():
    one_way = with_parameter(reference(), "between:Power->Self-direction", -0.25)
    assert (one_way.between_clipped[0][1], one_way.between_clipped[1][0]) == (-0.25, -0.5)
    assert not with_parameter(reference(), "restrict_negative", 0).restrict_negative
    with pytest.raises(HomeostasisError, match=r"`restrict_negative` must be 0 or 1, got 0\.5"):
        with_parameter(reference(), "restrict_negative", 0.5)
    pushed = with_parameter(reference(), "incentive:BOB:Power", 0.1)
    assert pushed.incentive == ((0.0, 0.0, 0.0), (0.1, 0.0, 0.0))
    pushed = with_parameter(pushed, "incentive:Benevolence", 0.2)
    assert pushed.incentive == ((0.0, 0.0, 0.2), (0.1, 0.0, 0.2))
    limited = with_parameter(with_parameter(pushed, "incentive_start", 5), "incentive_stop", 9)
    assert limited.incentive_steps == (5, 9)
    with pytest.raises(UnknownNameError, match=r"agent in 'incentive:EVE:Power' must be one of ALICE, BOB"):
        with_parameter(reference(), "incentive:EVE:Power", 0.1)
    with pytest.raises(HomeostasisError, match=r"`incentive_stop` must be a whole number, got 1\.5"):
        with_parameter(reference(), "incentive_stop", 1.5)


@pytest.mark.parametrize("name", ["adjacent", "opposite", "rivalry", "sharing"])
def test_strengths_of_the_circumplex_by_name(name):
    assert with_parameter(circumplex(), name, 0.125) == circumplex(**{name: 0.125})
    with pytest.raises(
        HomeostasisError, match=f"`{name}` must be set on the values of the preset circumplex"
    ):
        with_parameter(reference(), name, 0.125)


def test_the_article_has_no_chance_in_it():
    assert article().ties == "first"
    steps = 200
    runs = outcomes(article(), schedules.alternating(steps), np.arange(30))
    assert len(np.unique(runs.final_values.reshape(30, -1), axis=0)) == 1
    whole = simulate(article(), schedules.alternating(steps), seeds=5)
    np.testing.assert_array_equal(whole.values[-1], runs.final_values[0])
    assert whole.tied[0] == 2
    assert whole.chosen[0] == 0
    drawn = outcomes(article(ties="drawn"), schedules.alternating(steps), np.arange(30))
    assert len(np.unique(drawn.final_values.reshape(30, -1), axis=0)) > 1
    with pytest.raises(UnknownNameError, match="`ties` must be one of drawn, first, got 'last'"):
        reference(ties="last")
    # The strategy that draws its value draws it all the same.
    assert len(np.unique(simulate(article(rebalancing="random"), [0] * 50).chosen)) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": (np.ones(3), np.ones(3))}, r"`start` must hold levels and utilities of shape \(2, 3\)"),
        ({"seeds": [0, 1, 2]}, r"`seeds` must be one seed or have shape \(2,\), got \(3,\)"),
        ({"seeds": -1}, r"`seeds` must be at least 0 and below 2\*\*32, got -1"),
        ({"seeds": 0.5}, r"`seeds` must be whole numbers, got 0\.5"),
    ],
)
def test_simulations_that_are_refused(arguments, message):
    with pytest.raises(HomeostasisError, match=message):
        simulate(reference(), np.zeros((2, 5), dtype=int), **arguments)


@pytest.mark.parametrize("target", [None, (1.0,), (1.0, 2.0, 3.0), "ab"])
def test_targets_that_are_refused(target):
    with pytest.raises(HomeostasisError, match="`target` must be a"):
        reference(target=target)
