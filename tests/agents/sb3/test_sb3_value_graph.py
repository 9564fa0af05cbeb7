import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from homeostasis_agents.sb3.evaluation import unseen_noise
from homeostasis_agents.sb3.policy import save_policy
from homeostasis_agents.sb3.seats_vec_env import SeatsVecEnv
from homeostasis_agents.sb3.spec import make_spec
from homeostasis_agents.sb3.training import train
from homeostasis_agents.sb3.value_graph import (
    MODES,
    collapsed_agents,
    count_collapsed,
    load_seats,
    seat_agent,
    seats_policy,
    train_seats,
)
from stable_baselines3 import PPO

import homeostasis_gym  # noqa: F401
from homeostasis_gym.agent import Task, make_agent
from homeostasis_gym.core.benchmark import simulate
from homeostasis_gym.core.value_graph import ValueGraph
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.multiagent.play import play
from homeostasis_gym.multiagent.value_graph_v0 import parallel_env

GRAPH = ValueGraph(episode_length=20, max_consumption=1)
SMALL = {
    "envs": 2,
    "net_arch": [8],
    "arguments": {"n_steps": 10, "batch_size": 20, "n_epochs": 1},
}


def units(number):
    """The units that an action stands for."""
    return np.array(np.unravel_index(number, (2, 2, 2)), dtype=np.int64)


def nobody(observations):
    return np.zeros((len(observations), 3), dtype=np.int64)


def test_seats_earn_what_the_pettingzoo_environment_pays():
    lanes = SeatsVecEnv(GRAPH, 2, GRAPH.agents)
    lanes.seed(4)
    lanes.reset()
    pettingzoo = parallel_env(episode_length=20, units=1)
    generator = np.random.default_rng(0)
    turns, rows = [], []
    for _ in range(20):
        actions = generator.integers(8, size=4)
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
        chosen = {"ALICE": units(actions[0]), "BOB": units(actions[2])}
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
        lanes.step(np.zeros(3, dtype=np.int64))
    assert lanes.num_envs == 3 and calls
    with pytest.raises(HomeostasisError, match="must take each of ALICE, BOB once, got ALICE and none"):
        SeatsVecEnv(GRAPH, 3, ["ALICE"])


@pytest.mark.parametrize("mode", MODES)
def test_trained_seats_are_kept_and_play_in_the_pettingzoo_environment(mode, tmp_path):
    trained, again = (train_seats(GRAPH, mode, steps=120, rounds=2, settings=SMALL) for _ in range(2))
    policies = trained.policies
    assert {k: v.sha256 for k, v in policies.items()} == {k: v.sha256 for k, v in again.policies.items()}
    assert (policies["ALICE"].sha256 == policies["BOB"].sha256) is (mode != "independent")
    trained.save(tmp_path)
    loaded = load_seats(tmp_path)
    assert {k: v.sha256 for k, v in loaded.items()} == {k: v.sha256 for k, v in policies.items()}
    assert loaded["BOB"].spec.to_dict() == trained.spec.to_dict() and loaded["BOB"].notes["mode"] == mode
    env = parallel_env(episode_length=20, units=1)
    agents = {
        "ALICE": seat_agent(tmp_path / "ALICE.zip", env.task("ALICE")),
        "BOB": make_agent(f"sb3:{tmp_path / 'BOB.zip'}", env.task("BOB")),
    }
    noise = unseen_noise(GRAPH, 2)
    together = simulate(GRAPH, seats_policy(GRAPH, policies), noise)
    played = play(env, agents, seed=0, options={"noise": noise[0]})
    counted = np.where(played["ALICE"].counted[:, np.newaxis], played["ALICE"].actions, played["BOB"].actions)
    mask = played["ALICE"].counted | played["BOB"].counted
    assert np.array_equal(counted[mask], together.actions[0][mask])


def test_a_seat_is_refused_where_it_was_not_trained_for(tmp_path):
    graph = ValueGraph(
        episode_length=20, max_consumption=1, target=(9.0, 11.0), settings={"between:Power->Power": 0}
    )
    train_seats(graph, "shared", steps=20, settings=SMALL).save(tmp_path)
    assert load_seats(tmp_path)["ALICE"].spec.env_kwargs["target"] == [9.0, 11.0]
    file = tmp_path / "ALICE.zip"
    with pytest.raises(HomeostasisError, match="was trained with `units` 1 and Power"):
        seat_agent(file, parallel_env().task("ALICE"))
    helper = Task.from_env(gym.make("Homeostasis-ValueGraph-v0", max_consumption=1))
    with pytest.raises(HomeostasisError, match="plays value_graph_v0 only"):
        seat_agent(file, helper)
    with pytest.raises(HomeostasisError, match="is a trained seat of value_graph_v0; the task is Homeost"):
        make_agent(f"sb3:{file}", helper)
    with pytest.raises(HomeostasisError, match="must hold the files of trained seats"):
        load_seats(tmp_path / "elsewhere")


