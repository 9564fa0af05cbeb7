"""The studies of reinforcement learning run from end to end, with trainings too short to learn anything."""

from __future__ import annotations

import importlib
import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("stable_baselines3")
pytest.importorskip("sb3_contrib")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch):
    """Runs a script as the command line does and gives back its exit status."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))

    def run(name: str, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")
        return end.value.code

    return run


@pytest.fixture
def page(tmp_path):
    """A copy of a page of the documentation, for a script to fill."""

    def copy(name: str) -> Path:
        return Path(shutil.copy(ROOT / "docs" / name, tmp_path / name))

    return copy


def filled(page: Path, mark: str) -> list[list[str]]:
    """The cells of the table between two marks, without its head."""
    text = (
        page.read_text(encoding="utf-8").split(f"<!-- {mark}: begin -->")[1].split(f"<!-- {mark}: end -->")[0]
    )
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()[2:]]


def test_baselines_are_trained_once_and_fill_their_table(script, page, tmp_path):
    to = page("reinforcement_learning.md")
    arguments = ["--envs", "Single", "--algos", "PPO", "DQN", "--seeds", 2, "--steps", 200, "--episodes", 3]
    arguments += ["--out", tmp_path / "runs", "--data", tmp_path / "data.json", "--page", to]
    assert script("train_baselines.py", *arguments) == 0
    rows = filled(to, "baselines")
    names = [row[1] for row in rows]
    assert names[0] == "base-stock (reference)" and names[-3:] == ["random 0..10", "PPO", "DQN"]
    assert "restore" in names
    held = json.loads((tmp_path / "data.json").read_text())["rows"]
    assert all(low <= row["regret"] <= high for row in held for low, high in [row["regret_interval"]])
    assert all(row["flips"][1] == 6 and len(row["regret_per_seed"]) == 2 for row in held)

    policies = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.zip")}
    assert len(policies) == 8
    assert script("train_baselines.py", *arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.zip")} == policies
    assert filled(to, "baselines") == rows


def test_reward_designs_tell_what_they_pay(script, page, tmp_path):
    to = page("study_reward_design.md")
    designs = ["linear", "consumption x100", "consumption x1000", "drive reduction"]
    arguments = ["--envs", "MOHoN", "--designs", *designs, "--learners", "PPO", "A2C far", "--seeds", 2]
    arguments += [
        "--steps",
        200,
        "--episodes",
        3,
        "--out",
        tmp_path / "runs",
        "--figures",
        tmp_path,
        "--page",
        to,
    ]
    assert script("study_reward_design.py", *arguments) == 0
    assert [row[1:3] for row in filled(to, "results")] == [
        [d, a] for d in designs for a in ("PPO", "A2C far")
    ]
    paid = {row[1]: row[6] for row in filled(to, "payments")}
    assert paid == {
        "linear": "balance",
        "consumption x100": "a binge from step 91",
        "consumption x1000": "eating without end",
        "drive reduction": "balance",
    }
    assert (tmp_path / "reward_design-MOHoN.svg").stat().st_size > 0
    rows = json.loads((tmp_path / "reward_design.json").read_text())["rows"]
    scales = {(row["design"], row["learner"]): row["reward_scale"] for row in rows}
    assert scales["linear", "A2C far"] < scales["linear", "PPO"]


def test_turning_leaves_out_the_untrained_policy_and_single_evaluations(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    turning = importlib.import_module("study_reward_design").turning

    def found(*rates):
        return turning([{"steps": 10 * k, "flip_rate": rate} for k, rate in enumerate(rates)], 40)

    assert found(1.0, 0.0, 0.2, 0.9, 1.0) == 0.75
    assert found(1.0, 0.0, 0.0, 0.9, 0.1) is None  # flips no longer
    assert found(0.0, 1.0, 1.0, 1.0, 1.0) is None  # nothing was learned before
    assert found(1.0, 0.0, 1.0, 0.0, 1.0) is None  # never quiet twice in a row


def test_ablation_fills_its_table(script, page, tmp_path):
    to = page("reinforcement_learning.md")
    arguments = ["--envs", "MOBUO", "--seeds", 2, "--steps", 200, "--episodes", 3]
    arguments += ["--out", tmp_path / "runs", "--data", tmp_path / "data.json", "--page", to]
    assert script("ablate_training.py", *arguments) == 0
    rows = filled(to, "ablation")
    assert rows[0][:2] == ["MOBUO", "as it is"] and len(rows) == 2
    assert len(rows[0][2].split(",")) == 2


def test_pareto_front_draws_a_figure(script, page, tmp_path):
    arguments = ["--envs", "MOBUO", "--points", 2, "--seeds", 2, "--steps", 200, "--episodes", 3]
    to = page("reinforcement_learning.md")
    arguments += ["--out", tmp_path / "runs", "--figures", tmp_path, "--page", to]
    assert script("pareto_front.py", *arguments) == 0
    assert [row[1] for row in filled(to, "pareto")] == ["1", "2"]
    rows = json.loads((tmp_path / "pareto.json").read_text())
    assert [row["share"] for row in rows] == [0.0, 1.0] and any(row["front"] for row in rows)
    assert (tmp_path / "pareto-MOBUO.svg").stat().st_size > 0


@pytest.mark.slow
def test_correctors_fill_their_tables(script, page, tmp_path):
    to = page("reinforcement_learning.md")
    arguments = ["--steps", 20, "--episodes", 3, "--seeds", 1, "--training-steps", 100, "--model-steps", 5]
    arguments += ["--model-episodes", 1, "--out", tmp_path / "runs", "--data", tmp_path / "data.json"]
    assert script("study_correctors.py", *arguments, "--page", to) == 0
    correctors = [row[0] for row in filled(to, "correctors")]
    assert correctors[0] == "rule `none`" and "PPO in both seats, shared" in correctors
    assert all(row[1] == "3" for row in filled(to, "correctors"))
    assert filled(to, "correctors-changes") and filled(to, "correctors-model")


def test_tuning_keeps_its_trials(script, tmp_path, capsys):
    pytest.importorskip("optuna")
    arguments = ["--algo", "DQN", "--env", "Homeostasis-Single-v0", "--steps", 200, "--episodes", 3]
    arguments += ["--data", tmp_path / "tuning.json"]
    found = []
    for trials in (1, 2):
        assert script("tune_sb3.py", *arguments, "--trials", trials, "--out", tmp_path) == 0
        found.append(json.loads(capsys.readouterr().out))
    first, second = found
    assert (first["trials"], second["trials"]) == (1, 2)
    assert second["mean_regret"] <= first["mean_regret"]
    (trials,) = json.loads((tmp_path / "tuning.json").read_text()).values()
    assert len(trials) == 2 and all("learning_rate" in trial for trial in trials)


def test_benchmark_of_training_gives_ratios(script, page, tmp_path):
    to, out = page("reinforcement_learning.md"), tmp_path / "speed.json"
    arguments = ["--lanes", 8, "--epochs", 1, "--frames", 100, "--rounds", 1, "--data", out, "--page", to]
    assert script("benchmark_training.py", *arguments) == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert row["ratio"] == pytest.approx(row["ours_fps"] / row["usual_fps"])
    assert [cells[1] for cells in filled(to, "speed")] == ["8", "each side's best"]
