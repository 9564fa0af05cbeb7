"""The native vector environment equals Gymnasium's own loop over scalar ones, infos included."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.registration import ENVIRONMENTS

CASES = [
    ("Homeostasis-Single-v0", {}),
    ("Homeostasis-MOHoN-v0", {"objectives": 3, "shock_probability": 0.2, "shock_size": 9.5}),
    ("Homeostasis-MOHoN-v0", {"noise": "bioblue", "actions": "discrete"}),
    ("Homeostasis-MOBUO-v0", {}),
    ("Homeostasis-MOBUON-v0", {"actions": "box"}),
    ("Homeostasis-Sustainability-v0", {"max_consumption": 12}),
    ("Homeostasis-SleepWake-v0", {"switching": "chance"}),
    ("Homeostasis-ValueGraph-v0", {}),
]
LENGTH = 6
SCALARIZED = [
    (env_id, kwargs, scalarization)
    for env_id, kwargs in CASES
    for scalarization in ("linear", "sfella", "drive-reduction")
    # Drive reduction needs set points.
    if scalarization != "drive-reduction" or env_id.split("-")[1] in ("Single", "MOHoN", "SleepWake")
]


def same(ours, theirs, where):
    """Equal values and masks; what a mask hides need not be equal, and a key may stay fully masked."""
    assert ours.keys() >= theirs.keys(), (where, ours.keys(), theirs.keys())
    for key in ours.keys() - theirs.keys():
        assert not ours[f"_{key.lstrip('_')}"].any(), (where, key)
    for key, value in theirs.items():
        if isinstance(value, dict):
            same(ours[key], value, (where, key))
            continue
        mine = ours[key]
        if key.startswith("_"):
            assert np.array_equal(mine, value), (where, key)
            continue
        for lane in np.flatnonzero(theirs[f"_{key}"]):
            assert np.array_equal(mine[lane], value[lane]), (where, key, lane)
            assert np.asarray(mine[lane]).dtype == np.asarray(value[lane]).dtype, (where, key)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize(("env_id", "kwargs", "scalarization"), SCALARIZED, ids=str)
def test_equals_a_loop_over_scalar_environments(env_id, kwargs, scalarization, mode):
    kwargs = {**kwargs, "episode_length": LENGTH, "scalarization": scalarization}
    ours = gym.make_vec(env_id, num_envs=4, autoreset_mode=mode, **kwargs)
    theirs = SyncVectorEnv([lambda: gym.make(env_id, **kwargs)] * 4, autoreset_mode=mode)
    ours.action_space.seed(1)
    a, b = ours.reset(seed=11), theirs.reset(seed=11)
    assert np.array_equal(a[0], b[0])
    same(a[1], b[1], "reset")
    rng = np.random.default_rng(0)
    for t in range(3 * LENGTH + 2):
        actions = ours.action_space.sample()
        if "Sustain" in env_id and t % 3 == 0:
            actions[rng.integers(4)] = 10  # now and then a lane takes all it has
        a, b = ours.step(actions), theirs.step(actions)
        for mine, other, what in zip(a[:4], b[:4], ("obs", "reward", "term", "trunc"), strict=True):
            assert np.array_equal(mine, other), (what, t, mine, other)
        same(a[4], b[4], t)
        if mode is AutoresetMode.DISABLED:
            ended = a[2] | a[3]
            if ended.any():
                options = {"reset_mask": ended}
                a = ours.reset(options=dict(options))
                b = theirs.reset(options=dict(options))
                assert np.array_equal(a[0], b[0])
                same(a[1], b[1], ("reset", t))


@pytest.mark.parametrize(("env_id", "kwargs"), CASES, ids=str)
def test_vector_rewards_equal_those_of_scalar_environments(env_id, kwargs):
    lanes = 5
    vector = gym.make_vec(env_id, num_envs=lanes, autoreset_mode="SameStep", **kwargs)
    scalars = [gym.make(env_id, **kwargs) for _ in range(lanes)]
    vector.action_space.seed(2)
    observations, _ = vector.reset(seed=3)
    for i, env in enumerate(scalars):
        assert np.array_equal(env.reset(seed=3 + i)[0], observations[i])
    for _ in range(130):
        actions = vector.action_space.sample()
        observations, rewards, terminated, truncated, infos = vector.step(actions)
        for i, env in enumerate(scalars):
            o, r, te, tr, info = env.step(actions[i])
            assert np.array_equal(r, rewards[i])
            assert (te, tr) == (terminated[i], truncated[i])
            said = infos["final_info"] if te or tr else infos
            assert np.array_equal(info["noise"], said["noise"][i])
            assert info["invalid_action"] == said["invalid_action"][i]
            if te or tr:
                assert np.array_equal(o, infos["final_obs"][i])
                o, _ = env.reset()
            assert np.array_equal(o, observations[i])


@pytest.mark.parametrize("env_id", list(ENVIRONMENTS))
def test_a_single_lane(env_id):
    env = gym.make_vec(env_id, num_envs=1)
    observation, _ = env.reset(seed=1)
    assert observation.shape[0] == 1
    assert env.step(env.action_space.sample())[1].shape[0] == 1


def test_results_are_fresh_at_every_step():
    env = gym.make_vec("Homeostasis-Sustainability-v0", num_envs=3)
    env.reset(seed=1)
    twin = gym.make_vec("Homeostasis-Sustainability-v0", num_envs=3)
    twin.reset(seed=1)
    actions = np.ones((3, 1), dtype=np.int64)
    for _ in range(4):
        a, b = env.step(actions), twin.step(actions)
        assert np.array_equal(a[0], b[0]) and np.array_equal(a[4]["state"], b[4]["state"])
        for array in (*a[:4], *a[4].values()):
            array[...] = 1


def test_scripted_noise_for_some_or_all_lanes():
    env = gym.make_vec("Homeostasis-MOHoN-v0", num_envs=3, episode_length=4)
    drawn = env.reset(seed=1)
    zeros = np.zeros((3, 2), dtype=np.int64)
    rows = [env.step(zeros)[4]["noise"] for _ in range(4)]
    path = np.arange(8.0).reshape(4, 2)
    env.reset(seed=1, options={"noise": path})
    for t in range(4):
        assert (env.step(zeros)[4]["noise"] == path[t]).all()
    env.step(zeros)  # all lanes start over, with noise drawn for them again
    assert not np.array_equal(env.step(zeros)[4]["noise"], np.broadcast_to(path[0], (3, 2)))
    paths = np.stack([path, path + 1, path + 2])
    env.reset(seed=1)
    env.reset(seed=[1, 2, 3], options={"noise": paths, "reset_mask": np.array([True, False, True])})
    noise = env.step(zeros)[4]["noise"]
    assert noise[[0, 2]].tolist() == [[0, 1], [2, 3]] and np.array_equal(noise[1], rows[0][1])
    assert np.array_equal(drawn[0], [[110, 120]] * 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": np.zeros((2, 100, 2))}, r"must have shape \(3, steps, 2\) or \(steps, 2\)"),
        ({"noise": np.zeros((99, 2))}, "must cover the episode's 100 steps, got 99"),
        ({"noise": [np.zeros((100, 2)), np.zeros((99, 2))]}, "must be an array of numbers"),
        ({"noise": [[["a", "b"]] * 100] * 3}, "must be an array of numbers"),
        ({"reset_mask": np.zeros(3, bool)}, "with at least one True"),
        ({"reset_mask": np.ones(2, bool)}, r"bool array of shape \(3,\)"),
        ({"speed": 1}, "`options` must hold only noise, reset_mask, got 'speed'"),
    ],
)
def test_reset_options_that_do_not_fit(options, message):
    env = gym.make_vec("Homeostasis-MOHoN-v0", num_envs=3)
    with pytest.raises(HomeostasisError, match=message):
        env.reset(options=options)


def test_seeds_and_partial_resets_that_do_not_fit():
    env = gym.make_vec("Homeostasis-MOHoN-v0", num_envs=3, episode_length=2, autoreset_mode="Disabled")
    with pytest.raises(HomeostasisError, match=r"one seed per environment \(3\), got 2"):
        env.reset(seed=[1, 2])
    with pytest.raises(ResetNeeded, match="the first `reset` must start every environment"):
        env.reset(options={"reset_mask": np.array([True, False, False])})
    env.reset(seed=1)
    zeros = np.zeros((3, 2), dtype=np.int64)
    env.step(zeros)
    env.step(zeros)
    with pytest.raises(ResetNeeded, match=r"environments \[0, 1, 2\] have ended"):
        env.step(zeros)


@pytest.mark.parametrize("seed", [1.0, "abc", [1, 2.0, 3], True])
def test_seeds_that_are_no_integers(seed):
    env = gym.make_vec("Homeostasis-MOHoN-v0", num_envs=3)
    with pytest.raises(HomeostasisError, match="`seed` must be None, an integer, or one of these per lane"):
        env.reset(seed=seed)


@pytest.mark.parametrize("seed", [(1, None, 3), np.arange(3), np.int64(5), [np.int32(4), None, 5]])
def test_seeds_of_any_integer_type(seed):
    env = gym.make_vec("Homeostasis-MOHoN-v0", num_envs=3)
    assert env.reset(seed=seed)[0].shape == (3, 2)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"autoreset_mode": "Never"}, "`autoreset_mode` must be one of NextStep, SameStep, Disabled, got 'N"),
        ({"autoreset_mode": None}, "`autoreset_mode` must be one of NextStep, SameStep, Disabled, got None"),
        ({"max_episode_steps": -1}, "`max_episode_steps` must be an integer of at least 1, got -1"),
        ({"max_episode_steps": 0}, "`max_episode_steps` must be an integer of at least 1, got 0"),
        ({"max_episode_steps": "a"}, "`max_episode_steps` must be an integer of at least 1, got 'a'"),
    ],
)
def test_arguments_that_do_not_fit(kwargs, message):
    from homeostasis_gym.envs.mohon import MOHoNVectorEnv

    with pytest.raises(HomeostasisError, match=message):
        MOHoNVectorEnv(2, **kwargs)


@pytest.mark.parametrize("actions", [None, "box", "discrete"])
def test_one_number_for_many_lanes_is_refused(actions):
    env = gym.make_vec("Homeostasis-MOHoN-v0", num_envs=3, actions=actions)
    env.reset(seed=1)
    with pytest.raises(HomeostasisError, match="`action` must have shape"):
        env.step(5)


def test_a_refused_batch_moves_no_lane():
    env = gym.make_vec("Homeostasis-MOHoN-v0", num_envs=3)
    env.reset(seed=1)
    before = env.unwrapped.state
    with pytest.raises(HomeostasisError, match=r"got \[0, 11\] \(environment 2\)"):
        env.step(np.array([[0, 0], [1, 1], [0, 11]]))
    assert np.array_equal(env.unwrapped.state, before)


def test_max_episode_steps_cuts_as_it_does_with_a_scalar_environment():
    env = gym.make_vec("Homeostasis-MOHoN-v0", num_envs=2, max_episode_steps=3)
    env.reset(seed=1)
    zeros = np.zeros((2, 2), dtype=np.int64)
    assert [bool(env.step(zeros)[3].all()) for _ in range(3)] == [False, False, True]
