import json
import random

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
pytest.importorskip("filelock")

import torch
from homeostasis_agents.sb3.evaluation import BestPolicy, play, quality, training_return, unseen_noise
from homeostasis_agents.sb3.policy import load_policy, policy_of, weights_hash
from homeostasis_agents.sb3.run import TrainingRun
from homeostasis_agents.sb3.spec import ALGORITHMS, TrainingSpec, make_spec, settings_for
from homeostasis_agents.sb3.training import Checkpoint, make_vec_env, train
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor

from homeostasis_gym.errors import HomeostasisError, UnknownNameError

MOHON = "Homeostasis-MOHoN-v0"
ARGUMENTS = {
    "PPO": {"n_steps": 10, "batch_size": 40, "n_epochs": 2},
    "A2C": {"n_steps": 5},
    "DQN": {"learning_starts": 40, "buffer_size": 400, "batch_size": 16, "target_update_interval": 60},
    "SAC": {"learning_starts": 40, "buffer_size": 400, "batch_size": 16},
    "RecurrentPPO": {"n_steps": 10, "batch_size": 40, "n_epochs": 2},
}


def tiny(algorithm="PPO", **changes):
    settings = {"env_id": MOHON, "steps": 240, "envs": 4, "net_arch": [8], "segments": 3, **changes}
    return make_spec(
        algorithm,
        settings.pop("env_id"),
        env_kwargs=settings.pop("env_kwargs", {}),
        scalarization=settings.pop("scalarization", "linear"),
        seed=settings.pop("seed", 0),
        arguments=ARGUMENTS[algorithm],
        **settings,
    )


class Interrupted(Exception):
    pass


def stop_after(steps):
    def on_segment(model, done):
        # Called before the checkpoint of this segment: what is kept is the one before.
        if done >= steps:
            raise Interrupted

    return on_segment


@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_the_same_seed_gives_the_same_weights_and_a_resumed_training_does_too(algorithm, tmp_path):
    if algorithm == "RecurrentPPO":
        pytest.importorskip("sb3_contrib")
    spec = tiny(algorithm)
    whole = weights_hash(train(spec).policy)
    assert weights_hash(train(spec).policy) == whole
    assert weights_hash(train(tiny(algorithm, seed=1)).policy) != whole
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    with pytest.raises(Interrupted):
        train(spec, checkpoint=checkpoint, on_segment=stop_after(160))
    assert 0 < checkpoint.steps < 160
    assert weights_hash(train(spec, checkpoint=checkpoint).policy) == whole


def test_training_leaves_global_state_alone():
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    threads = torch.get_num_threads()
    train(tiny())
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    assert before == after
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_progress_goes_from_nothing_to_one():
    told = []
    train(tiny(), progress=told.append)
    assert told[0] == 0.0 and told[-1] == 1.0 and told == sorted(told)


def test_the_entropy_coefficient_falls_to_its_final_value():
    model = train(tiny(final_entropy=0.001))
    assert model.ent_coef == pytest.approx(0.001)


@pytest.mark.parametrize("scalarization", ["log", "sfella", "min", "chebyshev", "drive-reduction"])
def test_every_scalarisation_can_be_trained(scalarization):
    limit = {"component_limit": 50.0} if scalarization == "log" else {}
    spec = tiny(scalarization=scalarization, steps=80, **limit)
    assert spec.component_limit == limit.get("component_limit")
    model = train(spec)
    benchmark = make_vec_env(spec, 1).env.benchmark
    played = play(policy_of(model, spec), benchmark, unseen_noise(benchmark, 3))
    assert np.isfinite(training_return(played, spec, benchmark))


def test_training_return_is_what_the_environment_pays():
    spec = tiny(scalarization="drive-reduction", steps=40, reward_scale=1.0)
    model = train(spec)
    benchmark = make_vec_env(spec, 1).env.benchmark
    noise = unseen_noise(benchmark, 2)
    expected = training_return(play(policy_of(model, spec), benchmark, noise), spec, benchmark)
    env = make_vec_env(spec, 2)
    env.set_options([{"noise": path} for path in noise])
    observation, total = env.reset(), np.zeros(2)
    for _ in range(benchmark.episode_length):
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, _, _ = env.step(action)
        total += reward
    assert total.mean() == pytest.approx(expected, rel=1e-4)


