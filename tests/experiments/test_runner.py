"""Runs lose nothing and repeat nothing, whatever kills them."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from homeostasis_gym.errors import HomeostasisError, RecordError, UnknownNameError
from homeostasis_gym.experiments import AgentSpec, Experiment, RunFolder, run_experiment

HERE = Path(__file__).parent
ENV = "Homeostasis-MOHoN-v0"
STEPS = {"episode_length": 20}


def experiment(*agents, episodes=4, **changes):
    return Experiment(ENV, tuple(AgentSpec(a, episodes) for a in agents), **{"env_kwargs": STEPS, **changes})


@pytest.fixture
def probes(tmp_path, monkeypatch):
    """Make the probe agents importable, here and in the worker processes."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PROBE_LOG", str(tmp_path / "starts.log"))
    return tmp_path / "starts.log"


def test_a_run_is_complete_and_in_order(tmp_path):
    folder = RunFolder(tmp_path / "run")
    events = []
    run_experiment(experiment("restore", "random"), folder, workers=1, on_event=events.append)
    records = folder.trajectories()
    assert [(t.header.agent, t.header.episode, t.header.seed) for t in records] == [
        (agent, k, 1 + k) for agent in ("restore", "random") for k in range(4)
    ]
    # Everybody meets the same noise.
    for one, other in zip(records[:4], records[4:], strict=True):
        assert one.noise.tolist() == other.noise.tolist()
    assert {e.agent: e.done for e in events} == {"restore": 4, "random": 4}
    assert folder.manifest["starts"][0]["versions"]["gymnasium"]


def test_a_second_start_runs_only_what_is_missing(tmp_path, probes):
    folder = RunFolder(tmp_path / "run")
    run_experiment(experiment("probe_agents:Slow", episodes=2), folder)
    before = folder.trajectories()
    run_experiment(experiment("probe_agents:Slow", episodes=5), folder)
    assert folder.trajectories()[:2] == before
    assert sorted(int(s) for s in probes.read_text().split()) == [1, 2, 3, 4, 5]
    run_experiment(experiment("probe_agents:Slow", episodes=3), folder)
    assert len(probes.read_text().split()) == 5
    assert len(folder.manifest["starts"]) == 3


def test_what_a_gap_left_is_filled(tmp_path):
    folder = RunFolder(tmp_path / "run")
    run_experiment(experiment("random", episodes=3), folder)
    whole = folder.trajectories()
    for file in folder.records("random").glob("*.parquet"):
        file.unlink()
    folder.add("random", [whole[1]])
    run_experiment(experiment("random", episodes=3), folder)
    assert folder.trajectories() == whole


@pytest.mark.slow
def test_kill_9_five_times_then_equal_to_an_undisturbed_run(tmp_path, probes):
    slow = "probe_agents:Slow"
    whole = RunFolder(tmp_path / "undisturbed")
    run_experiment(experiment(slow, "restore", episodes=12), whole)
    probes.unlink()
    folder = RunFolder(tmp_path / "killed")
    command = [
        sys.executable,
        "-c",
        "import sys; from pathlib import Path; from homeostasis_gym.experiments import *; "
        "import json; experiment = Experiment.from_dict(json.loads(sys.argv[1])); "
        "run_experiment(experiment, RunFolder(Path(sys.argv[2])))",
        json.dumps(experiment(slow, "restore", episodes=12).to_dict()),
        str(folder.path),
    ]
    generator = random.Random(11)
    kept = []
    for _ in range(5):
        process = subprocess.Popen(command, env={**os.environ}, start_new_session=True)
        begun = len(probes.read_text().split()) if probes.exists() else 0
        # Wait until the worker is at work, then strike at a random moment.
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if probes.exists() and len(probes.read_text().split()) > begun:
                break
            time.sleep(0.01)
        time.sleep(generator.uniform(0.0, 0.6))
        os.kill(process.pid, signal.SIGKILL)  # the main process alone, as a user's kill -9 would
        process.wait()
        time.sleep(0.5)
        starts = len(probes.read_text().split())
        kept.append((starts, {1 + k for k in folder.finished(slow)}))
        time.sleep(0.3)
        # The orphaned worker is gone: nothing begins any more.
        assert len(probes.read_text().split()) == starts
    subprocess.run(command, env={**os.environ}, check=True)
    assert folder.trajectories() == whole.trajectories()
    seeds = [int(s) for s in probes.read_text().split()]
    for starts, finished in kept:
        assert not finished & set(seeds[starts:]), "an episode was run again after it had been finished"


