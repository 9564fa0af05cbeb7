"""``homeostasis-gym train`` as its users meet it."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("stable_baselines3")
pytest.importorskip("filelock")

from homeostasis_agents.sb3 import run as run_module
from homeostasis_agents.sb3.policy import load_policy
from homeostasis_agents.sb3.spec import versions

from homeostasis_gym.cli import main
from homeostasis_gym.core.utility import SCALARIZATIONS
from homeostasis_gym.registration import ENVIRONMENTS

ARGUMENTS = {"n_steps": 10, "batch_size": 40, "n_epochs": 1}
TINY = ["--set", "envs=4", "--set", "net_arch=[8]", "--set", f"arguments={json.dumps(ARGUMENTS)}"]


def words(out, *more, steps=80, segments=2):
    settings = [*TINY, "--set", f"segments={segments}", "--steps", str(steps), "--eval-episodes", "2"]
    return ["train", "--algo", "ppo", "--out", str(out), *settings, *more]


@pytest.mark.parametrize("name", ["recurrent-ppo", "recurrentppo", "RecurrentPPO", "a2c", "A2C", "A2c"])
def test_an_algorithm_has_two_spellings_in_any_case(name, tmp_path, capsys):
    if "ecurrent" in name:
        pytest.importorskip("sb3_contrib")
    arguments = {"n_steps": 10}
    told = ["--algo", name, "--set", f"arguments={json.dumps(arguments)}", "--json", "--out", str(tmp_path)]
    told += ["--set", "envs=4", "--set", "net_arch=[4]", "--set", "segments=1"]
    assert main(["train", *told, "--steps", "40", "--eval-episodes", "1"]) == 0
    found = json.loads(capsys.readouterr().out)["settings"]["algorithm"]
    assert found == ("RecurrentPPO" if "ecurrent" in name else "A2C")


def test_wrong_words_are_one_line(tmp_path, capsys):
    assert main(words(tmp_path / "run", "--set", "learning_rate=abc")) == 2
    error = "`learning_rate` must be a finite number above 0, got 'abc'"
    assert capsys.readouterr().err == f"homeostasis-gym: error: {error}\n"
    assert main(["train", "--algo", "recurrent", "--out", str(tmp_path / "run")]) == 2
    names = "ppo, a2c, dqn, sac, recurrent-ppo (or PPO, A2C, DQN, SAC, RecurrentPPO)"
    told = f"homeostasis-gym: error: `--algo` must be one of {names}, got 'recurrent'\n"
    assert capsys.readouterr().err == told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--scalarisation", "nonsense"], "`scalarization` must be one of linear,"),
        (
            ["--scalarisation", '{"name": "linear", "weights": [1]}'],
            "`weights` must be 6 finite numbers, got [1]",
        ),
        (["--env", "Homeostasis-Nowhere-v0"], "`env_id` must be one of Homeostasis-Single-v0,"),
        (
            ["--env-arg", "foo=1"],
            "`env_kwargs` (--env-arg) of Homeostasis-MOHoN-v0 must be among episode_length, "
            "max_consumption, shock_probability, shock_size, objectives, noise, max_episode_steps, "
            "got 'foo'\n",
        ),
        (["--env-arg", "num_envs=1"], "noise, max_episode_steps, got 'num_envs'\n"),
        (["--env-arg", "max_consumption=-3"], "`max_consumption` must be an integer of at least 1"),
        (
            ["--set", 'arguments={"nix": 2}'],
            "`arguments` of PPO must be among n_steps, batch_size, n_epochs, gamma,",
        ),
        (["--set", 'arguments={"nix": 2}'], "verbose, got 'nix'\n"),
        (
            ["--set", "component_limit=50", "--scalarisation", "drive-reduction"],
            "`component_limit` must be null with drive-reduction, which pays for levels and not for "
            "components, got 50\n",
        ),
    ],
)
def test_a_training_that_cannot_be_is_told_and_leaves_nothing(more, message, tmp_path, capsys):
    assert main(words(tmp_path / "new" / "run", *more)) == 2
    told = capsys.readouterr().err
    assert message in told and "__init__" not in told
    assert not list(tmp_path.iterdir())
    (tmp_path / "run").mkdir()
    assert main(words(tmp_path / "run", *more)) == 2
    assert not list((tmp_path / "run").iterdir())


def test_no_lock_is_left_beside_an_unknown_policy(tmp_path, capsys):
    (tmp_path / "policy.zip").touch()
    assert main(words(tmp_path)) == 2
    assert "holds a policy.zip of an unknown training" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["policy.zip"]


def test_a_file_is_no_folder_for_results(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("kept")
    for out in (file, file / "run"):
        assert main(words(out)) == 2
        error = f"`out` must be a folder, but {file} is a file"
        assert capsys.readouterr().err == f"homeostasis-gym: error: {error}\n"
    assert file.read_text() == "kept"
    assert main(words(tmp_path / ("x" * 300))) == 2
    assert "`out` must be a writable folder, got" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "gamma=0.9",
            "`--set` must not name 'gamma', which is an argument of PPO: --set arguments='{\"gamma\": 0.9}'",
        ),
        ("seed=1", "`--set` must not name 'seed', which has an option of its own (--seed)"),
        ("env_id=x", "`--set` must not name 'env_id', which has an option of its own (--env)"),
        ("device=cuda", "`--set` must not name 'device', which is always the CPU"),
        (
            "tau=0.1",  # another algorithm's
            "`--set` must name one of envs, reward_scale, component_limit, component_leak, learning_rate, "
            "final_learning_rate, net_arch, activation, grid, final_entropy, actions, segments, arguments, "
            "tuned_by, got 'tau'",
        ),
    ],
)
def test_what_cannot_be_set_is_told_with_what_can(setting, message, tmp_path, capsys):
    assert main(words(tmp_path / "run", "--set", setting)) == 2
    assert capsys.readouterr().err == f"homeostasis-gym: error: {message}\n"


@pytest.mark.parametrize(
    ("option", "text", "where"),
    [
        ("--scalarisation", '{"name":"linear"', "Expecting ',' delimiter at character 17"),
        (
            "--scalarisation",
            "{name: log}",
            "Expecting property name enclosed in double quotes at character 2",
        ),
        ("--set", "net_arch=[8 8]", "Expecting ',' delimiter at character 4"),
        ("--env-arg", "objectives=[", "Expecting value at character 2"),
    ],
)
def test_broken_json_is_told_as_such(option, text, where, tmp_path, capsys):
    assert main(words(tmp_path / "run", option, text)) == 2
    got = text.partition("=")[2] or text
    error = f"`{option}` begins as JSON and is not valid JSON: {where}, got {got!r}"
    assert capsys.readouterr().err == f"homeostasis-gym: error: {error}\n"


def test_the_help_names_what_there_is_and_shows_how(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    told = capsys.readouterr().out
    flat = told.replace("\n", "").replace(" ", "")  # an id may be broken at its hyphen
    for name in (*ENVIRONMENTS, *SCALARIZATIONS, "drive-reduction"):
        assert name in flat
    examples = told.partition("examples:\n")[2].replace("\\\n", "")
    lines = [shlex.split(line) for line in examples.splitlines()]
    assert len(lines) == 2
    for number, (program, *typed) in enumerate(lines):
        assert program == "homeostasis-gym"
        typed[typed.index("--out") + 1] = str(tmp_path / str(number))
        tiny = ["--steps", "8", "--set", "envs=4", "--set", "segments=1", "--eval-episodes", "1"]
        if "ppo" in typed:
            tiny += ["--set", f"arguments={json.dumps(ARGUMENTS)}"]
        assert main([*typed, *tiny]) == 0


def test_the_prefix_that_imports_the_environments_may_stand_before_the_id(tmp_path, capsys):
    env_id = "Homeostasis-MOBUO-v0"
    assert main(words(tmp_path, "--env", f"homeostasis_gym:{env_id}", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["env_id"] == env_id
    assert load_policy(tmp_path / "policy.zip").spec.env_id == env_id


@pytest.mark.parametrize("json_", [[], ["--json"]])
def test_settings_that_are_another_environments_are_told(json_, tmp_path, capsys):
    note = (
        "PPO has no settings of its own in Homeostasis-SleepWake-v0; those for Homeostasis-MOHoN-v0 are taken"
    )
    assert main(words(tmp_path / "sleep", "--env", "Homeostasis-SleepWake-v0", *json_)) == 0
    printed = capsys.readouterr()
    assert f"homeostasis-gym: note: {note}" in printed.err and note not in printed.out
    for env_id in ("Homeostasis-MOHoN-v0", "Homeostasis-MOBUO-v0"):
        assert main(words(tmp_path / env_id, "--env", env_id, *json_)) == 0
        assert "note:" not in capsys.readouterr().err


def test_the_result_names_both_policies_and_says_when_it_was_finished_before(tmp_path, capsys):
    assert main(words(tmp_path)) == 0
    first = capsys.readouterr()
    best = run_module.describe(tmp_path / "best.zip")
    assert f"best after {best['steps']} steps: score {best['evaluation']['score']:.1f}" in first.out
    assert f"--agents sb3:{tmp_path / 'policy.zip'}" in first.out
    assert f"--agents sb3:{tmp_path / 'best.zip'}" in first.out
    assert "finished before" not in first.out and "100 %" in first.err
    assert main(words(tmp_path)) == 0
    second = capsys.readouterr()
    assert "finished before; nothing was trained now" in second.out and "%" not in second.err
    assert main(words(tmp_path, "--json")) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["finished_before"] is True
    assert result["best"] == {
        "policy": str(tmp_path / "best.zip"),
        "steps": best["steps"],
        "evaluation": best["evaluation"],
    }
    (tmp_path / "best.zip").unlink()
    assert main(words(tmp_path)) == 0
    assert "best" not in capsys.readouterr().out


def test_what_could_not_be_measured_is_a_dash(tmp_path, capsys):
    assert main(words(tmp_path, "--json")) == 0
    path = tmp_path / "evaluations.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[-1] |= {"regret": None, "flip_rate": None}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    capsys.readouterr()
    assert main(words(tmp_path)) == 0
    assert "regret - (median" in capsys.readouterr().out


@pytest.fixture
def upgraded(monkeypatch):
    """Another version of one library, and a library that was not there."""
    newer = {**versions(), "torch": "99.0", "sb3-contrib": ""}
    monkeypatch.setattr(run_module, "versions", lambda: newer)
    held = versions()
    return f"sb3-contrib {held['sb3-contrib']} (here none), torch {held['torch']} (here 99.0)"


def test_a_finished_training_is_told_with_other_versions_too(tmp_path, capsys, request):
    pytest.importorskip("sb3_contrib")
    assert main(words(tmp_path, "--json")) == 0
    whole = json.loads(capsys.readouterr().out)
    changed = request.getfixturevalue("upgraded")
    assert main(words(tmp_path, "--json")) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {**whole, "finished_before": True}
    assert whole["versions"] == versions()
    assert printed.err.startswith(
        f"homeostasis-gym: warning: {tmp_path} was trained with {changed}; the same"
    )
    spec = load_policy(tmp_path / "policy.zip").spec
    with pytest.warns(UserWarning, match=r"was trained with .* \(here 99\.0\)") as told:
        run_module.TrainingRun(tmp_path, spec, episodes=2).run()
    assert told[0].filename == __file__
    assert main(words(tmp_path, steps=120)) == 2  # another training is another training
    assert "differs in steps (80 there, 120 here)" in capsys.readouterr().err


def test_an_unfinished_training_does_not_go_on_with_other_versions(tmp_path, capsys, request, monkeypatch):
    pytest.importorskip("sb3_contrib")

    class Interrupted(Exception):
        pass

    def interrupt(*args, **kwargs):
        raise Interrupted

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(run_module, "train", interrupt)
        main(words(tmp_path))
    changed = request.getfixturevalue("upgraded")
    assert main(words(tmp_path)) == 2
    error = capsys.readouterr().err
    assert f"holds a training that was begun with {changed}; going on would mix versions" in error


def test_tensorboard_that_is_missing_is_named_with_its_extra_and_takes_no_folder(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    out = tmp_path / "run"
    assert main(words(out, "--tensorboard", str(tmp_path / "board"))) == 2
    assert "tensorboard is not installed; install it with: pip install 'homeostasis-gym[tensorboard]'" in (
        capsys.readouterr().err
    )
    assert not out.exists()
    monkeypatch.undo()
    assert main(words(out, steps=40)) == 0


def test_tensorboards_files_are_written_when_asked(tmp_path):
    pytest.importorskip("tensorboard")
    board = tmp_path / "board"
    assert main(words(tmp_path / "run", "--tensorboard", str(board))) == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = board.rglob("events.out.tfevents.*")
    seen = EventAccumulator(str(file)).Reload()
    assert "rollout/ep_rew_mean" in seen.Tags()["scalars"] or "time/fps" in seen.Tags()["scalars"]


@pytest.mark.slow
def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(tmp_path):
    settings = {"steps": 2000, "segments": 25}
    command = [sys.executable, "-m", "homeostasis_gym.cli", *words(tmp_path / "cut", **settings)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not list((tmp_path / "cut" / "checkpoint").glob("state-*.zip")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.005)
    finally:
        os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "cut" / "policy.zip").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "finished before" not in done.stdout
    assert main(words(tmp_path / "whole", "--json", **settings)) == 0
    for name in ("policy.zip", "best.zip"):
        assert load_policy(tmp_path / "cut" / name).sha256 == load_policy(tmp_path / "whole" / name).sha256
