"""Wrappers for scalar and vector environments, which must agree with each other."""

import gymnasium as gym
import mo_gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import homeostasis_gym  # noqa: F401 (registers the environments)
from homeostasis_gym import wrappers
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.wrappers import vector

FAMILY = [
    f"Homeostasis-{n}-v0" for n in ("Single", "MOHoN", "MOBUO", "MOBUON", "Sustainability", "SleepWake")
]
NAMES = ["Scalarized", "NormalizedObservation", "TextObservation", "DiscreteActions", "ContinuousActions"]
LENGTH = 5


def wrapped(name, env_id, **kwargs):
    return getattr(wrappers, name)(gym.make(env_id, episode_length=LENGTH, **kwargs))


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("env_id", FAMILY)
def test_vector_wrapper_equals_the_scalar_one(env_id, name, mode):
    lanes = 3
    many = getattr(vector, name)(
        gym.make_vec(env_id, num_envs=lanes, episode_length=LENGTH, autoreset_mode=mode)
    )
    ones = [wrapped(name, env_id) for _ in range(lanes)]
    many.action_space.seed(1)
    observations, _ = many.reset(seed=5)
    for i, env in enumerate(ones):
        assert np.array_equal(env.reset(seed=5 + i)[0], observations[i])
    ended = [False] * lanes
    for _ in range(3 * LENGTH):
        actions = many.action_space.sample()
        assert many.action_space.contains(actions)
        observations, rewards, terminated, truncated, infos = many.step(actions)
        assert many.observation_space.contains(observations)
        assert infos["vector_reward"].shape == (lanes, many.unwrapped.reward_dim)
        for i, env in enumerate(ones):
            if ended[i]:  # NEXT_STEP: this lane has only started over
                assert np.array_equal(env.reset()[0], observations[i])
                assert not np.any(rewards[i]) and not infos["_vector_reward"][i]
                ended[i] = False
                continue
            o, r, te, tr, info = env.step(actions[i])
            assert env.observation_space.contains(o)
            assert np.array_equal(r, rewards[i])
            assert np.array_equal(info["vector_reward"], infos["vector_reward"][i])
            assert (te, tr) == (terminated[i], truncated[i])
            if te or tr:
                if mode is AutoresetMode.SAME_STEP:
                    assert np.array_equal(o, infos["final_obs"][i])
                    o, _ = env.reset()
                else:
                    ended[i] = True
            assert np.array_equal(o, observations[i])


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("env_id", ["Homeostasis-MOHoN-v0", "Homeostasis-Sustainability-v0"])
def test_some_lanes_start_over_and_the_others_go_on(env_id, name, mode):
    """Masked resets at every other step, among them of lanes that wait for their own start."""
    lanes, rng = 4, np.random.default_rng(3)
    many = getattr(vector, name)(
        gym.make_vec(env_id, num_envs=lanes, episode_length=LENGTH, autoreset_mode=mode)
    )
    ones = [wrapped(name, env_id) for _ in range(lanes)]
    many.action_space.seed(1)
    many.reset(seed=5)
    shown = [env.reset(seed=5 + i)[0] for i, env in enumerate(ones)]
    ended = np.zeros(lanes, dtype=bool)
    passed_over = 0
    for t in range(8 * LENGTH):
        if mode is AutoresetMode.DISABLED or t % 2:
            mask = rng.random(lanes) < 0.3
            if mode is AutoresetMode.DISABLED:
                mask |= ended
            if mask.any():
                passed_over += int((ended & ~mask).sum())
                observations, _ = many.reset(options={"reset_mask": mask})
                for i in np.flatnonzero(mask):
                    shown[i] = ones[i].reset()[0]
                ended &= ~mask
                assert all(np.array_equal(a, b) for a, b in zip(observations, shown, strict=True))
        actions = many.action_space.sample()
        observations, rewards, terminated, truncated, infos = many.step(actions)
        for i, env in enumerate(ones):
            assert infos["_vector_reward"][i] == (not ended[i])
            if ended[i]:  # NEXT_STEP: this lane has only started over
                shown[i], ended[i] = env.reset()[0], False
                assert not np.any(rewards[i]) and not terminated[i] and not truncated[i]
            else:
                shown[i], r, te, tr, info = env.step(actions[i])
                assert np.array_equal(r, rewards[i]) and (te, tr) == (terminated[i], truncated[i])
                assert np.array_equal(info["vector_reward"], infos["vector_reward"][i])
                ended[i] = te or tr
                if ended[i] and mode is AutoresetMode.SAME_STEP:
                    assert np.array_equal(shown[i], infos["final_obs"][i])
                    shown[i], ended[i] = env.reset()[0], False
            assert np.array_equal(observations[i], shown[i])
    assert passed_over or mode is not AutoresetMode.NEXT_STEP


