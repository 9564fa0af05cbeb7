"""Rules that hold for every environment of the registry."""

import copy
import json
import pickle
import random
import subprocess
import sys
import warnings

import gymnasium as gym
import mo_gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import TimeAwareObservation
from mo_gymnasium.wrappers import LinearReward, MORecordEpisodeStatistics
from mo_gymnasium.wrappers.vector import MORecordEpisodeStatistics as VectorStatistics

from homeostasis_gym.core import simulate
from homeostasis_gym.core.benchmark import FORBIDDEN
from homeostasis_gym.envs.base import HomeostasisEnv
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.registration import ENVIRONMENTS
from homeostasis_gym.testing import check_mo_env


def is_ours(env_id):
    module, name = ENVIRONMENTS[env_id][0].split(":")
    return issubclass(getattr(__import__(module, fromlist=[name]), name), HomeostasisEnv)


FAMILY = [env_id for env_id in ENVIRONMENTS if is_ours(env_id)]
WITH_VARIANTS = [
    *((env_id, {}) for env_id in FAMILY),
    ("Homeostasis-MOHoN-v0", {"objectives": 3, "shock_probability": 0.1, "shock_size": 20}),
    ("Homeostasis-MOHoN-v0", {"noise": "bioblue", "max_consumption": None}),
    ("Homeostasis-MOBUON-v0", {"objectives": 4, "actions": "box"}),
    ("Homeostasis-SleepWake-v0", {"switching": "chance", "actions": "discrete"}),
    ("Homeostasis-Sustainability-v0", {"episode_length": 7, "max_consumption": None}),
]
anyone = pytest.mark.parametrize("env_id", FAMILY)
any_variant = pytest.mark.parametrize(("env_id", "kwargs"), WITH_VARIANTS, ids=str)


def trajectory(env, seed, steps=130):
    env.action_space.seed(seed)
    said = [env.reset(seed=seed)]
    for _ in range(steps):
        said.append(env.step(small(env)))
        if said[-1][2] or said[-1][3]:
            said.append(env.reset())
    return said


def small(env):
    """A random action that is not always far out of every band."""
    space = env.action_space
    if isinstance(space, gym.spaces.Box) and space.high.max() > 1000:
        return space.np_random.integers(0, 9, space.shape)
    return space.sample()


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and np.array_equal(a, b)


@any_variant
def test_our_own_check(env_id, kwargs):
    check_mo_env(gym.make(env_id, **kwargs))


@any_variant
def test_gymnasium_check(env_id, kwargs):
    with warnings.catch_warnings():
        # Levels have no limits in either direction, and Gymnasium warns of any such space.
        warnings.filterwarnings("ignore", message=".*(infinity|For Box action spaces).*")
        check_env(gym.make(env_id, scalarization="linear", **kwargs).unwrapped)


@any_variant
@pytest.mark.parametrize("noise", ["gymnasium", "bioblue"])
def test_batch_functions_give_the_bits_of_the_environment(env_id, kwargs, noise):
    env = gym.make(env_id, **{"noise": noise, **kwargs})
    inner, benchmark = env.unwrapped, env.unwrapped.benchmark
    env.action_space.seed(3)
    observation, _ = env.reset(seed=3)
    path = inner.noise_path
    assert path.shape == (benchmark.episode_length, benchmark.noise_channels)
    states, observations, units, rewards, forbidden = [inner.state], [observation], [], [], []
    ended = False
    while not ended:
        action = small(env) if len(units) % 3 else np.zeros(env.action_space.shape, env.action_space.dtype)
        units.append(inner.units(action))
        observation, reward, terminated, truncated, info = env.step(action)
        states.append(inner.state)
        observations.append(observation)
        rewards.append(reward)
        forbidden.append(info["invalid_action"])
        ended = terminated or truncated
    steps = len(units)

    # Two lanes at once, as the function is meant to be used.
    episodes = simulate(benchmark, lambda s, t: np.stack([units[t]] * 2), np.stack([path[:steps]] * 2))
    for lane in range(2):
        assert np.array_equal(episodes.states[lane], states)
        assert np.array_equal(episodes.observations[lane], observations)
        assert np.array_equal(episodes.rewards[lane], rewards)
        assert np.array_equal((episodes.flags[lane] & FORBIDDEN) != 0, forbidden)

    # All steps at once: the function keeps nothing to itself.
    after, reward, flags = benchmark.step(np.stack(states[:-1]), np.stack(units), path[:steps])
    assert np.array_equal(after, states[1:]) and np.array_equal(reward, rewards)
    assert np.array_equal((flags & FORBIDDEN) != 0, forbidden)


