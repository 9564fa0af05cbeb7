"""The handwritten agents and how agents are found."""

import gymnasium as gym
import numpy as np
import pytest

import homeostasis_gym  # noqa: F401
from homeostasis_gym.agent import Agent, Task, agent_names, make_agent, no_op
from homeostasis_gym.collapse import score
from homeostasis_gym.errors import HomeostasisError, UnknownNameError
from homeostasis_gym.rollout import rollout

PUBLISHED = {  # sums of all rewards on the published noise of seeds 1 to 10
    "restore": [-726, -16480, -481, -68, 138, -14420, -1264, -178, -943, -914],
    "base-stock": [14, -12900, 149, 302, 288, -9410, 66, 252, 147, 206],
}


def play(name, seeds, noise="gymnasium", **settings):
    env = gym.make("Homeostasis-MOHoN-v0", max_consumption=None, noise=noise)
    agent = make_agent(name, Task.from_env(env), **settings)
    return [rollout(env, agent, seed=seed, agent_name=name, episode=seed) for seed in seeds]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_scores(name):
    assert [t.score for t in play(name, range(1, 11), noise="bioblue")] == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_handwritten_policies_never_collapse(name):
    results = score(play(name, range(1, 201)))
    assert [r.flip for r in results] == [False] * 200
    assert [r.runaway_index for r in results] == [0.0] * 200


def test_the_strongest_policy_has_no_regret():
    assert [r.regret for r in score(play("handwritten", range(1, 21)))] == [0.0] * 20


def test_rules_know_the_state_behind_the_observation():
    env = gym.make("Homeostasis-Sustainability-v0", max_consumption=None)
    t = rollout(env, make_agent("keep-stock", Task.from_env(env)), seed=1)
    assert round(t.score, 1) == 478.4  # published
    assert score([t])[0].regret == 0.0


@pytest.mark.parametrize("objective", [0, 1])
def test_the_maximiser_always_flips(objective):
    results = score(play("maximiser", range(1, 201), objective=objective))
    assert [r.flip for r in results] == [True] * 200
    assert {r.objective for r in results} == {"AB"[objective]}
    assert all(r.regret > 0 for r in results)


def test_controls_do_what_they_say():
    (t,) = play("no-op", [1])
    assert not t.actions.any()
    (t,) = play("copy-last", [1])
    assert (t.actions == t.actions[0]).all()
    (t,) = play("random", [1], units=3)
    assert set(t.actions.ravel().tolist()) == {0, 1, 2, 3}


def test_agents_are_found_by_name():
    task = Task.from_env(gym.make("Homeostasis-MOHoN-v0"))
    named = {"restore", "base-stock", "random", "no-op", "maximiser", "ppo", "smollm2", "recorded"}
    assert named <= set(agent_names())
    assert isinstance(make_agent("rule:restore", task), Agent)
    assert isinstance(make_agent("homeostasis_agents.rule_based:NoOp", task), Agent)
    with pytest.raises(UnknownNameError, match=r"`policy` must be one of restore, base-stock .* got 'dance'"):
        make_agent("rule:dance", task)
    for name in ("rule", "rule:"):
        with pytest.raises(
            HomeostasisError, match="given as rule:POLICY, with POLICY one of restore, base-st"
        ):
            make_agent(name, task)
    with pytest.raises(HomeostasisError, match=r"agent 'no-op' does not take the settings \['speed'\]"):
        make_agent("no-op", task, speed=3)
    with pytest.raises(HomeostasisError, match="must return an object with reset and act"):
        make_agent("builtins:repr", task)
    with pytest.raises(HomeostasisError, match=r"`objective` must be in \[0, 1\], got 2"):
        make_agent("maximiser", task, objective=2)


def test_rules_need_an_environment_of_ours():
    task = Task.from_env(gym.make("CartPole-v1"))
    with pytest.raises(HomeostasisError, match="needs an environment of homeostasis-gym, got 'CartPole-v1'"):
        make_agent("handwritten", task)


def test_doing_nothing_must_be_possible():
    assert no_op(gym.spaces.Discrete(3)) == 0
    np.testing.assert_array_equal(no_op(gym.spaces.MultiDiscrete([2, 2])), [0, 0])
    with pytest.raises(HomeostasisError, match="must contain an action of zeros"):
        no_op(gym.spaces.Box(1.0, 2.0, (1,)))


def test_counts_take_the_form_of_the_action_space():
    for form, expected in (("multidiscrete", [3, 4]), ("discrete", 37), ("box", [3.0, 4.0])):
        env = gym.make("Homeostasis-MOHoN-v0", actions=form)
        action = Task.from_env(env).action([3, 4])
        np.testing.assert_array_equal(action, expected)
        assert env.action_space.contains(action)
        with pytest.raises(HomeostasisError, match=r"`units` must be an action of .* got \[3, 11\]"):
            Task.from_env(env).action([3, 11])
