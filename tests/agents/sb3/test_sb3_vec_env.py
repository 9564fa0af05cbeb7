import dataclasses

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from homeostasis_agents.sb3.vec_env import HomeostasisVecEnv
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

import homeostasis_gym  # noqa: F401
from homeostasis_gym.core.benchmark import simulate
from homeostasis_gym.core.utility import SCALARIZATIONS
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.registration import ENVIRONMENTS

WITH_SET_POINTS = [f"Homeostasis-{name}-v0" for name in ("Single", "MOHoN", "SleepWake")]
ENVS = [
    "Homeostasis-Single-v0",
    "Homeostasis-MOHoN-v0",
    "Homeostasis-MOBUO-v0",
    "Homeostasis-MOBUON-v0",
    "Homeostasis-Sustainability-v0",
    "Homeostasis-SleepWake-v0",
]


def native(env_id="Homeostasis-MOHoN-v0", num_envs=3, **kwargs):
    settings = {"scalarization": "linear", "autoreset_mode": "SameStep", **kwargs}
    return gym.make_vec(
        env_id, num_envs=num_envs, vectorization_mode="vector_entry_point", **settings
    ).unwrapped


def play(env, steps, seed=7, least=0):
    env.seed(seed)
    rows = [env.reset()]
    generator = np.random.default_rng(0)
    for _ in range(steps):
        high = env.action_space.nvec if hasattr(env.action_space, "nvec") else env.action_space.n
        shape = (env.num_envs, *env.action_space.shape)
        observation, reward, done, infos = env.step(generator.integers(least, high, size=shape))
        rows.append((observation.copy(), reward.copy(), done.copy(), infos))
    return rows


@pytest.mark.parametrize("env_id", ENVS)
def test_the_same_seed_gives_the_same_episodes_in_every_lane(env_id):
    first, second = play(HomeostasisVecEnv(native(env_id)), 30), play(HomeostasisVecEnv(native(env_id)), 30)
    assert np.array_equal(first[0], second[0])
    for (o1, r1, d1, _), (o2, r2, d2, _) in zip(first[1:], second[1:], strict=True):
        assert np.array_equal(o1, o2) and np.array_equal(r1, r2) and np.array_equal(d1, d2)


def test_lane_i_is_seeded_with_seed_plus_i():
    lanes = HomeostasisVecEnv(native(num_envs=3))
    lanes.seed(5)
    lanes.reset()
    single = gym.make("Homeostasis-MOHoN-v0", scalarization="linear")
    single.reset(seed=7)
    action = np.array([2, 3])
    for _ in range(20):
        observation, reward, _, infos = lanes.step(np.tile(action, (3, 1)))
        one, paid, _, _, info = single.step(action)
        assert np.array_equal(observation[2], one)
        assert reward[2] == np.float32(paid)
        assert np.array_equal(infos[2]["vector_reward"], info["vector_reward"])


def test_an_unseeded_reset_goes_on_with_other_noise():
    env = HomeostasisVecEnv(native())
    env.seed(1)
    env.reset()
    first = env.step(np.zeros((3, 2), dtype=np.int64))[0]
    env.reset()
    second = env.step(np.zeros((3, 2), dtype=np.int64))[0]
    assert not np.array_equal(first, second)


def test_the_end_of_an_episode_is_reported_as_the_algorithms_expect():
    env = HomeostasisVecEnv(native(episode_length=4), normalize=True)
    env.seed(0)
    start = env.reset()
    raw = native(episode_length=4)
    raw.reset(seed=[0, 1, 2])
    for step in range(4):
        observation, _, dones, infos = env.step(np.ones((3, 2), dtype=np.int64))
        _, _, _, _, info = raw.step(np.ones((3, 2), dtype=np.int64))
        assert dones.all() == (step == 3)
        if step < 3:
            assert all("terminal_observation" not in i and not i["TimeLimit.truncated"] for i in infos)
    assert np.allclose(observation, start)  # a new episode has begun
    for lane, i in enumerate(infos):
        assert i["TimeLimit.truncated"] is True
        expected = raw.benchmark.normalize(info["final_obs"][lane])
        assert np.allclose(i["terminal_observation"], expected)
        assert np.array_equal(i["vector_reward"], info["final_info"]["vector_reward"][lane])
        assert i["vector_reward"].any()
        assert np.array_equal(i["noise"], info["final_info"]["noise"][lane])