NOISY = [env_id for env_id in FAMILY if gym.make(env_id).unwrapped.benchmark.noise_channels]


@pytest.mark.parametrize("noise", ["gymnasium", "bioblue"])
@pytest.mark.parametrize("env_id", NOISY)
def test_every_reset_without_a_seed_brings_new_noise(env_id, noise):
    env = gym.make(env_id, noise=noise)
    many = gym.make_vec(env_id, num_envs=2, noise=noise, episode_length=20, autoreset_mode="SameStep")
    paths = []
    for seed in (4, None, None):
        env.reset(seed=seed)
        paths.append(env.unwrapped.noise_path.tolist())
    env.reset(seed=4)
    assert env.unwrapped.noise_path.tolist() == paths[0]
    assert paths[0] != paths[1] and paths[0] != paths[2] and paths[1] != paths[2]

    # So it is where lanes start over by themselves.
    many.reset(seed=4)
    action = np.zeros(many.action_space.shape, np.int64)
    said = [many.step(action)[4] for _ in range(60)]
    rows = np.stack([i["final_info"]["noise"] if "final_info" in i else i["noise"] for i in said])
    episodes = [rows[20 * e : 20 * e + 20] for e in range(3)]
    assert episodes[0].tolist() != episodes[1].tolist() and episodes[1].tolist() != episodes[2].tolist()
    assert (episodes[0][:, 0] != episodes[0][:, 1]).any()


SHOCKED = [env_id for env_id in NOISY if hasattr(gym.make(env_id).unwrapped.benchmark, "shock_size")]


@pytest.mark.parametrize("noise", ["gymnasium", "bioblue"])
@pytest.mark.parametrize("env_id", SHOCKED)
def test_certain_shocks_meet_every_objective(env_id, noise):
    quiet = gym.make(env_id, noise=noise)
    loud = gym.make(env_id, noise=noise, shock_probability=1.0, shock_size=50.0)
    quiet.reset(seed=3)
    loud.reset(seed=3)
    shocks = loud.unwrapped.noise_path - quiet.unwrapped.noise_path
    assert shocks.shape[1] == loud.unwrapped.benchmark.objectives
    assert (abs(shocks) == 50.0).all()


def test_which_environments_have_noise_and_shocks():
    assert [env_id.split("-")[1] for env_id in NOISY] == [
        *("Single", "MOHoN", "MOBUON", "SleepWake", "ValueGraph")
    ]
    assert NOISY[:-1] == SHOCKED


@any_variant
def test_trajectories_repeat_to_the_last_bit(env_id, kwargs):
    first = trajectory(gym.make(env_id, **kwargs), 5)
    second = trajectory(gym.make(env_id, **kwargs), 5)
    other = trajectory(gym.make(env_id, **kwargs), 6)
    assert equal(first, second)
    assert not equal(first, other)


@any_variant
def test_global_random_state_is_untouched(env_id, kwargs):
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    trajectory(gym.make(env_id, **kwargs), 5, steps=20)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002


@any_variant
def test_pickled_and_copied_in_mid_episode(env_id, kwargs):
    env = gym.make(env_id, **kwargs)
    trajectory(env, 5, steps=30)
    twins = [pickle.loads(pickle.dumps(env)), copy.deepcopy(env)]
    actions = [small(env) for _ in range(5)]
    said = [env.step(a) for a in actions] + [env.reset()]
    for twin in twins:
        assert equal(said, [twin.step(a) for a in actions] + [twin.reset()])


@any_variant
def test_vector_env_pickled_in_mid_episode(env_id, kwargs):
    env = gym.make_vec(env_id, num_envs=3, **kwargs)
    env.reset(seed=1)
    actions = [np.zeros(env.action_space.shape, env.action_space.dtype) for _ in range(4)]
    env.step(actions[0])
    twin = pickle.loads(pickle.dumps(env))
    assert equal([env.step(a) for a in actions], [twin.step(a) for a in actions])


