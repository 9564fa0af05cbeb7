"""MORL-Baselines runs on our environments unchanged; an optional job, see the extra `morl`."""

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("morl_baselines")
pytest.importorskip("pymoo")

import homeostasis_gym  # noqa: F401

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


@pytest.mark.parametrize("env_id", ["Homeostasis-MOHoN-v0", "Homeostasis-MOBUO-v0"])
def test_envelope_trains_on_discrete_actions(env_id):
    from morl_baselines.multi_policy.envelope.envelope import Envelope

    env = gym.make(env_id, actions="discrete", max_consumption=3)
    agent = Envelope(env, net_arch=[16], batch_size=16, learning_starts=20, log=False, seed=0, device="cpu")
    weights = np.full(env.unwrapped.reward_dim, 1 / env.unwrapped.reward_dim)
    agent.train(
        total_timesteps=120,
        eval_env=None,
        ref_point=np.full(env.unwrapped.reward_dim, -1e6),
        weight=weights,
        verbose=False,
    )
    observation, _ = env.reset(seed=0)
    assert env.action_space.contains(int(agent.eval(observation, weights)))


@pytest.mark.parametrize("env_id", ["Homeostasis-MOHoN-v0", "Homeostasis-MOBUON-v0"])
def test_capql_trains_on_continuous_actions(env_id):
    from morl_baselines.multi_policy.capql.capql import CAPQL

    env = gym.make(env_id, actions="box")
    reward_dim = env.unwrapped.reward_dim
    agent = CAPQL(env, net_arch=[16], batch_size=16, learning_starts=20, log=False, seed=0, device="cpu")
    agent.train(
        total_timesteps=60,
        eval_env=gym.make(env_id, actions="box"),
        ref_point=np.full(reward_dim, -1e6),
        num_eval_weights_for_front=2,
        num_eval_episodes_for_front=1,
        eval_freq=10_000,
    )
    observation, _ = env.reset(seed=0)
    action = agent.eval(observation, np.full(reward_dim, 1 / reward_dim))
    assert action.shape == env.action_space.shape