def test_a_terminated_episode_is_not_truncated():
    env = HomeostasisVecEnv(native("Homeostasis-Sustainability-v0", num_envs=2))
    env.seed(0)
    env.reset()
    _, _, dones, infos = env.step(np.array([[10], [1]]))
    assert dones.tolist() == [True, False]
    assert infos[0]["TimeLimit.truncated"] is False
    assert infos[0]["terminal_observation"].tolist() == [0.0]


def test_vec_monitor_counts_what_the_agent_is_paid():
    env = VecMonitor(HomeostasisVecEnv(native(num_envs=2, episode_length=5)))
    rows = play(env, 5)
    total = sum(row[1] for row in rows[1:])
    for lane, info in enumerate(rows[-1][3]):
        assert info["episode"]["l"] == 5
        assert info["episode"]["r"] == pytest.approx(total[lane], rel=1e-5)


@pytest.mark.parametrize("leak", [0.0, 0.1])
def test_reward_is_scaled_and_its_components_cut_but_the_vector_is_not(leak):
    plain = play(HomeostasisVecEnv(native()), 30)
    cut = play(
        HomeostasisVecEnv(
            native(),
            reward_scale=0.1,
            component_limit=20.0,
            component_leak=leak,
            scalarization="linear",
        ),
        30,
    )
    differs = False
    for (_, _, _, infos), (_, reward, _, others) in zip(plain[1:], cut[1:], strict=True):
        vectors = np.stack([i["vector_reward"] for i in infos])
        assert np.array_equal(vectors, np.stack([i["vector_reward"] for i in others]))
        size = np.abs(vectors)
        kept = np.where(size <= 20, size, 20 + leak * (size - 20)) * np.sign(vectors)
        assert np.allclose(reward, 0.1 * kept.sum(axis=1), rtol=1e-6)
        differs |= bool((np.abs(vectors) > 20).any())
    assert differs


def test_noise_can_be_replayed():
    env = HomeostasisVecEnv(native(num_envs=2))
    benchmark = env.env.benchmark
    path = np.arange(200).reshape(100, 2) % 5 - 2.0
    env.set_options({"noise": path})
    env.reset()
    total = sum(
        np.stack([i["vector_reward"] for i in env.step(np.zeros((2, 2), dtype=np.int64))[3]]).sum(axis=1)
        for _ in range(100)
    )
    expected = simulate(benchmark, lambda s, t: np.zeros((len(s), 2), np.int64), path[np.newaxis]).scores
    assert np.allclose(total, expected[0])
    assert env._options == [{}, {}]


def test_attributes_and_methods_answer_for_every_lane():
    env = HomeostasisVecEnv(native())
    assert env.get_attr("reward_dim") == [6, 6, 6]
    assert env.get_attr("action_space", [0]) == [env.action_space]
    assert env.env_is_wrapped(gym.Wrapper) == [False] * 3
    assert env.env_method("render") == [None] * 3
    env.set_attr("name", "x")
    assert env.get_attr("name", 1) == ["x"]
    with pytest.raises(HomeostasisError, match="`indices` must name all 3 lanes"):
        env.env_method("render", indices=[0])
    env.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reward_scale": 0.0}, "`reward_scale` must be finite and above 0, got 0.0"),
        ({"component_limit": -1.0}, "`component_limit` must be finite and above 0, got -1.0"),
        ({"component_leak": 1.5}, "`component_leak` must be from 0 to 1, got 1.5"),
        ({"component_limit": 5.0}, "`scalarization` must be given with `component_limit`, got None"),
    ],
)
def test_wrong_arguments_are_named(settings, message):
    with pytest.raises(HomeostasisError, match=message):
        HomeostasisVecEnv(native(), **settings)


def test_environments_that_do_not_fit_are_refused():
    with pytest.raises(HomeostasisError, match="must be made with autoreset_mode='SameStep', got 'NextStep'"):
        HomeostasisVecEnv(native(autoreset_mode="NextStep"))
    with pytest.raises(HomeostasisError, match="`env` must be a native vector environment"):
        HomeostasisVecEnv(gym.make("Homeostasis-MOHoN-v0"))
    for more in ({}, {"component_limit": 5.0, "scalarization": "linear"}):
        with pytest.raises(HomeostasisError, match="`env` must be made with `scalarization`, got None"):
            HomeostasisVecEnv(native(scalarization=None), **more)


SCALARISED = [
    (env_id, scalarization)
    for env_id in ENVIRONMENTS
    for scalarization in (*SCALARIZATIONS, "drive-reduction")
    if scalarization != "drive-reduction" or env_id in WITH_SET_POINTS
]


