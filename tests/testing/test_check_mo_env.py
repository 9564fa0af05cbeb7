"""Every rule of the check has an environment that breaks it, and the message that says so."""

import random

import gymnasium as gym
import mo_gymnasium
import numpy as np
import pytest

from homeostasis_gym.testing import check_mo_env


class Sound(gym.Env):
    """A small environment that breaks no rule."""

    def __init__(self):
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = gym.spaces.MultiDiscrete([5, 5])
        self.reward_space = gym.spaces.Box(-100.0, 100.0, (2,), np.float64)
        self.reward_dim = 2
        self.reward_names = ("a", "b")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.level = np.zeros(2)
        return self.level.copy(), {}

    def noise(self):
        return self.np_random.integers(-2, 3, 2)

    def reward(self):
        return -np.minimum(np.abs(self.level), 100.0)

    def step(self, action):
        self.t += 1
        self.level = self.level + action - 2 + self.noise()
        return self.level.copy(), self.reward(), False, self.t >= 10, {"level": self.level.copy()}


class NoRewardSpace(Sound):
    def __init__(self):
        super().__init__()
        del self.reward_space


class FlatRewardSpace(Sound):
    def __init__(self):
        super().__init__()
        self.reward_space = gym.spaces.Box(-1.0, 1.0, (2, 1), np.float64)


class WrongDim(Sound):
    def __init__(self):
        super().__init__()
        self.reward_dim = 3


class TwinNames(Sound):
    def __init__(self):
        super().__init__()
        self.reward_names = ("a", "a")


class BadReset(Sound):
    def reset(self, **kwargs):
        return super().reset(**kwargs)[0]


class BadFirstObservation(Sound):
    def reset(self, **kwargs):
        observation, info = super().reset(**kwargs)
        return observation.astype(np.float32)[:1], info


class OldStep(Sound):
    def step(self, action):
        observation, reward, _, truncated, info = super().step(action)
        return observation, reward, truncated, info


class EatsTheAction(Sound):
    def step(self, action):
        result = super().step(action)
        action[:] = 9
        return result


class BadObservation(Sound):
    def step(self, action):
        _, *rest = super().step(action)
        return np.zeros(3), *rest


class ScalarReward(Sound):
    def reward(self):
        return float(super().reward().sum())


class WholeNumberReward(Sound):
    def reward(self):
        return super().reward().astype(int)


class InfiniteReward(Sound):
    def reward(self):
        return super().reward() * np.array([1.0, np.nan])


class OutOfRewardSpace(Sound):
    def reward(self):
        return -super().reward() + 101.0


class NumberForFlag(Sound):
    def step(self, action):
        observation, reward, _, truncated, info = super().step(action)
        return observation, reward, 0, truncated, info


class NoInfo(Sound):
    def step(self, action):
        return *super().step(action)[:4], None


class SameObservation(Sound):
    def step(self, action):
        observation, *rest = super().step(action)
        self.kept = getattr(self, "kept", observation)
        self.kept[:] = observation
        return self.kept, *rest


class SameReward(Sound):
    kept = np.zeros(2)

    def reward(self):
        self.kept[:] = super().reward()
        return self.kept


class SameInfo(Sound):
    kept: dict = {}  # noqa: RUF012 (that it is shared is the fault)

    def step(self, action):
        return *super().step(action)[:4], self.kept


class TurnsRandomLater(Sound):
    """First observations repeat, and so do second ones: a check of these alone finds nothing."""

    hidden = np.random.default_rng()

    def noise(self):
        return super().noise() if self.t < 3 else self.hidden.integers(-2, 3, 2)


class PythonsGlobalGenerator(Sound):
    def noise(self):
        return np.array([random.randint(-2, 2), 0])


class NumpysGlobalGenerator(Sound):
    def noise(self):
        return np.random.randint(-2, 3, 2)  # noqa: NPY002


class LendsItsState(Sound):
    """Gives away the array that it goes on computing with, fresh at every step."""

    def step(self, action):
        _, *rest = super().step(action)
        return self.level, *rest


class LendsItsCounts(Sound):
    """The same with whole numbers, deep inside of the info."""

    def reset(self, **kwargs):
        self.counts = np.zeros(2, dtype=np.int32)
        return super().reset(**kwargs)

    def noise(self):
        return super().noise() + self.counts

    def step(self, action):
        *rest, _ = super().step(action)
        self.counts = self.counts + 1
        return *rest, {"inside": [{"counts": (self.counts,)}]}


class LendsItsFlags(LendsItsCounts):
    def reset(self, **kwargs):
        observation, _ = super().reset(**kwargs)
        self.counts = np.zeros(2, dtype=bool)
        return observation, {"counts": self.counts}

    def step(self, action):
        counts = self.counts
        result = Sound.step(self, action)
        self.counts = counts
        return result


class LendsItsSettings(Sound):
    """Gives away a dict that it reads later."""

    def reset(self, **kwargs):
        self.settings = {"push": 1}
        return super().reset(**kwargs)[0], {"settings": self.settings}

    def noise(self):
        return super().noise() + self.settings.get("push", 0)