@pytest.mark.parametrize("spec", ["log", "sfella", "min", "chebyshev", "drive-reduction"])
def test_wrapper_and_constructor_scalarise_alike(spec):
    inside = gym.make("Homeostasis-SleepWake-v0", scalarization=spec)
    outside = wrappers.Scalarized(gym.make("Homeostasis-SleepWake-v0"), spec)
    inside_many = gym.make_vec("Homeostasis-SleepWake-v0", num_envs=2, scalarization=spec)
    outside_many = vector.Scalarized(gym.make_vec("Homeostasis-SleepWake-v0", num_envs=2), spec)
    for env in (inside, outside, inside_many, outside_many):
        env.reset(seed=2)
    for units in ([9, 0], [0, 9], [10, 10], [0, 0]):
        a, b = inside.step(np.array(units)), outside.step(np.array(units))
        assert isinstance(a[1], float) and a[1] == b[1]
        assert np.array_equal(a[4]["vector_reward"], b[4]["vector_reward"])
        c, d = inside_many.step(np.array([units] * 2)), outside_many.step(np.array([units] * 2))
        assert c[1][0] == a[1] and np.array_equal(c[1], d[1])


def test_scalarised_wraps_environments_of_others():
    env = wrappers.Scalarized(mo_gymnasium.make("fruit-tree-v0"), {"name": "min"})
    env.reset(seed=1)
    _, reward, *_, info = env.step(0)
    assert reward == info["vector_reward"].min()


def test_normalised_band_is_minus_one_to_one():
    env = wrapped("NormalizedObservation", "Homeostasis-MOHoN-v0")
    env.reset(seed=1, options={"noise": np.array([[11.0, -12.0]] * LENGTH)})
    observation, *_ = env.step(np.array([0, 0]))
    assert observation.dtype == np.float32 and observation.tolist() == [1.0, -1.0]


def test_text_tells_levels_bands_and_rewards():
    env = wrapped("TextObservation", "Homeostasis-MOHoN-v0")
    text, _ = env.reset(seed=1, options={"noise": np.array([[15.0, 0.0]] * LENGTH)})
    assert text.splitlines()[0] == "level A: 110 (should stay between 99 and 121)"
    text, *_ = env.step(np.array([1, 2]))
    assert "level A: 126 (should stay between 99 and 121)" in text
    assert "  oversatiation A: -160" in text and "  consumption B: 2" in text
    silent = wrappers.TextObservation(gym.make("Homeostasis-MOHoN-v0"), rewards=False)
    silent.reset(seed=1)
    assert "reward" not in silent.step(np.array([1, 2]))[0]


def test_finite_actions_in_an_environment_without_limit():
    env = wrapped("DiscreteActions", "Homeostasis-MOHoN-v0")
    free = wrappers.DiscreteActions(gym.make("Homeostasis-MOHoN-v0", max_consumption=None), most=10)
    assert env.action_space == free.action_space == gym.spaces.Discrete(121)
    env.reset(seed=1)
    free.reset(seed=1)
    a, b = env.step(3 * 11 + 7), free.step(3 * 11 + 7)
    assert np.array_equal(a[1], b[1]) and a[1][[0, 3]].tolist() == [3.0, 7.0]


def test_wrappers_are_recorded_in_the_spec():
    env = wrappers.NormalizedObservation(gym.make("Homeostasis-MOHoN-v0"), dtype="float64")
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert isinstance(again, wrappers.NormalizedObservation)
    assert again.observation_space == env.observation_space