@any_variant
def test_spec_goes_through_json(env_id, kwargs):
    env = gym.make(env_id, **kwargs)
    spec = EnvSpec.from_json(env.spec.to_json())
    json.loads(env.spec.to_json())
    assert equal(trajectory(gym.make(spec), 3, 20), trajectory(env, 3, 20))


@anyone
def test_mo_gymnasium_wraps_the_scalar_env(env_id):
    env = mo_gymnasium.make(env_id)
    linear = LinearReward(env, weight=np.ones(env.unwrapped.reward_dim))
    linear.reset(seed=1)
    _, reward, *_, info = linear.step(linear.action_space.sample())
    assert reward == info["vector_reward"].sum()
    recorded = MORecordEpisodeStatistics(mo_gymnasium.make(env_id, episode_length=3), gamma=0.9)
    recorded.reset(seed=1)
    total = np.zeros(env.unwrapped.reward_dim)
    for _ in range(3):
        _, reward, *_, info = recorded.step(np.zeros(recorded.action_space.shape, np.int64))
        total += reward
    assert np.allclose(info["episode"]["r"], total)


@anyone
def test_mo_gymnasium_wraps_the_vector_env(env_id):
    env = VectorStatistics(gym.make_vec(env_id, num_envs=2, episode_length=3))
    env.reset(seed=1)
    total = np.zeros((2, env.unwrapped.reward_dim))
    for _ in range(3):
        _, rewards, _, _, infos = env.step(np.zeros(env.action_space.shape, np.int64))
        total += rewards
    assert np.allclose(infos["episode"]["r"], total)


@anyone
@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
def test_rendering(env_id, mode):
    env = gym.make(env_id, render_mode=mode)
    env.reset(seed=1)
    first = env.render()
    env.step(np.zeros(env.action_space.shape, np.int64))
    second = env.render()
    if mode == "ansi":
        assert "step 0/100" in first and "step 1/100" in second
        own = env.unwrapped
        names = own.benchmark.rendered(own.state[np.newaxis])[0]
        assert all(f"  {name}: " in second for name in names)
    else:
        assert first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3
        assert first.shape == second.shape and not np.array_equal(first, second)
    vector = gym.make_vec(env_id, num_envs=2, render_mode=mode)
    vector.reset(seed=1)
    frames = vector.render()
    assert len(frames) == 2 and np.array_equal(frames[0], first)


@anyone
def test_no_render_mode_draws_nothing(env_id):
    env = gym.make(env_id)
    env.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert env.render() is None
    assert gym.make_vec(env_id, num_envs=2).render() is None


@anyone
def test_reward_space_and_names(env_id):
    inner = gym.make(env_id).unwrapped
    assert inner.reward_space.shape == (inner.reward_dim,)
    assert len(set(inner.reward_names)) == inner.reward_dim
    vector = gym.make_vec(env_id, num_envs=4)
    assert vector.unwrapped.reward_space == inner.reward_space
    assert vector.unwrapped.reward_names == inner.reward_names


@any_variant
def test_scripted_noise_is_replayed_and_later_episodes_do_not_depend_on_it(env_id, kwargs):
    env = gym.make(env_id, **kwargs)
    env.reset(seed=4)
    env.action_space.seed(0)  # five greedy actions would end an episode of harvesting early
    path = env.unwrapped.noise_path
    actions = [small(env) for _ in range(5)]
    said = [env.step(a) for a in actions]
    env.reset()
    later = env.unwrapped.noise_path
    other = gym.make(env_id, **kwargs)
    other.reset(seed=99, options={"noise": path})
    assert equal(said, [other.step(a) for a in actions])
    env.reset(seed=4, options={"noise": path * 0})
    assert not env.unwrapped.noise_path.any()
    env.reset()
    assert np.array_equal(env.unwrapped.noise_path, later)


def test_published_noise_has_its_own_stream():
    env = gym.make("Homeostasis-MOHoN-v0", noise="bioblue")
    env.reset(seed=3)
    generator = random.Random(3)
    expected = [[generator.randint(-6, 4), generator.randint(-7, 5)] for _ in range(100)]
    assert env.unwrapped.noise_path.tolist() == expected
    env.reset()  # the stream goes on
    assert env.unwrapped.noise_path[0].tolist() == [generator.randint(-6, 4), generator.randint(-7, 5)]