def test_the_best_segment_is_kept():
    spec = tiny()
    best = BestPolicy(spec, episodes=3)
    found = []

    def watch(model, steps):
        best(model, steps)
        found.append((best.best, weights_hash(model.policy)))

    model = train(spec, on_segment=watch)
    returns = [value for value, _ in found]
    assert returns == sorted(returns)
    best.put_into(model)
    assert weights_hash(model.policy) in [digest for _, digest in found]


def test_unseen_noise_is_fixed_and_sets_differ():
    benchmark = make_vec_env(tiny(), 1).env.benchmark
    assert np.array_equal(unseen_noise(benchmark, 4), unseen_noise(benchmark, 4))
    assert not np.array_equal(unseen_noise(benchmark, 4), unseen_noise(benchmark, 4, seed=1))
    assert unseen_noise(benchmark, 4).shape == (4, 100, 2)


def test_a_batch_of_episodes_is_played_as_one_by_one():
    spec = tiny()
    model = train(spec)
    benchmark = make_vec_env(spec, 1).env.benchmark
    noise = unseen_noise(benchmark, 3)
    together = play(policy_of(model, spec), benchmark, noise)
    alone = [play(policy_of(model, spec), benchmark, noise[k : k + 1])[0] for k in range(3)]
    for a, b in zip(together, alone, strict=True):
        assert np.array_equal(a.actions, b.actions) and np.array_equal(a.rewards, b.rewards)
    assert np.isfinite(quality(together).regret)


def test_sb3_evaluate_policy_works_on_our_vec_env():
    spec = tiny()
    env = VecMonitor(make_vec_env(spec, 2, reward_scale=1.0))
    env.seed(0)
    mean, _ = evaluate_policy(train(spec), env, n_eval_episodes=4)
    assert np.isfinite(mean)


@pytest.mark.parametrize("env_id", ["Single", "MOHoN", "MOBUO", "MOBUON", "Sustainability", "SleepWake"])
@pytest.mark.filterwarnings("ignore:Evaluation environment is not wrapped")
@pytest.mark.filterwarnings("ignore:You are trying to run PPO on the GPU")
def test_stock_sb3_trains_on_the_scalar_environment(env_id):
    env = gym.make(f"Homeostasis-{env_id}-v0", scalarization="linear")
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, device="cpu").learn(32)
    mean, _ = evaluate_policy(model, env, n_eval_episodes=1)
    assert np.isfinite(mean)


def test_a_run_is_kept_resumed_and_not_repeated(tmp_path, monkeypatch):
    spec = tiny()
    whole = TrainingRun(tmp_path / "whole", spec, episodes=2).run()
    assert whole["evaluations"][0]["steps"] == 0
    calls = []
    real = TrainingRun._train
    monkeypatch.setattr(TrainingRun, "_train", lambda *a: calls.append(1) or real(*a))
    again = TrainingRun(tmp_path / "whole", spec, episodes=2).run()
    assert again == {**whole, "finished_before": True} and not calls
    assert whole["finished_before"] is False

    import homeostasis_agents.sb3.run as module

    cut = TrainingRun(tmp_path / "cut", spec, episodes=2)
    played = module.play
    count = iter(range(100))

    def die(*args, **kwargs):
        if next(count) == 2:
            raise Interrupted
        return played(*args, **kwargs)

    monkeypatch.setattr(module, "play", die)
    with pytest.raises(Interrupted):
        cut.run()
    monkeypatch.setattr(module, "play", played)
    resumed = cut.run()

    def timeless(result):
        timed = ("seconds", "cpu_seconds")
        return [{k: v for k, v in line.items() if k not in timed} for line in result["evaluations"]]

    assert timeless(resumed) == timeless(whole)
    first, second = load_policy(tmp_path / "whole/policy.zip"), load_policy(tmp_path / "cut/policy.zip")
    assert first.sha256 == second.sha256
    assert load_policy(tmp_path / "cut/best.zip").sha256 == load_policy(tmp_path / "whole/best.zip").sha256
    assert not (tmp_path / "cut/checkpoint").exists()


def test_a_folder_holds_one_training(tmp_path):
    TrainingRun(tmp_path, tiny(steps=40), episodes=1).run()
    with pytest.raises(
        HomeostasisError, match=r"holds another training, which differs in seed \(0 there, 3 here\); name"
    ):
        TrainingRun(tmp_path, tiny(steps=40, seed=3), episodes=1).run()
    (tmp_path / "training.json").unlink()
    with pytest.raises(HomeostasisError, match=r"holds a policy.zip of an unknown training"):
        TrainingRun(tmp_path, tiny(steps=40), episodes=1).run()


