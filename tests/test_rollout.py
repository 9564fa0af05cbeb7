"""The loop records what happened, as it happened."""

import gymnasium as gym
import numpy as np
import pytest

import homeostasis_gym  # noqa: F401
from homeostasis_gym.agent import Attempt, Decision, Task, make_agent
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.rollout import rollout


class Scripted:
    """Says what it is told to; remembers what it was shown."""

    def __init__(self, decisions):
        self.decisions = list(decisions)
        self.seen = []
        self.seeds = []

    def reset(self, seed):
        self.seeds.append(seed)
        self.left = list(self.decisions)

    def act(self, observation, info):
        self.seen.append((np.array(observation), dict(info)))
        return self.left.pop(0)


def test_every_step_is_recorded():
    env = gym.make("Homeostasis-MOHoN-v0", episode_length=3)
    talk = Attempt(prompt="?", reply="1, 2")
    agent = Scripted(
        [
            Decision(np.array([1, 2]), (talk,)),
            Decision(None, (Attempt("?", "what", error="no numbers"),)),
            Decision(np.array([0, 3])),
        ]
    )
    noise = np.array([[1.0, -2.0], [3.0, 0.0], [-5.0, 4.0]])
    t = rollout(env, agent, seed=7, agent_name="scripted", episode=4, noise=noise)
    assert agent.seeds == [7]
    assert (t.header.agent, t.header.seed, t.header.episode) == ("scripted", 7, 4)
    assert t.header.benchmark["name"] == "mohon"
    np.testing.assert_array_equal(t.actions, [[1, 2], [0, 0], [0, 3]])
    np.testing.assert_array_equal(t.valid, [True, False, True])
    np.testing.assert_array_equal(t.noise, noise)
    np.testing.assert_array_equal(t.states, [[110, 120], [112, 120], [115, 120], [110, 127]])
    np.testing.assert_array_equal(t.rewards[2], [0, 0, 0, 3, 0, 0])
    assert t.attempts[0] == (talk,)
    assert t.invalid_replies == 1
    assert not t.terminated
    # The agent sees the reward vector from the second step on, never before.
    assert "last_reward" not in agent.seen[0][1]
    np.testing.assert_array_equal(agent.seen[1][1]["last_reward"], t.rewards[0])


def test_an_action_outside_the_space_is_refused():
    env = gym.make("Homeostasis-MOHoN-v0")
    with pytest.raises(HomeostasisError, match=r"`Decision.action` must be in MultiDiscrete"):
        rollout(env, Scripted([Decision(np.array([11, 0]))]), seed=0)


@pytest.mark.parametrize("name", ["restore", "random", "copy-last"])
def test_an_episode_depends_on_its_seed_alone(name):
    env = gym.make("Homeostasis-MOHoN-v0")
    agent = make_agent(name, Task.from_env(env))
    first = rollout(env, agent, seed=5)
    rollout(env, agent, seed=6)
    state = np.random.get_state()[1].copy()  # noqa: NPY002 (the global state must stay untouched)
    again = rollout(env, agent, seed=5)
    assert first == again
    assert first != rollout(env, agent, seed=6)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_a_foreign_environment_with_a_scalar_reward_is_recorded():
    env = gym.make("CartPole-v1")
    t = rollout(env, make_agent("random", Task.from_env(env)), seed=1)
    assert t.rewards.shape == (len(t), 1)
    assert t.terminated
    assert t.header.benchmark == {}


def test_all_forms_of_action_are_recorded_as_counts():
    for form in ("multidiscrete", "discrete", "box"):
        env = gym.make("Homeostasis-MOHoN-v0", actions=form)
        t = rollout(env, make_agent("restore", Task.from_env(env)), seed=2)
        plain = gym.make("Homeostasis-MOHoN-v0")
        assert np.array_equal(
            t.actions, rollout(plain, make_agent("restore", Task.from_env(plain)), seed=2).actions
        )
        assert t.actions.dtype == np.int64
