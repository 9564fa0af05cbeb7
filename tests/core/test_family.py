"""Properties that every benchmark of the family has."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostasis_gym.core import (
    MOBUO,
    MOBUON,
    MOHoN,
    Single,
    SleepWake,
    Sustainability,
    benchmark_from_dict,
    benchmark_to_dict,
    simulate,
)
from homeostasis_gym.core.benchmark import FORBIDDEN, OUT_OF_RANGE, TERMINATED
from homeostasis_gym.errors import HomeostasisError, UnknownNameError

COUNTS = st.integers(1, 4)
LIMITS = st.one_of(st.none(), st.integers(1, 40), st.just(2**31 - 1))
SHOCKS = st.fixed_dictionaries(
    {
        "shock_probability": st.sampled_from([0.0, 0.1, 1.0]),
        "shock_size": st.sampled_from([0.0, 25.0, 1e9]),
    }
)
COMMON = st.fixed_dictionaries({"episode_length": st.integers(1, 30), "max_consumption": LIMITS})


@st.composite
def benchmarks(draw):
    common = draw(COMMON)
    kind = draw(st.sampled_from([Single, MOHoN, MOBUO, MOBUON, Sustainability, SleepWake]))
    if kind not in (MOBUO, Sustainability):
        common |= draw(SHOCKS)
    if kind not in (Single, Sustainability):
        common["objectives"] = draw(COUNTS)
    if kind in (MOBUO, MOBUON):
        common["harvest_limit"] = draw(st.sampled_from([1, 10, 1000]))
    if kind is Sustainability:
        common["capacity"] = draw(st.sampled_from([1.0, 7.5, 20.0]))
        common["initial_stock"] = draw(st.floats(1.0, common["capacity"]))
        common["growth"] = draw(st.sampled_from([0.0, 1.0, 1.1, 3.0]))
    if kind is SleepWake:
        common["switching"] = draw(st.sampled_from(["schedule", "chance"]))
        common["awake_steps"] = draw(st.integers(1, 9))
        common["switch_probability"] = draw(st.sampled_from([0.0, 0.3, 1.0]))
        common["hop"] = draw(st.sampled_from([0.0, 2.0, 3.5]))
    return kind(**common)


def random_actions(benchmark, rng, shape):
    most = min(benchmark.action_limit, rng.choice([3, 12, 2**31 - 1]))
    return rng.integers(0, most, (*shape, benchmark.objectives), endpoint=True)


@settings(max_examples=60, deadline=None)
@given(benchmarks(), st.integers(0, 2**32))
def test_rewards_states_and_observations_stay_in_their_bounds(benchmark, seed):
    rng = np.random.default_rng(seed)
    keys = rng.integers(2**64, size=4, dtype=np.uint64)
    noise = benchmark.noise_paths(keys).transpose(2, 0, 1)
    episodes = simulate(benchmark, lambda s, t: random_actions(benchmark, rng, s.shape[:1]), noise)
    for values, bounds in (
        (episodes.rewards, benchmark.reward_bounds),
        (episodes.observations, benchmark.observation_bounds),
    ):
        assert np.isfinite(values).all()
        assert (values >= np.array(bounds[0])).all() and (values <= np.array(bounds[1])).all()
    low, high = benchmark.normalized_bounds
    normalized = benchmark.normalize(episodes.observations)
    assert normalized.shape[-1] == len(low)
    assert (normalized >= np.array(low)).all() and (normalized <= np.array(high)).all()
    assert episodes.rewards.shape[-1] == benchmark.reward_dim == len(set(benchmark.reward_names))
    assert benchmark.levels(episodes.states).shape[-1] == benchmark.objectives
    assert not (episodes.flags & OUT_OF_RANGE).any()


@settings(max_examples=40, deadline=None)
@given(benchmarks(), st.integers(0, 2**32))
def test_policies_act_within_the_rules(benchmark, seed):
    keys = np.random.default_rng(seed).integers(2**64, size=3, dtype=np.uint64)
    noise = benchmark.noise_paths(keys).transpose(2, 0, 1)
    assert {benchmark.reference_policy, benchmark.shadow_policy} <= set(benchmark.policies)
    for name in benchmark.policies:
        episodes = simulate(benchmark, benchmark.policy(name), noise)
        assert not (episodes.flags & FORBIDDEN).any()
        assert not (episodes.flags & TERMINATED).any()


@settings(max_examples=40, deadline=None)
@given(benchmarks(), st.integers(0, 2**32))
def test_one_step_is_the_same_for_one_and_for_many(benchmark, seed):
    rng = np.random.default_rng(seed)
    states = np.repeat(np.array(benchmark.initial_state)[np.newaxis], 6, axis=0)
    for _ in range(3):
        actions = random_actions(benchmark, rng, (6,))
        keys = rng.integers(2**64, size=6, dtype=np.uint64)
        noise = benchmark.noise_paths(keys)[0].T
        given_states = states.copy()
        after, rewards, flags = benchmark.step(states, actions, noise)
        assert np.array_equal(states, given_states)  # a pure function
        grid = benchmark.step(states.reshape(2, 3, -1), actions.reshape(2, 3, -1), noise.reshape(2, 3, -1))
        assert np.array_equal(grid[0].reshape(6, -1), after)
        for k in range(6):
            one = benchmark.step(states[k], actions[k], noise[k])
            assert np.array_equal(one[0], after[k]) and np.array_equal(one[1], rewards[k])
            assert one[2] == flags[k]
        states = after


@settings(max_examples=40, deadline=None)
@given(benchmarks(), st.integers(0, 2**32))
def test_uncompiled_kernels_agree_to_the_last_bit(benchmark, seed):
    """The plain Python function behind each kernel is the one source of its formula."""
    module = __import__(type(benchmark).advance.__module__, fromlist=["_advance"])
    rng = np.random.default_rng(seed)
    states = np.repeat(np.array(benchmark.initial_state)[np.newaxis], 4, axis=0)
    noise = benchmark.noise_paths(rng.integers(2**64, size=4, dtype=np.uint64))[0].T
    actions = random_actions(benchmark, rng, (4,))
    compiled = benchmark.step(states, actions, noise)
    call = module._advance.call
    try:
        module._advance.call = module._advance.python
        plain = benchmark.step(states, actions, noise)
    finally:
        module._advance.call = call
    for a, b in zip(compiled, plain, strict=True):
        assert np.array_equal(a, b)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([MOBUO, MOBUON]), st.integers(2, 5), st.integers(0, 2**32), st.randoms())
def test_permuting_objectives_permutes_rewards_where_all_are_alike(kind, n, seed, shuffler):
    benchmark = kind(objectives=n, harvest_limit=100)
    rng = np.random.default_rng(seed)
    state, actions = rng.integers(1, 500, n).astype(float), rng.integers(0, 11, n)
    noise = rng.integers(-9, 9, n).astype(float) if benchmark.noise_channels else np.empty(0)
    order = list(range(n))
    shuffler.shuffle(order)
    after, reward, _ = benchmark.step(state, actions, noise)
    moved = benchmark.step(state[order], actions[order], noise[order] if noise.size else noise)
    assert np.array_equal(moved[0], after[order])
    assert np.array_equal(moved[1][:n], reward[order])
    assert moved[1][n] == pytest.approx(reward[n], abs=1.1e-3)  # a sum in another order


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**32))
def test_homeostatic_objectives_do_not_touch_each_other(n, seed):
    """Objective i of n behaves as it would alone: its reward depends on its own numbers only."""
    rng = np.random.default_rng(seed)
    benchmark = MOHoN(objectives=n)
    state = rng.integers(50, 200, n).astype(float)
    actions, noise = rng.integers(0, 11, n), rng.integers(-9, 9, n).astype(float)
    after, reward, _ = benchmark.step(state, actions, noise)
    for i in range(n):
        others = np.delete(np.arange(n), i)
        changed = state.copy()
        changed[others] += rng.integers(-50, 50, n - 1)
        again = benchmark.step(changed, actions, noise)
        assert again[0][i] == after[i]
        assert np.array_equal(again[1][3 * i : 3 * i + 3], reward[3 * i : 3 * i + 3])


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([Single(), MOHoN(), MOHoN(objectives=5)]), st.data())
def test_an_exact_refill_stays_on_target(benchmark, data):
    drop = data.draw(
        st.lists(st.integers(0, 10), min_size=benchmark.objectives, max_size=benchmark.objectives)
    )
    target = np.array(benchmark.targets)
    after, reward, _ = benchmark.step(target - drop, np.array(drop), np.zeros(len(drop)))
    assert np.array_equal(after, target)
    assert reward.sum() == sum(drop)


def test_the_band_itself_costs_nothing_and_the_next_level_does():
    benchmark = Single()
    for level, expected in ((90, 0), (89, -110), (110, 0), (111, -110)):
        _, reward, _ = benchmark.step([float(level)], [0], [0.0])
        assert reward.sum() == expected


@settings(max_examples=60, deadline=None)
@given(benchmarks())
def test_data_and_pickle_round_trips(benchmark):
    assert benchmark_from_dict(benchmark_to_dict(benchmark)) == benchmark
    _ = benchmark.noise_shape, benchmark.action_limit  # cached values must not get in the way
    again = pickle.loads(pickle.dumps(benchmark))
    assert again == benchmark and hash(again) == hash(benchmark)


def test_forbidden_harvest_is_a_wasted_turn():
    benchmark = MOBUON(max_consumption=None)
    state, noise = np.array([110.0, 120.0]), np.array([-3.0, 2.0])
    wasted = benchmark.step(state, [6, 5], noise)
    nothing = benchmark.step(state, [0, 0], noise)
    assert wasted[2] == FORBIDDEN and nothing[2] == 0
    assert np.array_equal(wasted[0], nothing[0]) and np.array_equal(wasted[1], nothing[1])
    assert "at most 10 units in all" in benchmark.why_forbidden(state, np.array([6, 5]))
    assert benchmark.why_forbidden(state, np.array([5, 5])) == ""


def test_more_than_the_stock_is_a_wasted_turn():
    benchmark = Sustainability()
    state = np.array([5.9, 3.0, 1.0])
    wasted, nothing = benchmark.step(state, [6]), benchmark.step(state, [0])
    assert wasted[2] == FORBIDDEN
    assert np.array_equal(wasted[0], nothing[0]) and np.array_equal(wasted[1], nothing[1])
    assert "no more than the 5 units" in benchmark.why_forbidden(np.array([5.0]), np.array([6]))
    assert benchmark.why_forbidden(np.array([5.0]), np.array([5])) == ""


def test_taking_all_ends_the_episode_and_still_pays():
    benchmark = Sustainability()
    after, reward, flags = benchmark.step(benchmark.initial_state, [10])
    assert flags == TERMINATED and after[0] == 0.0 and reward.tolist() == [10.0, 0.0]
    episodes = simulate(benchmark, lambda s, t: np.full((len(s), 1), 10), np.zeros((2, 7, 0)))
    assert episodes.lengths.tolist() == [1, 1]
    assert (episodes.rewards[:, 1:] == 0).all() and (episodes.states[:, 1:, 0] == 0).all()


def test_totals_never_fall_below_one():
    benchmark = MOBUON()
    after, reward, _ = benchmark.step([3.0, 200.0], [1, 0], [-50.0, 0.0])
    assert after.tolist() == [1.0, 200.0]
    assert reward[0] == pytest.approx(np.log(4 / 3) / np.log(1.01), abs=1e-3)


def test_sleepwake_hops_on_schedule():
    benchmark = SleepWake(awake_steps=3, asleep_steps=2, episode_length=12)
    episodes = simulate(benchmark, benchmark.policy("restore"), np.zeros((1, 12, benchmark.noise_channels)))
    assert episodes.states[0, :, 2].tolist() == [1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1]
    assert episodes.states[0, :, 3].tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 0, 1, 0, 1, 2]
    low, high = benchmark.bands(episodes.states[0])
    # Objective A is high awake, B asleep; the two bands of an objective just touch.
    assert low[0].tolist() == [99.0, 84.0] and high[0].tolist() == [121.0, 108.0]
    assert low[3].tolist() == [77.0, 108.0] and high[3].tolist() == [99.0, 132.0]


def test_sleepwake_hops_by_chance_as_its_noise_says():
    benchmark = SleepWake(switching="chance", switch_probability=0.25, episode_length=3)
    noise = np.zeros((1, 3, 3))
    noise[0, :, 2] = [7499, 7500, 9999]
    episodes = simulate(benchmark, benchmark.policy("restore"), noise)
    assert episodes.states[0, :, 2].tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize("probability", [0.0, 0.08, 0.9999, 1.0])
def test_noise_of_zeros_switches_no_regime_unless_it_must(probability):
    benchmark = SleepWake(switching="chance", switch_probability=probability)
    for value, switches in ((0.0, probability == 1.0), (9999.0, probability > 0.0)):
        after, _, _ = benchmark.step(benchmark.initial_state, [0, 0], [0.0, 0.0, value])
        assert after[2] == (0.0 if switches else 1.0)


@pytest.mark.parametrize("kind", [Single, MOHoN, MOBUON, SleepWake])
def test_the_largest_shock_keeps_every_number_exact(kind):
    quiet, loud = kind(), kind(shock_probability=1.0, shock_size=1e9)
    with pytest.raises(HomeostasisError, match=r"`shock_size` must be a number in \[0.0, 1000000000.0\]"):
        kind(shock_size=1.0000001e9)
    keys = np.arange(4, dtype=np.uint64)
    assert (abs(loud.noise_paths(keys) - quiet.noise_paths(keys)) == 1e9).all()
    noise = loud.noise_paths(keys).transpose(2, 0, 1)
    episodes = simulate(loud, lambda s, t: np.ones((len(s), loud.objectives), np.int64), noise)
    assert np.isfinite(episodes.rewards).all()
    levels = loud.levels(episodes.states)
    assert np.array_equal(levels, np.round(levels))


def test_yesterdays_right_action_is_todays_mistake():
    benchmark = SleepWake()
    levels = [110.0, 96.0]
    awake = benchmark.step([*levels, 1.0, 0.0], [4, 4], [0.0, 0.0])[1]
    asleep = benchmark.step([*levels, 0.0, 0.0], [4, 4], [0.0, 0.0])[1]
    assert awake.sum() == 8.0
    assert asleep.sum() < -400.0


def test_foresight_pays_where_there_is_a_schedule():
    benchmark = SleepWake()
    noise = benchmark.noise_paths(np.arange(40, dtype=np.uint64)).transpose(2, 0, 1)
    scores = {n: simulate(benchmark, benchmark.policy(n), noise).scores for n in benchmark.policies}
    assert (scores["anticipate"] > scores["restore"]).all()
    chance = replace(benchmark, switching="chance")
    state = np.array(chance.initial_state)
    assert np.array_equal(chance.policy("anticipate")(state, 0), chance.policy("restore")(state, 0))


@pytest.mark.parametrize("benchmark", [MOHoN(), MOBUO(), Sustainability(), SleepWake()])
def test_actions_out_of_range_are_refused_whole(benchmark):
    n = benchmark.objectives
    states = np.repeat(np.array(benchmark.initial_state)[np.newaxis], 2, axis=0)
    actions = np.zeros((2, n), dtype=np.int64)
    actions[1, -1] = 11
    noise = np.zeros((2, benchmark.noise_channels))
    with pytest.raises(HomeostasisError, match=r"in \[0, 10\], got .*11\] \(environment 1\)"):
        benchmark.step(states, actions, noise)
    actions[1, -1] = -1
    with pytest.raises(HomeostasisError, match=r"in \[0, 10\]"):
        benchmark.step(states, actions, noise)
    with pytest.raises(HomeostasisError, match="whole numbers"):
        benchmark.step(states, actions * 1.0, noise)


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        (MOHoN, {"objectives": 0}, "`objectives` must be an integer of at least 1, got 0"),
        (MOHoN, {"objectives": 2.0}, "`objectives` must be an integer"),
        (MOHoN, {"episode_length": True}, "`episode_length` must be an integer"),
        (Single, {"max_consumption": 0}, "`max_consumption` must be an integer of at least 1"),
        (Single, {"shock_probability": 1.5}, r"`shock_probability` must be a number in \[0.0, 1.0\]"),
        (Single, {"shock_size": -1}, r"`shock_size` must be a number in \[0.0, 1000000000.0\], got -1"),
        (MOBUO, {"harvest_limit": 0}, "`harvest_limit` must be an integer of at least 1"),
        (Sustainability, {"initial_stock": 21.0}, r"`initial_stock` must be a number in \[1.0, 20.0\]"),
        (Sustainability, {"growth": float("nan")}, "`growth` must be a number"),
        (SleepWake, {"switching": "never"}, "`switching` must be 'schedule' or 'chance', got 'never'"),
        (SleepWake, {"switch_probability": 0.00001}, "multiple of 1/10000"),
        (SleepWake, {"clearance": -1.0}, "`clearance` must be a number"),
    ],
)
def test_errors_name_argument_rule_and_value(kind, parameters, message):
    with pytest.raises(HomeostasisError, match=message):
        kind(**parameters)


def test_unknown_policy():
    with pytest.raises(UnknownNameError, match="must be one of restore, base-stock for mohon, got 'x'"):
        MOHoN().policy("x")


@pytest.mark.parametrize(
    ("noise", "steps", "message"),
    [
        (np.zeros((2, 5, 1)), None, r"shape \(batch, steps, 2\)"),
        (np.zeros((2, 5, 2)), 6, "must cover 6 steps, got 5"),
    ],
)
def test_simulate_refuses_noise_that_does_not_fit(noise, steps, message):
    benchmark = MOHoN()
    with pytest.raises(HomeostasisError, match=message):
        simulate(benchmark, benchmark.policy("restore"), noise, steps)


def test_simulate_refuses_a_policy_out_of_range():
    with pytest.raises(HomeostasisError, match=r"in \[0, 10\]"):
        simulate(MOHoN(), lambda s, t: np.full(s.shape, 99), np.zeros((1, 3, 2)))


def test_step_refuses_noise_that_does_not_fit():
    with pytest.raises(HomeostasisError, match=r"`noise` must have shape \(..., 2\), got \(0,\)"):
        MOHoN().step([110.0, 120.0], [0, 0])