@pytest.mark.parametrize(("env_id", "scalarization"), SCALARISED)
@pytest.mark.filterwarnings("ignore:.*symmetric and normalized Box action space.*")
def test_sb3_check_env_passes_on_every_scalarised_environment(env_id, scalarization):
    for actions in (None, "discrete", "box"):
        check_env(gym.make(env_id, scalarization=scalarization, actions=actions).unwrapped)


@pytest.mark.parametrize("env_id", [env_id for env_id in ENVIRONMENTS if env_id not in WITH_SET_POINTS])
def test_drive_reduction_is_refused_where_there_is_no_set_point(env_id):
    with pytest.raises(HomeostasisError, match="'drive-reduction' needs levels with set points"):
        gym.make(env_id, scalarization="drive-reduction")


@pytest.mark.parametrize(("env_id", "scalarization"), SCALARISED)
def test_sb3_evaluate_policy_works_on_every_scalarised_environment(env_id, scalarization):
    env = Monitor(gym.make(env_id, scalarization=scalarization, episode_length=10))
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=16, policy_kwargs={"net_arch": [4]}, device="cpu")
    returns, lengths = evaluate_policy(model, env, n_eval_episodes=2, return_episode_rewards=True)
    assert len(returns) == 2 and np.isfinite(returns).all()
    assert all(1 <= length <= 10 for length in lengths)


def one_by_one(env_id, num_envs=3, **kwargs):
    """Stable-Baselines3's own vector environment over what `gymnasium.make` gives."""
    return DummyVecEnv([lambda: gym.make(env_id, scalarization="linear", **kwargs)] * num_envs)


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_it_equals_the_vector_environment_of_sb3_over_single_environments(env_id):
    # Sustainability ends early where too much is harvested, the others at their last step.
    ours, theirs = HomeostasisVecEnv(native(env_id, episode_length=12)), one_by_one(env_id, episode_length=12)
    greedy = env_id == "Homeostasis-Sustainability-v0"
    rows, expected = play(ours, 40, least=7 * greedy), play(theirs, 40, least=7 * greedy)
    assert np.array_equal(rows[0], expected[0])
    ended = cut = 0
    for (o, r, d, infos), (oo, rr, dd, others) in zip(rows[1:], expected[1:], strict=True):
        assert o.dtype == oo.dtype and r.dtype == rr.dtype and d.dtype == dd.dtype
        assert np.array_equal(o, oo) and np.array_equal(r, rr) and np.array_equal(d, dd)
        for info, other in zip(infos, others, strict=True):
            assert info["TimeLimit.truncated"] == other["TimeLimit.truncated"]
            assert np.array_equal(info["vector_reward"], other["vector_reward"])
            assert ("terminal_observation" in info) == ("terminal_observation" in other)
            if "terminal_observation" in other:
                assert np.array_equal(info["terminal_observation"], other["terminal_observation"])
            cut += info["TimeLimit.truncated"]
        ended += int(d.sum())
    assert ended >= 9
    assert cut < ended if greedy else cut == ended


@pytest.mark.parametrize("env_id", ["Homeostasis-MOHoN-v0", "Homeostasis-SleepWake-v0"])
def test_attributes_are_those_of_every_lane_by_itself(env_id):
    ours, theirs = HomeostasisVecEnv(native(env_id)), one_by_one(env_id)
    play(ours, 5), play(theirs, 5)
    single = theirs.envs[0].unwrapped
    shared = [name for name in vars(single) if not name.startswith("_")]
    assert {"benchmark", "action_space", "reward_names", "scalarization", "render_mode"} <= set(shared)
    for name in [*shared, "metadata", "spec", "np_random_seed"]:
        assert ours.get_attr(name) == theirs.get_attr(name), name
        assert ours.get_attr(name, [2]) == theirs.get_attr(name, [2])
        assert ours.has_attr(name)
    for name in ("state", "noise_path"):
        assert np.array_equal(ours.get_attr(name), theirs.get_attr(name)), name
    states = [
        [generator.bit_generator.state for generator in env.get_attr("np_random")] for env in (ours, theirs)
    ]
    assert states[0] == states[1]
    for name, value in dataclasses.asdict(single.benchmark).items():
        assert ours.get_attr(name) == [value] * 3
    with pytest.raises(AttributeError, match="nonsense"):
        ours.get_attr("nonsense")
    assert not ours.has_attr("nonsense") and not theirs.has_attr("nonsense")


def test_the_observation_space_of_a_lane_is_what_the_learner_sees():
    env = HomeostasisVecEnv(native(), normalize=True)
    assert env.get_attr("observation_space") == [env.observation_space] * 3
