"""ALICE and BOB in PettingZoo: the conformance tests of others, and our own on whole trajectories."""

import warnings

import gymnasium as gym
import numpy as np
import pytest

from homeostasis_gym.agent import Decision
from homeostasis_gym.core import schedules
from homeostasis_gym.core.value_graph import reference, simulate
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.multiagent import value_graph_v0
from homeostasis_gym.multiagent.play import play

with warnings.catch_warnings():
    # PettingZoo's tests import an environment of PettingZoo's in a way that it deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, seed_test

# The conformance tests also give advice, as warnings: names like player_0, finite bounds.
advice = pytest.mark.filterwarnings("ignore::UserWarning")


def whole_run(seed, **arguments):
    """Everything that an episode under random actions returns."""
    env = value_graph_v0.parallel_env(episode_length=60, **arguments)
    generator = np.random.default_rng(5)
    out = [env.reset(seed=seed)]
    while env.agents:
        actions = {name: generator.integers(0, 6, 3) for name in env.agents}
        out.append(env.step(actions))
    return out


def same(one, other):
    """Equal in every entry, arrays included."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return np.array_equal(one, other)


@advice
def test_pettingzoos_parallel_tests():
    parallel_api_test(value_graph_v0.parallel_env(episode_length=20), 50)
    parallel_seed_test(lambda: value_graph_v0.parallel_env(episode_length=20), 10)


@advice
def test_pettingzoos_aec_tests_with_scalar_rewards():
    # PettingZoo's own test compares rewards as plain numbers.
    api_test(value_graph_v0.env(episode_length=20, scalarization="linear"), 50)
    seed_test(lambda: value_graph_v0.env(episode_length=20, scalarization="linear"), 10)


@advice
def test_momalands_tests_with_vector_rewards():
    momaland = pytest.importorskip("momaland.test", reason="momaland is not installed")
    from momaland.utils.conversions import mo_parallel_to_aec

    momaland.api_test(value_graph_v0.env(episode_length=20), 50)
    momaland.api_test(mo_parallel_to_aec(value_graph_v0.parallel_env(episode_length=20)), 50)


@pytest.mark.parametrize("noise", ["gymnasium", "bioblue"])
def test_whole_trajectories_repeat(noise):
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = whole_run(3, noise=noise)
    assert same(first, whole_run(3, noise=noise))
    assert not same(first, whole_run(4, noise=noise))
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_a_second_episode_goes_on_with_the_generator():
    env = value_graph_v0.parallel_env(episode_length=60)
    env.reset(seed=3)
    first = env.reset()
    path = env._path.copy()
    env.reset(seed=3)
    env.reset(options={"noise": np.zeros((60, 1))})
    assert not env._path.any()
    env.reset(seed=3)
    assert same(first, env.reset())
    np.testing.assert_array_equal(env._path, path)


def test_nothing_that_was_handed_out_changes_later():
    env = value_graph_v0.parallel_env(episode_length=10)
    observations, _ = env.reset(seed=0)
    kept = {name: array.copy() for name, array in observations.items()}
    _, rewards, _, _, infos = env.step({name: np.array([10, 0, 0]) for name in env.agents})
    copies = {name: array.copy() for name, array in rewards.items()}
    noise = infos["ALICE"]["noise"].copy()
    env.step({name: np.array([0, 10, 0]) for name in env.agents})
    assert same(observations, kept)
    assert same(rewards, copies)
    np.testing.assert_array_equal(infos["ALICE"]["noise"], noise)


@pytest.mark.parametrize("strategy", ["homeostatic", "falling"])
def test_rules_in_both_seats_play_the_simulation(strategy):
    length = 400
    env = value_graph_v0.parallel_env(episode_length=length, noise="bioblue")
    seats = dict.fromkeys(("ALICE", "BOB"), f"rule:{strategy}")
    records = play(env, seats, seed=0)
    run = simulate(reference(rebalancing=strategy), schedules.random(0, length), seeds=0)
    # The correction of step t is made at the beginning of the environment's step t + 1.
    assert records["ALICE"].counted.sum() == np.count_nonzero(run.who[:-1] == 0)
    levels = records["ALICE"].observations[:, :6].reshape(-1, 2, 3)
    utilities = records["ALICE"].observations[1:, 6:12].reshape(-1, 2, 3)
    before = run.values.copy()
    steps = np.arange(length)
    before[steps, run.who] -= run.amounts
    np.testing.assert_allclose(levels[1:], before, rtol=1e-8)
    np.testing.assert_allclose(utilities, run.utilities, rtol=1e-8)
    np.testing.assert_allclose(records["BOB"].rewards, run.utilities[:, 1].astype(np.float32), rtol=1e-5)


def test_every_seat_sees_itself_first():
    env = value_graph_v0.parallel_env(episode_length=30)
    observations, infos = env.reset(seed=1)
    assert not infos["ALICE"]["your_turn"] and not infos["BOB"]["your_turn"]
    for _ in range(20):
        observations, _, _, _, infos = env.step({name: np.array([7, 2, 1]) for name in env.agents})
        alice, bob = observations["ALICE"], observations["BOB"]
        for part in range(3):
            own, other = alice[6 * part : 6 * part + 3], alice[6 * part + 3 : 6 * part + 6]
            np.testing.assert_array_equal(bob[6 * part : 6 * part + 3], other)
            np.testing.assert_array_equal(bob[6 * part + 3 : 6 * part + 6], own)
        assert {alice[-2], bob[-2]} == {0.0, 1.0}
        for name in ("ALICE", "BOB"):
            assert infos[name]["your_turn"] == (observations[name][-2] == 0)
            assert infos[name]["your_turn"] == (env.turn == name)


def test_only_the_choice_of_whose_turn_it_is_counts():
    def run(choice_of_bob):
        env = value_graph_v0.parallel_env(schedule="blocks", episode_length=12)
        env.reset(seed=0)
        counted = []
        for _ in range(8):  # the first ten turns are ALICE's
            _, _, _, _, infos = env.step({"ALICE": np.array([5, 0, 0]), "BOB": choice_of_bob})
            counted.append((infos["ALICE"]["counted"], infos["BOB"]["counted"]))
        return env.state(), counted

    quiet, counted = run(np.array([0, 0, 0]))
    loud, _ = run(np.array([0, 10, 0]))
    np.testing.assert_array_equal(quiet, loud)
    assert counted == [(False, False)] + [(True, False)] * 7


def test_too_many_units_waste_the_turn():
    def run(choice):
        env = value_graph_v0.parallel_env(schedule="alternating", episode_length=12)
        env.reset(seed=0)
        for _ in range(2):
            _, _, _, _, infos = env.step({"ALICE": choice, "BOB": np.zeros(3, dtype=int)})
        return env.state(), infos["ALICE"]

    nothing, _ = run(np.array([0, 0, 0]))
    state, info = run(np.array([6, 5, 0]))
    np.testing.assert_array_equal(state, nothing)
    assert info["invalid_action"] and not info["counted"]
    state, info = run(np.array([5, 5, 0]))
    assert not info["invalid_action"] and info["counted"]
    assert not np.array_equal(state, nothing)


def test_units_are_shares_of_the_largest_correction():
    env = value_graph_v0.parallel_env(schedule="alternating", rate=0.0, units=4, episode_length=5)
    env.reset(seed=0)
    env.step({name: np.zeros(3, dtype=int) for name in env.agents})
    observations, *_ = env.step({"ALICE": np.array([1, 3, 0]), "BOB": np.array([4, 0, 0])})
    np.testing.assert_allclose(observations["ALICE"][:6], [1.025, 1.075, 1, 1, 1, 1], atol=1e-12)


def test_rewards_lie_in_their_space_and_are_the_own_utilities():
    env = value_graph_v0.parallel_env(episode_length=40, utility="squared_homeostasis")
    env.reset(seed=0)
    while env.agents:
        names = list(env.agents)
        observations, rewards, _, _, _ = env.step({name: env.action_space(name).sample() for name in names})
        for name in names:
            assert env.reward_space(name).contains(rewards[name])
            assert env.observation_space(name).contains(observations[name])
            np.testing.assert_array_equal(rewards[name], observations[name][6:9].astype(np.float32))
    assert env.reward_space("ALICE").high.max() == 0.0
    assert env.reward_space("ALICE") is env.reward_space("ALICE")


def test_a_run_may_mix_kinds():
    env = value_graph_v0.parallel_env(episode_length=300, noise="bioblue", rate=0.03)
    records = play(env, {"ALICE": "rule:homeostatic", "BOB": "random"}, seed=2)
    assert records["ALICE"].valid.all() and records["BOB"].valid.all()
    assert records["ALICE"].actions.sum(axis=1).max() == 10
    assert not same(records["ALICE"].actions, records["BOB"].actions)
    again = play(env, {"ALICE": "rule:homeostatic", "BOB": "random"}, seed=2)
    np.testing.assert_array_equal(records["BOB"].actions, again["BOB"].actions)


def test_no_decision_is_nothing_done():
    class Mute:
        def reset(self, seed):
            self.infos = []

        def act(self, observation, info):
            self.infos.append(info)
            return Decision(None)

    mute = Mute()
    env = value_graph_v0.parallel_env(episode_length=10, schedule="alternating")
    records = play(env, {"ALICE": mute, "BOB": "rule:boosting"}, seed=0)
    assert not records["ALICE"].valid.any()
    assert not records["ALICE"].actions.any()
    assert "last_reward" not in mute.infos[0]
    np.testing.assert_array_equal(mute.infos[1]["last_reward"], records["ALICE"].rewards[0])


def test_several_agents_and_ten_values():
    env = value_graph_v0.parallel_env(preset="circumplex", episode_length=5)
    observations, _ = env.reset(seed=0)
    assert observations["BOB"].shape == (62,)
    assert env.action_space("BOB").shape == (10,)


def test_aec_and_parallel_are_the_same_environment():
    parallel = value_graph_v0.parallel_env(episode_length=15)
    aec = value_graph_v0.env(episode_length=15)
    parallel.reset(seed=9)
    aec.reset(seed=9)
    generator = np.random.default_rng(0)
    for _ in range(15):
        actions = {name: generator.integers(0, 4, 3) for name in parallel.agents}
        observations, rewards, *_ = parallel.step(actions)
        for name in ("ALICE", "BOB"):
            assert aec.agent_selection == name
            aec.step(actions[name])
        for name in ("ALICE", "BOB"):
            np.testing.assert_array_equal(aec.observe(name), observations[name])
            np.testing.assert_array_equal(aec.rewards[name], rewards[name])
    assert aec.truncations["ALICE"]


def test_text_shows_levels_and_turn():
    env = value_graph_v0.parallel_env(episode_length=5, render_mode="ansi", schedule="alternating")
    env.reset(seed=0)
    assert "step 0, turn: nobody" in env.render()
    env.step({name: np.zeros(3, dtype=int) for name in env.agents})
    assert "step 1, turn: ALICE\nALICE: Power 0.974, Self-direction 1.000" in env.render()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise": "loud"}, "`noise` must be one of gymnasium, bioblue, got 'loud'"),
        ({"render_mode": "human"}, "`render_mode` must be None or 'ansi', got 'human'"),
        ({"schedule": "equal_totals"}, "`schedule` must be one of random, alternating"),
        ({"preset": "book"}, "`preset` must be one of reference"),
        ({"units": 0}, "`max_consumption` must be an integer of at least 1"),
        ({"rate": -1.0}, r"`rate` must be at least 0, got -1\.0"),
    ],
)
def test_arguments_that_are_refused(arguments, message):
    with pytest.raises(HomeostasisError, match=message):
        value_graph_v0.parallel_env(**arguments)


def test_actions_that_are_refused_change_nothing():
    env = value_graph_v0.parallel_env(episode_length=5, schedule="alternating")
    env.reset(seed=0)
    zeros = np.zeros(3, dtype=int)
    env.step({"ALICE": zeros, "BOB": zeros})
    before = env.state()
    with pytest.raises(HomeostasisError, match=r"`action` must be counts of units in \[0, 10\]"):
        env.step({"ALICE": np.array([11, 0, 0]), "BOB": zeros})
    with pytest.raises(HomeostasisError, match="`actions` must hold a choice of BOB"):
        env.step({"ALICE": zeros})
    with pytest.raises(HomeostasisError, match=r"`actions` of ALICE must have shape \(3,\), got \(2,\)"):
        env.step({"ALICE": np.zeros(2, dtype=int), "BOB": zeros})
    np.testing.assert_array_equal(env.state(), before)
    with pytest.raises(HomeostasisError, match="`noise` must hold numbers of agents"):
        value_graph_v0.parallel_env(episode_length=5).reset(options={"noise": np.full((5, 1), 7.0)})
    with pytest.raises(HomeostasisError, match="`agents` must name ALICE, BOB, got ALICE"):
        play(env, {"ALICE": "no-op"}, seed=0)


def test_calls_before_a_reset_and_of_nobody_are_refused():
    env = value_graph_v0.parallel_env(episode_length=5)
    with pytest.raises(HomeostasisError, match="`step` was called while no episode is running"):
        env.step({})
    env.reset(seed=0)
    idle = {name: np.zeros(3, dtype=np.int64) for name in env.agents}
    with pytest.raises(HomeostasisError, match="`actions` must hold choices of ALICE, BOB, got EVE"):
        env.step({**idle, "EVE": idle["BOB"]})
    turns = value_graph_v0.env(episode_length=5)
    with pytest.raises(HomeostasisError, match="`last` was called while no episode is running"):
        turns.last()
    with pytest.raises(HomeostasisError, match="`step` was called while no episode is running"):
        turns.step(idle["BOB"])


def test_the_preset_brings_its_schedule_and_settings_reach_the_graph():
    env = value_graph_v0.parallel_env(preset="article", episode_length=6)
    assert env.benchmark.schedule == "alternating"
    assert value_graph_v0.parallel_env(preset="article", schedule="random").benchmark.schedule == "random"
    settings = {"decay_rate": 0.02, "incentive:BOB:Power": 0.1, "schedule.length": 2}
    env = value_graph_v0.parallel_env(
        decay="multiplicative", schedule="blocks", settings=settings, episode_length=6
    )
    assert env.benchmark.turns.tolist() == [0, 0, 1, 1, 0, 0]
    assert env.benchmark.graph.decay_rate == 0.02
    assert env.seats["BOB"].graph.incentive[1][0] == 0.1
    for wrong, message in (
        ({"noise": 0.1}, "`settings` cannot hold noise"),
        ({"schedule.share": 0.1}, "schedule random has no parameter share"),
        ({"speed": 1}, "parameter must be one of"),
        (3, "`settings` must map names to numbers, got 3"),
    ):
        with pytest.raises(HomeostasisError, match=message):
            value_graph_v0.parallel_env(settings=wrong)


def test_a_trained_policy_takes_a_seat_by_name(tmp_path):
    pytest.importorskip("homeostasis_agents.sb3")
    sb3 = pytest.importorskip("stable_baselines3")
    env = value_graph_v0.parallel_env(episode_length=10)

    class Seat(gym.Env):
        observation_space = env.observation_space("BOB")
        action_space = env.action_space("BOB")

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.ones(20), {}

        def step(self, action):
            return np.ones(20), 0.0, False, False, {}

    settings = {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "policy_kwargs": {"net_arch": [4]}}
    sb3.PPO("MlpPolicy", Seat(), device="cpu", **settings).learn(8).save(tmp_path / "bob.zip")
    with pytest.warns(UserWarning, match="was not written by homeostasis-gym"):
        records = play(env, {"ALICE": "rule:homeostatic", "BOB": f"sb3:{tmp_path / 'bob.zip'}"}, seed=0)
    assert records["BOB"].valid.all()
    assert records["BOB"].actions.shape == (10, 3)