class SameArrayInTheInfo(Sound):
    def step(self, action):
        *rest, info = super().step(action)
        self.kept = getattr(self, "kept", info["level"])
        return *rest, {"inside": (self.kept,)}


class SameObservationAtReset(Sound):
    def step(self, action):
        self.last, *rest = super().step(action)
        return self.last, *rest

    def reset(self, **kwargs):
        observation, info = super().reset(**kwargs)
        last = getattr(self, "last", observation)
        last[:] = observation
        return last, info


class TwoBuffers(Sound):
    """Fresh against the last step, but not against the one before."""

    def reset(self, **kwargs):
        self.buffers = [np.zeros(2), np.zeros(2)]
        return super().reset(**kwargs)

    def step(self, action):
        observation, *rest = super().step(action)
        self.buffers[self.t % 2][:] = observation
        return self.buffers[self.t % 2], *rest


class OtherLengths(Sound):
    hidden = np.random.default_rng(1)

    def step(self, action):
        *rest, _, info = super().step(action)
        return *rest, bool(self.hidden.random() < 0.2), info


class TellsNothingAsNaN(Sound):
    """Breaks no rule: what is not known is NaN, in arrays and as a number."""

    def step(self, action):
        *rest, info = super().step(action)
        return *rest, info | {"unknown": [np.full(2, np.nan), float("nan")], "name": np.array(["x"])}


BROKEN = {
    NoRewardSpace: "`env.unwrapped.reward_space` must be a Box, got None",
    FlatRewardSpace: "`env.unwrapped.reward_space` must have one dimension, got shape (2, 1)",
    WrongDim: "`env.unwrapped.reward_dim` must equal the reward space's 2, got 3",
    TwinNames: "`env.unwrapped.reward_names` must be 2 different names, got ('a', 'a')",
    BadReset: "`reset` must return an observation and a dict, got array([0., 0.])",
    BadFirstObservation: "`reset` must return an observation in Box(-inf, inf, (2,), float64), "
    "got array([0.], dtype=float32)",
    OldStep: "`step` must return five values, got (",
    EatsTheAction: "`step` must not change the action it is given, at step 0",
    BadObservation: "the observation must be in Box(-inf, inf, (2,), float64), "
    "got array([0., 0., 0.]) at step 0",
    ScalarReward: "the reward must be a float array of shape (2,), got -",
    WholeNumberReward: "the reward must be a float array of shape (2,), got array([",
    InfiniteReward: "the reward must be finite, got array([",
    OutOfRewardSpace: "the reward must be in Box(-100.0, 100.0, (2,), float64), got array([10",
    NumberForFlag: "`terminated` must be a bool, got 0 at step 0",
    NoInfo: "`info` must be a dict, got None at step 0",
    SameObservation: "the observation must be a fresh object at every step, but step 1 reuses the last one's",
    SameReward: "the reward must be a fresh object at every step, but step 1 reuses the last one's",
    SameInfo: "the info must be a fresh object at every step, but step 1 reuses the last one's",
    TurnsRandomLater: "a second trajectory with the same seed and actions must repeat the first to the "
    "last bit, but part ",
    PythonsGlobalGenerator: "the environment must draw from `self.np_random` only, "
    "but a global random state has changed",
    NumpysGlobalGenerator: "the environment must draw from `self.np_random` only, "
    "but a global random state has changed",
    LendsItsState: "a trajectory in which the caller writes into the arrays it was given must repeat the "
    "first to the last bit, but part 2 differs",
    LendsItsCounts: "a trajectory in which the caller writes into the arrays it was given must repeat the "
    "first to the last bit, but part 2 differs",
    LendsItsFlags: "a trajectory in which the caller writes into the arrays it was given must repeat the "
    "first to the last bit, but part 1 differs",
    LendsItsSettings: "a trajectory in which the caller writes into the arrays it was given must repeat the "
    "first to the last bit, but part 1 differs",
    SameArrayInTheInfo: "the info must be a fresh object at every step, but step 1 reuses the last one's",
    SameObservationAtReset: "the observation must be a fresh object at every step, but the reset after step "
    "9 reuses the last one's",
    TwoBuffers: "what the environment has said must not change later, but part 1 was (array([",
    OtherLengths: "a second trajectory with the same seed and actions must repeat the first, but its "
    "episodes have other lengths: [",
}


@pytest.mark.parametrize("sound", [Sound, TellsNothingAsNaN])
def test_a_sound_environment_passes(sound):
    check_mo_env(sound())


@pytest.mark.parametrize("broken", BROKEN, ids=lambda c: c.__name__)
def test_a_broken_environment_is_named(broken):
    with pytest.raises(AssertionError) as caught:
        check_mo_env(broken())
    assert str(caught.value).startswith(BROKEN[broken]), str(caught.value)


@pytest.mark.parametrize("env_id", ["fruit-tree-v0"])
def test_environments_of_others_pass(env_id):
    check_mo_env(mo_gymnasium.make(env_id))
