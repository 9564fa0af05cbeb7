import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
import zipfile

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
pytest.importorskip("filelock")

import homeostasis_agents.sb3 as sb3
from homeostasis_agents.sb3 import cache, train_cli
from homeostasis_agents.sb3.policy import (
    PolicyAgent,
    UntrustedFileWarning,
    load_any,
    load_policy,
    save_policy,
)
from homeostasis_agents.sb3.spec import make_spec, spec_for_task
from homeostasis_agents.sb3.training import train
from stable_baselines3 import A2C, DQN, PPO, SAC

from homeostasis_gym.agent import Task, make_agent
from homeostasis_gym.cli import main
from homeostasis_gym.errors import HomeostasisError, MissingExtraError
from homeostasis_gym.rollout import rollout
from homeostasis_gym.wrappers import NormalizedObservation, Scalarized

MOHON = "Homeostasis-MOHoN-v0"
SMALL = {"n_steps": 10, "batch_size": 40, "n_epochs": 1}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOMEOSTASIS_GYM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def quick(monkeypatch):
    """Tiny trainings in place of the real settings."""
    from homeostasis_agents.sb3 import spec

    real = spec.settings_for

    def settings(algorithm, env_id):
        found = real(algorithm, env_id)
        return {**found, "steps": 80, "envs": 4, "net_arch": [8], "segments": 2, "arguments": dict(SMALL)}

    monkeypatch.setattr(spec, "settings_for", settings)


def published(env_id=MOHON, **kwargs):
    return gym.make(env_id, max_consumption=None, **kwargs)


def tiny_spec(algorithm="PPO", env_id=MOHON, **changes):
    return make_spec(
        algorithm, env_id, steps=40, envs=4, net_arch=[8], segments=1, arguments=SMALL, **changes
    )


@pytest.mark.parametrize("env_id", ["Single", "MOHoN", "MOBUO", "MOBUON", "Sustainability", "SleepWake"])
def test_ppo_acts_in_the_published_environment_within_its_own_range(env_id, quick):
    env = published(f"Homeostasis-{env_id}-v0")
    agent = make_agent("ppo", Task.from_env(env))
    trajectory = rollout(env, agent, seed=3)
    assert trajectory.actions.max() <= 10
    assert trajectory.valid.all()
    assert agent.record["training"]["env_kwargs"]["max_consumption"] == 10
    json.dumps(agent.record)


@pytest.mark.parametrize("actions", ["multidiscrete", "discrete", "box"])
def test_ppo_fits_every_shape_of_action(actions, quick):
    env = gym.make(MOHON, actions=actions)
    agent = make_agent("ppo", Task.from_env(env))
    assert len(rollout(env, agent, seed=0)) == 100


def test_ppo_is_trained_once_and_then_taken_from_the_cache(quick, monkeypatch):
    task = Task.from_env(published())
    told = []
    first = make_agent("ppo", task, progress=told.append)
    assert told[-1] == 1.0
    monkeypatch.setattr(cache, "train", None)  # training again would fail
    second = make_agent("ppo", task)
    assert first.policy.sha256 == second.policy.sha256
    assert first.record == second.record
    files = sorted(p.suffix for p in (cache.cache_folder() / "policies").iterdir())
    assert files in ([".zip"], [".lock", ".zip"])


def test_other_settings_are_another_policy(quick):
    task = Task.from_env(published())
    digests = {
        spec_for_task("PPO", task).digest,
        spec_for_task("PPO", task, seed=1).digest,
        spec_for_task("PPO", task, scalarization="min").digest,
        spec_for_task("PPO", Task.from_env(published(objectives=3))).digest,
    }
    assert len(digests) == 4


def _train_in_another_process(spec, folder, started):
    os.environ["HOMEOSTASIS_GYM_CACHE"] = folder
    started.set()
    cache.cached_policy(spec)


def test_a_killed_training_leaves_nothing_that_disturbs(tmp_path):
    spec = make_spec("PPO", MOHON, steps=5_000_000)
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=_train_in_another_process, args=(spec, str(tmp_path / "cache"), started))
    process.start()
    started.wait(60)
    time.sleep(1.0)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    small = tiny_spec()
    policy = cache.cached_policy(small)  # the folder is usable
    assert policy.spec == small
    from filelock import FileLock

    lock = cache.cache_folder() / "policies" / f"PPO-{MOHON}-{spec.digest}.lock"
    with FileLock(lock, timeout=5):
        assert not lock.with_suffix(".zip").exists()