@pytest.mark.parametrize(
    ("wrap", "kwargs", "message"),
    [
        (lambda e: wrappers.DiscreteActions(e), {"max_consumption": None}, "`most` of DiscreteActions must"),
        (lambda e: wrappers.DiscreteActions(e, 11), {}, "`most` must be at most the environment's limit 10"),
        (lambda e: wrappers.ContinuousActions(e), {"actions": "box"}, "must take one count per objective"),
        (lambda e: wrappers.Scalarized(e), {"scalarization": "min"}, "made with scalarization='min'"),
        (lambda e: wrappers.Scalarized(e, "x"), {}, "`scalarization` must be one of"),
        (lambda e: wrappers.Scalarized(wrappers.Scalarized(e)), {}, "Scalarized.* has already made it a num"),
        (
            lambda e: wrappers.Scalarized(wrappers.TextObservation(wrappers.Scalarized(e))),
            {},
            "has already made it a number",
        ),
        (
            lambda e: wrappers.TextObservation(wrappers.NormalizedObservation(e)),
            {},
            r"`env` of TextObservation must show .* own observations, Box\(-inf, inf, \(2,\), float64\), but",
        ),
        (lambda e: wrappers.NormalizedObservation(wrappers.TextObservation(e)), {}, "must show the env"),
        (lambda e: wrappers.NormalizedObservation(wrappers.NormalizedObservation(e)), {}, "must show the"),
        (
            lambda e: wrappers.NormalizedObservation(e, "int32"),
            {},
            "`dtype` must be a floating .* got 'int32'",
        ),
        (lambda e: wrappers.NormalizedObservation(e, "x"), {}, "`dtype` must be a floating type .* got 'x'"),
        (lambda e: wrappers.DiscreteActions(e, "3"), {}, "`most` must be an integer of at least 1, got '3'"),
        (lambda e: wrappers.DiscreteActions(e, 0), {}, "`most` must be an integer of at least 1, got 0"),
        (lambda e: wrappers.DiscreteActions(wrappers.DiscreteActions(e)), {}, "must take one count per obj"),
        (lambda e: wrappers.DiscreteActions(wrappers.ContinuousActions(e)), {}, "must take one count per o"),
    ],
)
def test_refusals(wrap, kwargs, message):
    with pytest.raises(HomeostasisError, match=message):
        wrap(gym.make("Homeostasis-MOHoN-v0", **kwargs))


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda e: vector.Scalarized(vector.Scalarized(e)), "has already made it a number"),
        (
            lambda e: vector.TextObservation(vector.NormalizedObservation(e)),
            "must show the environment's own",
        ),
        (
            lambda e: vector.NormalizedObservation(vector.TextObservation(e)),
            "must show the environment's own",
        ),
        (lambda e: vector.DiscreteActions(vector.ContinuousActions(e)), "must take one count per objective"),
    ],
)
def test_vector_refusals(wrap, message):
    with pytest.raises(HomeostasisError, match=message):
        wrap(gym.make_vec("Homeostasis-MOHoN-v0", num_envs=2))


def test_wrappers_that_go_together():
    env = wrappers.DiscreteActions(gym.make("Homeostasis-MOHoN-v0"))
    env = wrappers.Scalarized(wrappers.NormalizedObservation(env), "sfella")
    env.reset(seed=1)
    observation, reward, *_, info = env.step(40)
    assert observation.dtype == np.float32 and isinstance(reward, float)
    assert info["vector_reward"].shape == (6,)
    env = wrappers.TextObservation(wrappers.Scalarized(gym.make("Homeostasis-MOHoN-v0")))
    env.reset(seed=1)
    assert "  consumption B: 2" in env.step(np.array([1, 2]))[0]


def test_numbers_of_a_wrapper_of_others_are_told():
    env = wrappers.Scalarized(mo_gymnasium.wrappers.LinearReward(mo_gymnasium.make("Homeostasis-MOHoN-v0")))
    env.reset(seed=1)
    with pytest.raises(HomeostasisError, match=r"must give rewards of shape \(6,\), but a wrapper inside of"):
        env.step(np.array([1, 2]))


def test_wrappers_that_need_an_environment_of_ours():
    for name in ("NormalizedObservation", "TextObservation", "DiscreteActions", "ContinuousActions"):
        with pytest.raises(HomeostasisError, match=f"`env` of {name} must be an environment of"):
            getattr(wrappers, name)(gym.make("CartPole-v1"))
    with pytest.raises(HomeostasisError, match="must have a vector reward"):
        wrappers.Scalarized(gym.make("CartPole-v1"))


def test_drive_reduction_cannot_look_behind_an_autoreset():
    env = gym.make_vec("Homeostasis-MOHoN-v0", num_envs=2, autoreset_mode="SameStep")
    with pytest.raises(HomeostasisError, match="give it to the environment as scalarization="):
        vector.Scalarized(env, "drive-reduction")
