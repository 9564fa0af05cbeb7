import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from homeostasis_agents.sb3.evaluation import unseen_noise
from homeostasis_agents.sb3.policy import PolicyAgent, weights_hash
from homeostasis_agents.sb3.value_graph import (
    MODES,
    SeatsVecEnv,
    as_policy,
    collapsed_agents,
    seats_policy,
    train_seats,
)

import homeostasis_gym  # noqa: F401
from homeostasis_gym.core.benchmark import simulate
from homeostasis_gym.core.value_graph import ValueGraph
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.multiagent.play import play
from homeostasis_gym.multiagent.value_graph_v0 import parallel_env

GRAPH = ValueGraph(episode_length=20, max_consumption=1)
PPO = {"n_steps": 10, "batch_size": 20, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}}


def nobody(observations):
    return np.zeros((len(observations), 3), dtype=np.int64)


def test_seats_earn_what_the_pettingzoo_environment_pays():
    lanes = SeatsVecEnv(GRAPH, 2, GRAPH.agents)
    lanes.seed(4)
    lanes.reset()
    pettingzoo = parallel_env(episode_length=20, units=1)
    path = lanes._env._source  # noqa: F841 (the graphs' own generators)
    generator = np.random.default_rng(0)
    turns, rows = [], []
    for _ in range(20):
        actions = generator.integers(2, size=(4, 3))
        before = lanes._seen.copy()
        observation, reward, dones, infos = lanes.step(actions)
        rows.append((actions, reward, observation, infos))
        after = observation[0] if not dones[0] else infos[0]["terminal_observation"]
        turns.append(after[-2:].argmax() if after[-2:].any() else -1)
        assert before.shape == (2, GRAPH.observation_dim)
    assert dones.all()
    # Graph 0 again, with the turns that it had.
    seen, _ = pettingzoo.reset(seed=0, options={"noise": np.array(turns, dtype=np.float64)[:, np.newaxis]})
    for actions, reward, observation, infos in rows:
        chosen = {"ALICE": actions[0], "BOB": actions[2]}
        seen, paid, *_ = pettingzoo.step(chosen)
        assert reward[0] == pytest.approx(paid["ALICE"].sum(), rel=1e-5)
        assert reward[2] == pytest.approx(paid["BOB"].sum(), rel=1e-5)
        view = observation[2] if "terminal_observation" not in infos[2] else infos[2]["terminal_observation"]
        expected = pettingzoo.seats["BOB"].normalize(seen["BOB"])
        assert view == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert infos[0]["TimeLimit.truncated"] is True


def test_other_seats_are_taken_by_choosers():
    calls = []

    def other(observations):
        calls.append(len(observations))
        return nobody(observations)

    lanes = SeatsVecEnv(GRAPH, 3, ["ALICE"], {"BOB": other})
    lanes.seed(0)
    lanes.reset()
    for _ in range(10):
        lanes.step(np.zeros((3, 3), dtype=np.int64))
    assert lanes.num_envs == 3 and calls
    with pytest.raises(HomeostasisError, match="must take each of ALICE, BOB once, got ALICE and none"):
        SeatsVecEnv(GRAPH, 3, ["ALICE"])


@pytest.mark.parametrize("mode", MODES)
def test_trained_seats_play_in_the_pettingzoo_environment(mode):
    policies = train_seats(GRAPH, mode, steps=120, graphs=2, rounds=2, settings=PPO)
    again = train_seats(GRAPH, mode, steps=120, graphs=2, rounds=2, settings=PPO)
    assert {k: weights_hash(v) for k, v in policies.items()} == {k: weights_hash(v) for k, v in again.items()}
    if mode != "independent":
        assert policies["ALICE"] is policies["BOB"]
    env = parallel_env(episode_length=20, units=1)
    agents = {name: PolicyAgent(as_policy(net), env.task(name)) for name, net in policies.items()}
    noise = unseen_noise(GRAPH, 2)
    together = simulate(GRAPH, seats_policy(GRAPH, policies), noise)
    played = play(env, agents, seed=0, options={"noise": noise[0]})
    counted = np.where(played["ALICE"].counted[:, np.newaxis], played["ALICE"].actions, played["BOB"].actions)
    mask = played["ALICE"].counted | played["BOB"].counted
    assert np.array_equal(counted[mask], together.actions[0][mask])


def test_an_unknown_mode_is_named():
    with pytest.raises(HomeostasisError, match="`mode` must be one of shared, independent, self-play"):
        train_seats(GRAPH, "telepathy", steps=10)


def test_collapse_is_a_level_held_below_zero():
    graph = ValueGraph(episode_length=1000, rate=0.05)
    noise = unseen_noise(graph, 3)
    still = collapsed_agents(graph, lambda states, step: np.zeros((len(states), 3), np.int64), noise)
    assert still.tolist() == [2, 2, 2]


def test_the_helper_is_an_environment_like_any_other():
    env = gym.make("Homeostasis-ValueGraph-v0", scalarization="linear", episode_length=5)
    env.reset(seed=0)
    assert np.isfinite(env.step(env.action_space.sample())[1])