def test_shocks_come_on_top_of_the_published_noise():
    quiet = gym.make("Homeostasis-MOHoN-v0", noise="bioblue")
    loud = gym.make("Homeostasis-MOHoN-v0", noise="bioblue", shock_probability=0.1, shock_size=50.0)
    quiet.reset(seed=3)
    loud.reset(seed=3)
    shocks = loud.unwrapped.noise_path - quiet.unwrapped.noise_path
    assert set(np.unique(shocks)) == {-50.0, 0.0, 50.0}


def test_noise_does_not_depend_on_behaviour():
    env = gym.make("Homeostasis-SleepWake-v0", switching="chance")
    paths = []
    for units in (0, 7):
        env.reset(seed=8)
        paths.append([env.step(np.full(2, units))[4]["noise"] for _ in range(10)])
        env.reset()
        paths[-1].append(env.unwrapped.noise_path)
    assert equal(paths[0], paths[1])


def test_exchanged_generator_is_drawn_from():
    env = gym.make("Homeostasis-MOHoN-v0").unwrapped
    env.reset(seed=1)
    first = env.noise_path
    env.np_random = np.random.Generator(np.random.PCG64(77))
    env.reset()
    swapped = env.noise_path
    env.np_random = np.random.Generator(np.random.PCG64(77))
    env.reset()
    assert np.array_equal(env.noise_path, swapped) and not np.array_equal(first, swapped)


@anyone
def test_order_of_calls(env_id):
    env = gym.make(env_id, episode_length=1)
    action = np.zeros(env.action_space.shape, np.int64)
    with pytest.raises(ResetNeeded, match="no episode is running"):
        env.step(action)
    env.reset()
    assert env.step(action)[3]
    with pytest.raises(ResetNeeded, match="no episode is running"):
        env.step(action)
    with pytest.raises(ResetNeeded, match="before `reset`"):
        gym.make_vec(env_id, num_envs=2).step(np.zeros((2, len(action)), np.int64))


@anyone
def test_a_refused_action_changes_nothing(env_id):
    env = gym.make(env_id)
    env.reset(seed=1)
    n = env.action_space.shape[0]
    state = env.unwrapped.state
    for wrong, message in (
        (np.full(n, 11), r"in \[0, 10\], got \[11"),
        (np.full(n, -1), r"in \[0, 10\]"),
        (np.zeros(n + 1, np.int64), "must have shape"),
        (np.zeros(n), "whole numbers"),
        (None, "whole numbers"),
        ([[0], [0, 0]], "`action` must be an array of numbers"),
        (np.full(n, 2**63, np.uint64), "`action` must be at most 2147483647, got 9223372036854775808"),
    ):
        with pytest.raises(HomeostasisError, match=message):
            env.step(wrong)
        assert np.array_equal(env.unwrapped.state, state)
    twin = gym.make(env_id)
    twin.reset(seed=1)
    assert equal(env.step(np.zeros(n, np.int64)), twin.step(np.zeros(n, np.int64)))


@anyone
def test_episode_length_goes_beyond_any_limit_in_the_spec(env_id):
    length = gym.make(env_id).unwrapped.benchmark.episode_length
    env = gym.make(env_id, episode_length=length + 2)
    assert env.spec.max_episode_steps is None
    env.reset(seed=1)
    action = np.zeros(env.action_space.shape, env.action_space.dtype)
    assert [env.step(action)[3] for _ in range(length + 2)] == [False] * (length + 1) + [True]