def test_another_experiment_does_not_go_into_the_same_folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    run_experiment(experiment("no-op", episodes=1), folder)
    with pytest.raises(HomeostasisError, match=r"`out` must be a new folder: .* seed = 1, got 2"):
        run_experiment(experiment("no-op", episodes=1, seed=2), folder)
    with pytest.raises(HomeostasisError, match="env_kwargs"):
        run_experiment(experiment("no-op", episodes=1, env_kwargs={}), folder)
    changed = Experiment(ENV, (AgentSpec("maximiser", 1, {"units": 3}),), STEPS)
    run_experiment(changed, folder)
    with pytest.raises(HomeostasisError, match="settings"):
        run_experiment(experiment("maximiser", episodes=1), folder)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(HomeostasisError, match="holds other files"):
        run_experiment(experiment("no-op"), RunFolder(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_agent_that_breaks_the_rules_stops_the_run_with_its_message(tmp_path, probes):
    with pytest.raises(HomeostasisError, match=r"`Decision.action` must be in MultiDiscrete"):
        run_experiment(experiment("probe_agents:Broken"), RunFolder(tmp_path / "run"))


def test_an_agent_that_cannot_be_limited_is_told_before_any_work(tmp_path, probes):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(HomeostasisError, match="cannot limit agent 'probe_agents:ponderous'"):
        run_experiment(experiment("restore", "probe_agents:ponderous"), folder, max_cost=1.0)
    assert not folder.path.exists()


def test_what_is_free_is_not_limited(tmp_path):
    folder = RunFolder(tmp_path / "run")
    said = []
    run_experiment(experiment("no-op", episodes=1), folder, workers=1, max_cost=0.0, say=said.append)
    assert len(folder.trajectories()) == 1
    basis = "at default prices (examples, to be checked) where an agent names no others"
    assert said == [
        f"max-cost: $0.0000, of which this run folder has spent $0.0000, {basis}",
        f"done: this run folder has spent $0.0000 of the allowed $0.0000, {basis}",
    ]


@pytest.mark.parametrize(
    "name", ["nobody", "no_such_module:Agent", "probe_agents:nothing", "probe_agents:not_callable"]
)
def test_a_wrong_agent_is_told_before_any_work(tmp_path, probes, name):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(UnknownNameError, match="`agent` must"):
        run_experiment(experiment("restore", name), folder)
    assert not folder.path.exists()


def test_experiments_are_checked():
    with pytest.raises(HomeostasisError, match=r"`episodes` must be an integer of at least 1, got 0"):
        AgentSpec("random", 0)
    with pytest.raises(HomeostasisError, match="every agent once, got 'random' twice"):
        experiment("random", "random")
    with pytest.raises(HomeostasisError, match="at least one agent"):
        experiment()
    with pytest.raises(HomeostasisError, match=r"`seed` must be an integer of at least 0, got -1"):
        experiment("random", seed=-1)
    assert Experiment.from_dict(experiment("random").to_dict()) == experiment("random")
    assert experiment("random").digest != experiment("random", seed=2).digest


def test_no_two_agents_share_a_folder(tmp_path):
    folder = RunFolder(tmp_path)
    names = ["sb3:a/b.zip", "sb3:a_b.zip", "sb3_a_b.zip", "x" * 80, "x" * 81, "../../escape"]
    paths = {folder.records(name) for name in names}
    assert len(paths) == len(names)
    assert all(path.parent == tmp_path / "records" for path in paths)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RecordError, match=r"manifest\.json does not exist"):
        RunFolder(tmp_path).trajectories()
    (tmp_path / "manifest.json").write_text("[]")
    for text in (
        "[]",
        "{",
        '{"agents": 3}',
        '{"env_id": "e", "env_kwargs": {}, "seed": 1, "agents": [1], "starts": []}',
    ):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(RecordError, match="is no manifest of a run"):
            RunFolder(tmp_path).trajectories()


def test_two_runs_do_not_share_a_folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    run_experiment(experiment("no-op", episodes=1), folder)
    with folder.lock(), pytest.raises(HomeostasisError, match="is in use"):
        run_experiment(experiment("no-op", episodes=2), RunFolder(folder.path))


def test_a_full_or_locked_disk_is_told_with_the_folder(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    run_experiment(experiment("no-op", episodes=1), folder)
    (played,) = folder.trajectories()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("homeostasis_gym.experiments.folder.write_trajectories", full)
    with pytest.raises(
        HomeostasisError, match=r"`out` must be a folder that can be written, but .*No space left"
    ):
        folder.add("no-op", [played])
    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(HomeostasisError, match="can be written"), folder.lock():
        pass
    with pytest.raises(HomeostasisError, match="can be written"):
        RunFolder(tmp_path / "other").open(experiment("no-op"))


def test_what_was_never_played_binds_nobody(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.open(experiment("random", seed=5))
    run_experiment(experiment("no-op", episodes=1), folder)
    assert [a["name"] for a in folder.manifest["agents"]] == ["no-op"]
    assert not list((folder.path / "locks").glob("worker-*"))
