"""The helper of ALICE and BOB as a Gymnasium environment."""

import json

import gymnasium as gym
import numpy as np
import pytest

import homeostasis_gym  # noqa: F401 (registers the environments)
from homeostasis_gym.agent import Task, make_agent
from homeostasis_gym.core import schedules
from homeostasis_gym.core.benchmark import benchmark_from_dict, benchmark_to_dict
from homeostasis_gym.core.benchmark import simulate as simulate_policy
from homeostasis_gym.core.value_graph import STRATEGIES, ValueGraph, reference, simulate
from homeostasis_gym.errors import HomeostasisError

ID = "Homeostasis-ValueGraph-v0"


@pytest.mark.parametrize(
    "strategy", ["homeostatic", "boosting", "throttling", "none", "falling", "lookahead"]
)
def test_a_rule_that_helps_everybody_plays_the_simulation(strategy):
    length = 300
    env = gym.make(ID, episode_length=length, noise="bioblue")
    agent = make_agent(f"rule:{strategy}", Task.from_env(env))
    observation, info = env.reset(seed=0)
    agent.reset(0)
    run = simulate(reference(rebalancing=strategy), schedules.random(0, length), seeds=0)
    for t in range(length):
        observation, reward, _, truncated, info = env.step(agent.act(observation, info).action)
        np.testing.assert_allclose(reward, run.utilities[t].ravel(), rtol=1e-8)
        assert info["noise"][0] == run.who[t] == observation[-2]
        assert observation[-1] == t + 1
        assert not info["invalid_action"]
    assert truncated
    if strategy == "homeostatic":
        # Seed 0 of the public code, one step later.
        assert env.unwrapped.benchmark.split(observation)[0].shape == (2, 3)


def test_every_policy_acts_inside_the_rules():
    benchmark = ValueGraph(episode_length=50)
    assert set(benchmark.policies) >= {"none", "homeostatic", "boosting", "throttling"}
    assert set(benchmark.policies) <= set(STRATEGIES)
    keys = np.arange(7, dtype=np.uint64)
    noise = benchmark.noise_paths(keys).transpose(2, 0, 1)
    ends = {}
    for name, policy in benchmark.policies.items():
        episodes = simulate_policy(benchmark, policy, noise)
        assert episodes.actions.min() >= 0
        assert episodes.actions.sum(axis=-1).max() <= benchmark.units
        assert not episodes.flags.any()
        ends[name] = episodes.states[:, -1].tobytes()
    assert len({ends[name] for name in ("none", "homeostatic", "falling", "proportional")}) == 4


def test_the_vector_environment_agrees_with_the_scalar_one():
    scalar = [gym.make(ID, episode_length=40) for _ in range(3)]
    vector = gym.make_vec(ID, num_envs=3, episode_length=40)
    first, _ = vector.reset(seed=10)
    singles = [env.reset(seed=10 + i)[0] for i, env in enumerate(scalar)]
    np.testing.assert_array_equal(first, singles)
    generator = np.random.default_rng(0)
    for _ in range(39):
        actions = generator.integers(0, 5, (3, 3))
        together = vector.step(actions)
        apart = [env.step(action) for env, action in zip(scalar, actions, strict=True)]
        np.testing.assert_array_equal(together[0], [one[0] for one in apart])
        np.testing.assert_array_equal(together[1], [one[1] for one in apart])


def test_fixed_schedules_have_no_noise():
    benchmark = ValueGraph(schedule="thue_morse", episode_length=8)
    assert benchmark.noise_channels == 0
    env = gym.make(ID, schedule="thue_morse", episode_length=8)
    env.reset(seed=0)
    turns = [env.step(np.zeros(3, dtype=np.int64))[0][-2] for _ in range(8)]
    assert turns == [0, 1, 1, 0, 1, 0, 0, 1]


def test_nothing_happens_to_whose_turn_it_is_not():
    env = gym.make(ID, schedule="alternating", rate=0.0, episode_length=10)
    env.reset(seed=0)
    whole = np.array([0, 10, 0])
    levels = [env.step(whole)[0][:6] for _ in range(3)]
    np.testing.assert_allclose(levels[0], np.ones(6))
    np.testing.assert_allclose(levels[1], [1, 1.1, 1, 1, 1, 1])
    np.testing.assert_allclose(levels[2], [1, 1.1, 1, 1, 1.1, 1])


def test_too_many_units_waste_the_turn():
    env = gym.make(ID, schedule="alternating", rate=0.0, episode_length=10)
    env.reset(seed=0)
    env.step(np.zeros(3, dtype=np.int64))
    observation, _, _, _, info = env.step(np.array([10, 1, 0]))
    assert info["invalid_action"]
    np.testing.assert_allclose(observation[:6], np.ones(6))
    benchmark = env.unwrapped.benchmark
    assert benchmark.why_forbidden(observation, np.array([10, 1, 0])) == (
        "at most 10 units of correction in all may be given in one step, not 11"
    )


def test_the_benchmark_survives_json():
    benchmark = ValueGraph(target=(9.0, 11.0), rate=0.03, schedule="blocks", episode_length=20)
    assert benchmark_from_dict(json.loads(json.dumps(benchmark_to_dict(benchmark)))) == benchmark


def test_normalised_observations_mark_the_turn():
    benchmark = ValueGraph(episode_length=20)
    states = np.array([benchmark.initial_state] * 3)
    states[:, -2] = [-1, 0, 1]
    found = benchmark.normalize(states)
    assert found.shape == (3, 20)
    np.testing.assert_array_equal(found[:, -2:], [[0, 0], [1, 0], [0, 1]])
    assert len(benchmark.normalized_bounds[0]) == 20


def test_arguments_that_are_refused():
    with pytest.raises(HomeostasisError, match="`schedule` must be one of random, alternating"):
        ValueGraph(schedule="whim")
    with pytest.raises(HomeostasisError, match="`utility` must be one of linear"):
        ValueGraph(utility="happy")
    with pytest.raises(HomeostasisError, match="`length` must be in"):
        ValueGraph(schedule="front_loaded", episode_length=60)


def test_any_order_of_turns_can_be_replayed_and_pictures_show_everybody():
    env = gym.make("Homeostasis-ValueGraph-v0", episode_length=8, render_mode="ansi").unwrapped
    turns = np.array([0, 0, 0, 1, 1, 0, 1, 0])
    env.reset(seed=0, options={"noise": turns[:, np.newaxis]})
    seen = [int(env.step(np.zeros(3, dtype=np.int64))[0][-2]) for _ in turns]
    assert seen == turns.tolist()
    text = env.render()
    levels = env.benchmark.split(env.state)[0]
    for agent, row in zip(env.benchmark.agents, levels, strict=True):
        for value, level in zip(env.benchmark.objective_names, row, strict=True):
            assert f"  {agent} {value}: {level:8.2f}" in text


def test_a_picture_has_one_line_per_agent_and_value():
    benchmark = ValueGraph(episode_length=5)
    states = np.repeat(np.array([benchmark.initial_state]), 4, axis=0)
    states[:, 0] = [1, 2, 3, 4]
    states[:, -2] = [-1, 0, 1, 0]
    names, levels, bands = benchmark.rendered(states)
    assert names[0] == "ALICE Power"
    assert len(names) == 6
    assert levels[:, 0].tolist() == [1, 2, 3, 4]
    assert bands is None