@pytest.mark.filterwarnings("ignore::homeostasis_agents.sb3.policy.UntrustedFileWarning")
@pytest.mark.parametrize("actions", ["multidiscrete", "discrete", "box"])
def test_a_helper_is_refused_where_a_correction_has_other_units(actions, tmp_path):
    env_id, one = "Homeostasis-ValueGraph-v0", {"max_consumption": 1, "episode_length": 10}
    arguments = {"n_steps": 10, "batch_size": 20, "n_epochs": 1}
    spec = make_spec(
        "PPO", env_id, env_kwargs=one, steps=20, envs=2, net_arch=[4], actions=actions, arguments=arguments
    )
    ours, foreign = tmp_path / "ours.zip", tmp_path / "foreign.zip"
    save_policy(ours, train(spec), spec)
    plain = gym.make(env_id, scalarization="linear", actions=actions, **one)
    PPO("MlpPolicy", plain, n_steps=16, batch_size=16, device="cpu").save(foreign)
    message = (
        r"trained with max_consumption=1, but .* has 10: .* 0\.1 times .*; make the .* max_consumption=1"
    )
    for path in (ours, foreign):
        assert make_agent(f"sb3:{path}", Task.from_env(gym.make(env_id, **one)))
        for limit in (10, None):
            other = gym.make(env_id, **{**one, "max_consumption": limit})
            with pytest.raises(HomeostasisError, match=message):
                make_agent(f"sb3:{path}", Task.from_env(other))


@pytest.mark.filterwarnings("ignore::homeostasis_agents.sb3.policy.UntrustedFileWarning")
def test_no_limit_counts_as_ten_units(tmp_path):
    env_id = "Homeostasis-ValueGraph-v0"
    env = gym.make(env_id, scalarization="linear", max_consumption=None, actions="box")
    PPO("MlpPolicy", env, n_steps=16, batch_size=16, device="cpu").save(tmp_path / "foreign.zip")
    assert make_agent(f"sb3:{tmp_path / 'foreign.zip'}", Task.from_env(gym.make(env_id)))


def test_learning_rate_and_entropy_bonus_fall_over_all_rounds():
    model = train_seats(GRAPH, "self-play", steps=120, rounds=2, settings=SMALL).models["ALICE"]
    # Of 120 steps the last rollout begins after 100.
    assert model.policy.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 / 6)
    assert model.ent_coef == 0.0


def test_units_that_can_be_shared_out_in_too_many_ways_are_refused():
    with pytest.raises(HomeostasisError, match="at most 4096 ways to share out the units, got 59049"):
        train_seats(ValueGraph(preset="circumplex", max_consumption=2), "shared", steps=10)


def test_a_short_training_keeps_whole_what_chance_does_not():
    graph = ValueGraph(episode_length=100, rate=0.05, max_step=0.3, max_consumption=1)
    trained = train_seats(graph, "shared", steps=64_000, settings={"learning_rate": 3e-3})
    noise = unseen_noise(graph, 20)
    generator = np.random.default_rng(0)

    def at_random(states, step):
        return np.eye(3, dtype=np.int64)[generator.integers(3, size=len(states))]

    def whole(policy):
        return (collapsed_agents(graph, policy, noise) == 0).sum()

    assert whole(graph.policies["none"]) == whole(at_random) == 0
    assert whole(seats_policy(graph, trained.policies)) >= 15


def test_an_unknown_mode_is_named():
    with pytest.raises(HomeostasisError, match="`mode` must be one of shared, independent, self-play"):
        train_seats(GRAPH, "telepathy", steps=10)


def test_collapse_is_a_level_held_below_zero():
    levels = np.ones((2, 30, 2, 3))
    levels[0, 3:23, 1, 2] = -1.0
    levels[1, 3:22, 1, 2] = -1.0
    assert count_collapsed(levels, hold=20).tolist() == [1, 0]
    graph = ValueGraph(episode_length=1000, rate=0.05)
    noise = unseen_noise(graph, 3)
    still = collapsed_agents(graph, lambda states, step: np.zeros((len(states), 3), np.int64), noise)
    assert still.tolist() == [2, 2, 2]


def test_the_helper_is_an_environment_like_any_other():
    env = gym.make("Homeostasis-ValueGraph-v0", scalarization="linear", episode_length=5)
    env.reset(seed=0)
    assert np.isfinite(env.step(env.action_space.sample())[1])