def test_settings_hold_every_algorithm_and_are_complete():
    for algorithm in ALGORITHMS:
        for env in ("Homeostasis-MOHoN-v0", "Homeostasis-MOBUO-v0"):
            spec = make_spec(algorithm, env)
            assert spec.tuned_by
            assert json.loads(json.dumps(spec.to_dict())) == spec.to_dict()
            assert TrainingSpec.from_dict(spec.to_dict()) == spec


def test_wrong_settings_are_named():
    with pytest.raises(UnknownNameError, match="`algorithm` must be one of PPO"):
        settings_for("TRPO", MOHON)
    with pytest.raises(HomeostasisError, match="`steps` must be an integer of at least 1, got 0"):
        tiny(steps=0)
    with pytest.raises(HomeostasisError, match=r"`training settings`.*nonsense"):
        tiny(nonsense=1)
    for env_id in ("Homeostasis-Nowhere-v0", "CartPole-v1", "Blackjack-v1"):
        with pytest.raises(
            UnknownNameError, match=f"`env_id` must be one of Homeostasis-Single-v0, .*, got '{env_id}'"
        ):
            train(tiny(env_id=env_id))
    with pytest.raises(
        HomeostasisError, match=r"`env_kwargs` .* must be among .*objectives, .*, got 'nonsense'"
    ):
        train(tiny(env_kwargs={"nonsense": 1}))
    spec = TrainingSpec.from_dict({**tiny().to_dict(), "arguments": {"nonsense": 1}})
    with pytest.raises(
        HomeostasisError, match=r"`arguments` of PPO must be among n_steps, .*, got 'nonsense'"
    ):
        train(spec)


def test_the_digest_depends_on_what_decides_the_weights():
    spec = tiny()
    assert tiny().digest == spec.digest
    assert tiny(seed=1).digest != spec.digest
    renamed = TrainingSpec.from_dict({**spec.to_dict(), "tuned_by": "someone else"})
    assert renamed.digest == spec.digest


def test_grid_tells_neighbouring_levels_apart_and_holds_back_what_is_far_out():
    from homeostasis_agents.sb3.networks import Grid

    grid = Grid(gym.spaces.Box(-np.inf, np.inf, (2,), np.float32), low=-1.0, high=1.0, points=5)
    seen = grid(torch.tensor([[0.0, 0.25], [100.0, -0.5]])).numpy()
    assert seen.shape == (2, grid.features_dim) == (2, 12)
    assert np.allclose(seen[0], [0, np.log(1.25), 0, 0, 1, 0, 0, 0, 0, 0.5, 0.5, 0])
    assert np.allclose(seen[1], [np.log(101), -np.log(1.5), 0, 0, 0, 0, 1, 0, 1, 0, 0, 0])


def test_settings_choose_the_action_space_and_leave_the_rest_to_the_algorithm():
    joint = make_spec("PPO", "Homeostasis-MOBUON-v0")
    assert joint.actions == "discrete"
    assert make_vec_env(joint, 2).action_space == gym.spaces.Discrete(121)
    plain = make_spec("PPO", MOHON)
    assert make_vec_env(plain, 2).action_space == gym.spaces.MultiDiscrete([11, 11])


def test_a_training_that_cannot_begin_leaves_its_folder_free(tmp_path):
    with pytest.raises(HomeostasisError, match="nonsense"):
        TrainingRun(tmp_path / "run", tiny(scalarization="nonsense"), episodes=2).run()
    assert not (tmp_path / "run").exists()
    assert TrainingRun(tmp_path / "run", tiny(), episodes=2).run()["evaluations"]


def test_the_best_is_measured_without_the_cut_of_components_and_the_factor():
    plain = tiny()
    cut = tiny(component_limit=1.0, component_leak=0.0, reward_scale=0.01)
    env = make_vec_env(plain, 1).env
    noise = unseen_noise(env.benchmark, 3)
    played = play(policy_of(train(plain), plain), env.benchmark, noise)
    whole = np.mean([t.rewards.sum() for t in played])
    for spec in (plain, cut):
        assert np.isclose(training_return(played, spec, env.benchmark), whole)