def test_an_unwritable_cache_is_one_clear_error(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("HOMEOSTASIS_GYM_CACHE", str(blocked))
    with pytest.raises(HomeostasisError, match="`HOMEOSTASIS_GYM_CACHE` must be a writable folder"):
        cache.cached_policy(tiny_spec())


def test_the_cache_folder_follows_the_platform(monkeypatch, tmp_path):
    monkeypatch.delenv("HOMEOSTASIS_GYM_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "homeostasis-gym"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache.cache_folder() == tmp_path / "local" / "homeostasis-gym"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache.cache_folder().parts[-3:] == ("Library", "Caches", "homeostasis-gym")


def test_a_missing_extra_is_named_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(MissingExtraError, match=r"Stable-Baselines3 is not installed.*homeostasis-gym\[rl\]"):
        sb3.ppo(Task.from_env(published()))


@pytest.mark.parametrize(
    "error", [OSError("libtorch_cpu.so: cannot open"), ModuleNotFoundError("no typing_x", name="typing_x")]
)
def test_an_installation_that_is_broken_is_told_from_a_missing_one(monkeypatch, error):
    task = Task.from_env(published())

    def broken(name):
        raise error

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(
        HomeostasisError, match="Stable-Baselines3 is installed and cannot be imported"
    ) as found:
        sb3.ppo(task)
    assert not isinstance(found.value, MissingExtraError)


def test_ppo_refuses_an_environment_that_is_not_ours():
    with pytest.raises(HomeostasisError, match="trains in environments of homeostasis-gym only"):
        make_agent("ppo", Task.from_env(gym.make("CartPole-v1")))


@pytest.fixture
def policy_file(tmp_path):
    spec = tiny_spec()
    path = tmp_path / "policy.zip"
    save_policy(path, train(spec), spec, seconds=1.0)
    return path


def test_a_policy_of_ours_loads_without_a_warning_and_says_what_it_is(policy_file):
    env = published()
    agent = make_agent(f"sb3:{policy_file}", Task.from_env(env))
    assert len(rollout(env, agent, seed=0)) == 100
    assert agent.record["algorithm"] == "PPO"
    assert agent.policy.notes["seconds"] == 1.0
    assert agent.policy.notes["versions"]["stable-baselines3"]


def test_a_policy_of_ours_is_loaded_without_unpickling(policy_file, monkeypatch):
    import cloudpickle

    def refuse(*args, **kwargs):
        raise AssertionError("unpickled")

    monkeypatch.setattr(cloudpickle, "loads", refuse)
    load_policy(policy_file)


def test_a_policy_of_ours_is_also_a_plain_model_of_stable_baselines3(policy_file):
    model = PPO.load(policy_file, device="cpu")
    action, _ = model.predict(np.zeros(2, dtype=np.float32), deterministic=True)
    assert action.shape == (2,)


def test_damaged_and_wrong_files_are_told(policy_file, tmp_path):
    task = Task.from_env(published())
    with pytest.raises(HomeostasisError, match="is no file"):
        make_agent(f"sb3:{tmp_path / 'nothing.zip'}", task)
    text = tmp_path / "text.zip"
    text.write_text("no zip")
    with pytest.raises(HomeostasisError, match="not a zip file"):
        make_agent(f"sb3:{text}", task)
    empty = tmp_path / "empty.zip"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("x", "y")
    with pytest.raises(HomeostasisError, match="is no model of Stable-Baselines3"):
        make_agent(f"sb3:{empty}", task)
    with pytest.raises(HomeostasisError, match="was trained in Homeostasis-MOHoN-v0, but the task is"):
        make_agent(f"sb3:{policy_file}", Task.from_env(published("Homeostasis-MOBUO-v0")))
    with pytest.raises(HomeostasisError, match="the policy was trained on observations"):
        make_agent(f"sb3:{policy_file}", Task.from_env(published(objectives=3)))


def test_a_folder_is_told_with_the_files_that_may_be_meant(policy_file, tmp_path):
    task, folder = Task.from_env(published()), policy_file.parent
    with pytest.raises(HomeostasisError, match=rf"{folder} is a folder; is {policy_file} meant\?"):
        make_agent(f"sb3:{folder}", task)
    for name in ("best.zip", "ALICE.zip"):
        policy_file.with_name(name).write_bytes(policy_file.read_bytes())
    meant = " or ".join(str(folder / name) for name in ("policy.zip", "best.zip", "ALICE.zip"))
    with pytest.raises(HomeostasisError, match=rf"is a folder; is {meant} meant\?"):
        make_agent(f"sb3:{folder}", task)
    with pytest.raises(HomeostasisError, match=rf"policy is no file; is {policy_file} meant\?"):
        make_agent(f"sb3:{policy_file.with_suffix('')}", task)
    (tmp_path / "empty").mkdir()
    with pytest.raises(HomeostasisError, match=r"empty is a folder$"):
        make_agent(f"sb3:{tmp_path / 'empty'}", task)


def rewrite(path, member, change):
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content[member] = change(content[member])
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def test_weights_that_were_exchanged_are_noticed(policy_file):
    def change(data):
        notes = json.loads(data)
        notes["weights"] = "0" * 64
        return json.dumps(notes).encode()

    rewrite(policy_file, "homeostasis_gym.json", change)
    with pytest.raises(HomeostasisError, match="is damaged"):
        load_policy(policy_file)


def test_another_format_is_told(policy_file):
    rewrite(policy_file, "homeostasis_gym.json", lambda data: data.replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(HomeostasisError, match="has policy format 2, this version reads 1"):
        load_policy(policy_file)


@pytest.mark.parametrize(
    ("algorithm", "actions", "settings"),
    [
        (PPO, "multidiscrete", {"n_steps": 16, "batch_size": 16}),
        (A2C, "discrete", {}),
        (DQN, "discrete", {"buffer_size": 100}),
        (SAC, "box", {"buffer_size": 100}),
    ],
)
def test_a_foreign_model_is_loaded_with_a_warning(algorithm, actions, settings, tmp_path):
    env = gym.make(MOHON, scalarization="linear", actions=actions)
    model = algorithm("MlpPolicy", env, device="cpu", **settings)
    path = tmp_path / "foreign.zip"
    model.save(path)
    play = published()
    with pytest.warns(UntrustedFileWarning, match="can run any code that its author put inside"):
        agent = make_agent(f"sb3:{path}", Task.from_env(play))
    trajectory = rollout(play, agent, seed=0)
    assert trajectory.actions.max() <= 10


def test_a_foreign_model_of_another_major_version_is_refused(tmp_path):
    model = PPO("MlpPolicy", gym.make(MOHON, scalarization="linear"), device="cpu", n_steps=16, batch_size=16)
    path = tmp_path / "old.zip"
    model.save(path)
    rewrite(path, "_stable_baselines3_version", lambda data: b"1.8.0")
    with pytest.raises(HomeostasisError, match=r"was saved with Stable-Baselines3 1\.8\.0"):
        load_any(path, Task.from_env(published()))


def foreign(path, env, **settings):
    PPO("MlpPolicy", env, device="cpu", n_steps=16, batch_size=16, **settings).save(path)
    return path


def test_the_warning_points_at_the_callers_own_line(tmp_path):
    path = foreign(tmp_path / "foreign.zip", gym.make(MOHON, scalarization="linear"))
    task = Task.from_env(published())
    for load in (
        lambda: make_agent(f"sb3:{path}", task),
        lambda: sb3.load(task, str(path)),
        lambda: load_any(path, task),
    ):
        with pytest.warns(UntrustedFileWarning) as told:
            load()
        assert [warning.filename for warning in told] == [__file__]
        assert told[0].lineno == load.__code__.co_firstlineno


@pytest.mark.parametrize("caller", ["homeostasis_gym.cli", "concurrent.futures.process"])
def test_without_a_callers_line_it_is_one_plain_line(caller, tmp_path, capsys, recwarn):
    path = foreign(tmp_path / "foreign.zip", gym.make(MOHON, scalarization="linear"))
    names = {"__name__": caller, "sb3": sb3, "task": Task.from_env(published()), "path": str(path)}
    assert eval("sb3.load(task, path)", names)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"homeostasis-gym: warning: {path} was not written by homeostasis-gym")
    assert not recwarn


@pytest.mark.slow
def test_the_command_line_says_it_in_one_line(tmp_path, capfd):
    path = foreign(tmp_path / "foreign.zip", gym.make(MOHON, scalarization="linear"))
    words = ["compare", "--agents", f"sb3:{path}=1", "--steps", "3", "--workers", "1"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    lines = [line for line in capfd.readouterr().err.splitlines() if "pickle" in line or "Untrusted" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"homeostasis-gym: warning: {path} was not written by homeostasis-gym")


@pytest.mark.filterwarnings("ignore::homeostasis_agents.sb3.policy.UntrustedFileWarning")
def test_a_foreign_model_that_was_shown_normalised_levels_is_shown_them_again(tmp_path):
    env = Scalarized(NormalizedObservation(gym.make(MOHON)), "linear")
    path = foreign(tmp_path / "five_lines.zip", env, seed=1)
    model, play = PPO.load(path, device="cpu"), published()
    agent = make_agent(f"sb3:{path}", Task.from_env(play))
    for levels in ([110.0, 120.0], [80.0, 120.0], [140.0, 90.0]):
        seen = play.unwrapped.benchmark.normalize(np.array(levels)).astype(np.float32)
        wanted, _ = model.predict(seen, deterministic=True)
        assert agent.act(np.array(levels), {}).action.tolist() == wanted.tolist()


@pytest.mark.filterwarnings("ignore::homeostasis_agents.sb3.policy.UntrustedFileWarning")
def test_a_foreign_model_of_other_observations_is_refused(tmp_path):
    env = gym.make("Homeostasis-MOBUO-v0", scalarization="linear")
    path = foreign(tmp_path / "mobuo.zip", env)
    with pytest.raises(HomeostasisError, match=r"was trained on observations .* with Normal"):
        make_agent(f"sb3:{path}", Task.from_env(published()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spec": None}, "is damaged: its homeostasis_gym.json lacks spec"),
        ({"env_id": "evil_module:Foo-v0"}, "'evil_module:Foo-v0', which is no environment of this version"),
        ({"versions": {"stable-baselines3": "1.8.0"}}, r"was saved with Stable-Baselines3 1\.8\.0"),
    ],
)
def test_a_description_that_was_changed_is_checked_before_anything_is_built(policy_file, change, message):
    def edit(data):
        notes = json.loads(data)
        if "env_id" in change:
            notes["spec"] |= change
        elif change.get("spec", "") is None:
            del notes["spec"]
        else:
            notes |= change
        return json.dumps(notes).encode()

    rewrite(policy_file, "homeostasis_gym.json", edit)
    with pytest.raises(HomeostasisError, match=message):
        load_policy(policy_file)


def test_a_policy_for_other_objectives_is_refused(policy_file):
    task = Task.from_env(published("Homeostasis-Single-v0"))
    with pytest.raises(HomeostasisError, match="the policy was trained on observations"):
        PolicyAgent(load_policy(policy_file), task)


def command(*words):
    parser = argparse.ArgumentParser()
    train_cli.add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["train", *words])
    return arguments.run(arguments)


def test_the_train_verb_writes_a_policy_that_plays(tmp_path, capsys):
    out = tmp_path / "run"
    words = ["--algo", "ppo", "--steps", "80", "--out", str(out), "--eval-episodes", "2"]
    words += ["--set", "envs=4", "--set", f"arguments={json.dumps(SMALL)}", "--set", "segments=2"]
    words += ["--scalarisation", '{"name": "log", "scale": 5}', "--env-arg", "objectives=3"]
    assert command(*words) == 0
    printed = capsys.readouterr()
    assert f"--agents sb3:{out / 'policy.zip'}" in printed.out
    assert "100 %" in printed.err
    assert command(*words, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["settings"]["scalarization"] == {"name": "log", "scale": 5}
    assert len(result["evaluations"]) == 3
    env = published(objectives=3)
    rollout(env, make_agent(f"sb3:{out / 'policy.zip'}", Task.from_env(env)), seed=0)


OURS = r"`env_id` must be one of Homeostasis-Single-v0, Homeostasis-MOHoN-v0, .*, "


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--algo", "trpo"],
            "`--algo` must be one of ppo, a2c, dqn, sac, recurrent-ppo .or PPO, .* got 'trpo'",
        ),
        (["--algo", "recurrent_ppo"], "`--algo` must be one of .*recurrent-ppo .or .*, got 'recurrent_ppo'"),
        (["--algo", "ppo", "--env", "Nowhere-v0"], OURS + "got 'Nowhere-v0'"),
        (["--algo", "ppo", "--env", "CartPole-v1"], OURS + "got 'CartPole-v1'"),
        (["--algo", "ppo", "--env", "Homeostasis-MOHoN"], OURS + "got 'Homeostasis-MOHoN'"),
        (["--algo", "ppo", "--env", "nowhere:Nowhere-v0"], OURS + "got 'nowhere:Nowhere-v0'"),
        (["--algo", "ppo", "--set", "learning_rate=abc"], "`learning_rate` must be a finite .* got 'abc'"),
        (["--algo", "ppo", "--set", "arguments=5"], "`arguments` must be a mapping .* got 5"),
        (["--algo", "ppo", "--set", "steps"], "`--set` must be NAME=JSON, got 'steps'"),
        (["--algo", "ppo", "--set", "seed=1"], "`--set` must not name 'seed'"),
        (["--algo", "ppo", "--set", "nonsense=1"], "nonsense"),
        (["--algo", "ppo", "--eval-episodes", "0"], "`--eval-episodes` must be at least 1, got 0"),
        (["--algo", "ppo", "--steps", "0"], "`steps` must be an integer of at least 1, got 0"),
        (["--algo", "ppo", "--scalarisation", "wishful"], "`scalarization` must be one of"),
    ],
)
def test_wrong_words_are_told(words, message, tmp_path):
    with pytest.raises(HomeostasisError, match=message):
        command(*words, "--out", str(tmp_path / "run"))


def test_an_output_folder_that_is_a_file_is_told(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(HomeostasisError, match=r"`out` must be a folder, but .* is a file"):
        command("--algo", "ppo", "--out", str(path))