@anyone
def test_wrappers_that_want_the_limit_in_the_spec(env_id):
    env = TimeAwareObservation(gym.make(env_id, max_episode_steps=5), normalize_time=True)
    seen, _ = env.reset(seed=1)
    action = np.zeros(env.action_space.shape, env.action_space.dtype)
    times = [seen[-1]]
    for t in range(5):
        seen, _, _, truncated, _ = env.step(action)
        assert env.observation_space.contains(seen) and truncated == (t == 4)
        times.append(seen[-1])
    assert np.allclose(times, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"actions": "float"}, "`actions` must be one of multidiscrete, discrete, box, got 'float'"),
        ({"actions": "discrete", "max_consumption": None}, "must be 'box' where `max_consumption` is None"),
        ({"actions": "discrete", "objectives": 9}, "must flatten to at most 1000000 combinations"),
        ({"noise": "none"}, "`noise` must be one of gymnasium, bioblue, got 'none'"),
        ({"render_mode": "human"}, "`render_mode` must be None or one of ansi, rgb_array, got 'human'"),
        ({"scalarization": "best"}, "`scalarization` must be one of"),
        ({"scalarization": min}, "`scalarization` must be a name or a mapping"),
        ({"noise": np.zeros((100, 2))}, r"a path is given to reset\(options={'noise': path}\), got array"),
        ({"actions": np.zeros(2)}, "`actions` must be one of multidiscrete, discrete, box, got array"),
    ],
)
def test_arguments_that_do_not_fit(kwargs, message):
    from homeostasis_gym.envs.mohon import MOHoNEnv, MOHoNVectorEnv

    for make in (MOHoNEnv, MOHoNVectorEnv):
        with pytest.raises(HomeostasisError, match=message):
            make(**kwargs)


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("a", "`action` must be numbers, got <U1"),
        (["1", "2"], "`action` must be numbers, got <U1"),
        ([True, False], "`action` must be numbers, got bool"),
        ([1e300, 0.0], r"`action` must be amounts in \[0, 10\], got .*1e\+300"),
        ([0.0, -1e300], r"`action` must be amounts in \[0, 10\]"),
        ([np.inf, 0.0], "`action` must be finite"),
        ([11.0, 0.0], r"`action` must be counts of units in \[0, 10\], got \[11, 0\]"),
        ([[1.0], [1.0, 2.0]], "`action` must be an array of numbers"),
        (5.0, r"`action` must have shape \(2,\) for each environment, got \(\)"),
    ],
)
def test_amounts_that_do_not_fit(make, action, message):
    env = make("Homeostasis-MOHoN-v0", actions="box")
    env.reset(seed=1)
    if make is gym.make_vec and isinstance(action, list):
        action = [action]
    with pytest.raises(HomeostasisError, match=message):
        env.step(action)


def test_unknown_reset_option():
    env = gym.make("Homeostasis-Single-v0")
    with pytest.raises(HomeostasisError, match="`options` must hold only noise, got 'seed'"):
        env.reset(options={"seed": 1})


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint16])
def test_any_integer_type_strided_or_readonly(dtype):
    expected = None
    for make in (
        lambda a: a.astype(np.int64),
        lambda a: a.astype(dtype),
        lambda a: np.repeat(a, 2)[::2],
        lambda a: np.broadcast_to(a, (3, 2))[1],
        lambda a: a.tolist(),
    ):
        env = gym.make("Homeostasis-MOHoN-v0")
        env.reset(seed=1)
        said = env.step(make(np.array([3, 4])))
        expected = said if expected is None else expected
        assert equal(said, expected)


def test_flattened_and_continuous_actions_mean_counts():
    counts = np.array([3, 7])
    results = []
    for actions, action in (
        (None, counts),
        ("discrete", 3 * 11 + 7),
        ("box", np.array([2.6, 7.4], np.float32)),
    ):
        env = gym.make("Homeostasis-MOHoN-v0", actions=actions)
        assert env.action_space.contains(action) or actions == "discrete"
        assert env.unwrapped.units(action).tolist() == [3, 7]
        env.reset(seed=1)
        results.append(env.step(action))
    assert equal(results[0], results[1]) and equal(results[0], results[2])


def test_partly_observed_state_is_in_the_info():
    env = gym.make("Homeostasis-Sustainability-v0")
    observation, info = env.reset(seed=1)
    assert observation.tolist() == [10.0] and info["state"].tolist() == [10.0, 0.0, 0.0]
    observation, *_, info = env.step(np.array([6]))
    assert observation.tolist() == [5.0]
    assert info["state"].tolist() == [5.0**1.1, 6.0, 1.0]


def test_importing_and_registering_compiles_nothing():
    code = (
        "import sys, homeostasis_gym, gymnasium; "
        "assert 'Homeostasis-MOHoN-v0' in gymnasium.registry; "
        "assert not {'numba', 'matplotlib', 'pyarrow'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
