"""Replaying recorded logs: a small log of our own making, and the shared recordings where they are."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from homeostasis_gym.bioblue import read_recording, replay
from homeostasis_gym.cli import main
from homeostasis_gym.errors import RecordError
from homeostasis_gym.trajectory import read_trajectories

DATA = Path(
    os.environ.get("HOMEOSTASIS_BIOBLUE_DATA", Path(__file__).parents[3] / "shared" / "data" / "bioblue")
)
HEADER = [
    *("Model name", "Step number", "Trial number", "Prompt message", "Amount food consumed"),
    *("Action reasoning / explanation", "Random homeostatic level change", "Homeostatic target"),
    *("Previous homeostatic actual", "New homeostatic actual", "Consumption reward"),
    *("Undersatiation reward", "Oversatiation reward"),
]
ROWS = [
    ["tester", "1", "7", "Level: 100\\n\\nHow much?", "0", "", "-5", "100", "100", "95", "0", "0", "0"],
    ["tester", "2", "7", "Level: 95\\n\\nHow much?", "20", "", "3", "100", "95", "118", "20", "0", "-180"],
    ["tester", "3", "7", "Level: 118\\n\\nHow much?", "0", "", "-5", "100", "118", "113", "0", "0", "-130"],
]


def write(path, rows=ROWS, header=HEADER):
    path.write_text("\n".join("\t".join(row) for row in [header, *rows]) + "\n", encoding="utf-8")
    return path


def changed(row, column, value):
    rows = [list(r) for r in ROWS]
    rows[row - 2][HEADER.index(column)] = value
    return rows


def test_an_exact_log(tmp_path, capsys):
    file = write(tmp_path / "log.tsv")
    assert main(["replay", str(file)]) == 0
    assert "3 steps, exact" in capsys.readouterr().out
    recording = read_recording(file)
    assert recording.prompts[0] == "Level: 100\n\nHow much?" and recording.trial == 7


def test_the_first_difference_is_named(tmp_path, capsys):
    file = write(tmp_path / "log.tsv", changed(3, "Oversatiation reward", "-170"))
    assert main(["replay", "--json", str(file)]) == 1
    assert json.loads(capsys.readouterr().out) == [
        {
            "file": str(file),
            "steps": 3,
            "exact": False,
            "first_difference": {
                "row": 3,
                "column": "Oversatiation reward",
                "recorded": -170.0,
                "replayed": -180.0,
            },
        }
    ]


TOTALS = ["Total consumption reward", "Total undersatiation reward", "Total oversatiation reward"]


@pytest.mark.parametrize(("last", "column"), [("-310", None), ("-300", TOTALS[2]), ("-130", TOTALS[2])])
def test_sums_of_rewards_are_compared_where_the_log_has_them(tmp_path, last, column):
    sums = [["0", "0", "0"], ["20", "0", "-180"], ["20", "0", last]]
    rows = [[*row, *more] for row, more in zip(ROWS, sums, strict=True)]
    difference = replay(read_recording(write(tmp_path / "log.tsv", rows, HEADER + TOTALS))).first_difference
    assert (difference and difference.column) == column
    assert difference is None or (difference.row, difference.replayed) == (4, -310.0)


@pytest.mark.parametrize(("metric", "exact"), [("1.6666666666666665", True), ("1.667", False)])
def test_metrics_are_compared_where_the_log_has_them(tmp_path, metric, exact):
    header = [
        *("Model name", "Step number", "Trial number", "Prompt message", "Amount food harvested"),
        *("Previous amount of food available", "New amount of food available", "Instability metric"),
        *("Consumption reward", "Instability reward"),
    ]
    first = 7.0**1.1
    second = (first + 1.0) ** 1.1
    third = (second - 5.0) ** 1.1
    rows = [
        ["m", "1", "1", "", "4", "10.0", repr(first), "0", "4", "0"],
        ["m", "2", "1", "", "0", repr(first), repr(second), "1.0", "0", "-0.5"],
        ["m", "3", "1", "", "6", repr(second), repr(third), metric, "6", "-0.833"],
    ]
    difference = replay(read_recording(write(tmp_path / "log.tsv", rows, header))).first_difference
    assert (difference is None) == exact
    assert exact or (difference.row, difference.column) == (4, "Instability metric")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path, newline):
    file = write(tmp_path / "log.tsv")
    text = file.read_text(encoding="utf-8").replace("\n", newline)
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(read_recording(file)) == 3


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (
            changed(3, "Amount food consumed", "five"),
            HEADER,
            "row 3, column 'Amount food consumed': must be a whole",
        ),
        (
            changed(2, "Amount food consumed", "-1"),
            HEADER,
            "row 2, column 'Amount food consumed': must be a whole",
        ),
        (
            changed(4, "Random homeostatic level change", "nan"),
            HEADER,
            "row 4, column 'Random.*': must be a finite",
        ),
        (changed(3, "Step number", "3"), HEADER, "row 3, column 'Step number': must be '2', got '3'"),
        (changed(3, "Homeostatic target", "90"), HEADER, "row 3, column 'Homeostatic target': must be '100'"),
        ([ROWS[0], ROWS[1][:-1]], HEADER, "row 3, column 'Oversatiation reward': is missing"),
        ([ROWS[0], [*ROWS[1], "x"]], HEADER, "row 3, column 'number 14': has no name in row 1"),
        ([r[:-1] for r in ROWS], HEADER[:-1], "row 1, column 'Oversatiation reward': is missing"),
        ([], HEADER, "row 2: must hold the first step"),
    ],
)
def test_files_of_a_wrong_shape(tmp_path, rows, header, message):
    with pytest.raises(RecordError, match=f"log.tsv: {message}"):
        read_recording(write(tmp_path / "log.tsv", rows, header))


def test_malformed_files_are_told_and_the_others_replayed(tmp_path, capsys):
    good, bad = write(tmp_path / "good.tsv"), tmp_path / "bad.tsv"
    bad.write_text("")
    missing = tmp_path / "missing.tsv"
    assert main(["replay", str(bad), str(missing), str(good)]) == 2
    told = capsys.readouterr()
    assert "bad.tsv: row 1" in told.err and "missing.tsv cannot be read" in told.err
    assert "good.tsv: 3 steps, exact" in told.out


def test_a_log_that_goes_on_after_the_end_differs(tmp_path):
    header = [
        *("Model name", "Step number", "Trial number", "Prompt message", "Amount food harvested"),
        *("Previous amount of food available", "New amount of food available"),
        *("Consumption reward", "Instability reward"),
    ]
    rows = [
        ["m", "1", "1", "", "10", "10.0", "0.0", "10", "0.0"],
        ["m", "2", "1", "", "0", "0.0", "1.0", "0", "0.0"],
    ]
    recording = read_recording(write(tmp_path / "log.tsv", rows, header))
    difference = replay(recording).first_difference
    assert (difference.row, difference.column) == (3, "New amount of food available")


def test_converted_logs_are_trajectories(tmp_path):
    file = write(tmp_path / "log.tsv")
    run = tmp_path / "run"
    assert main(["replay", str(file), str(file), "--convert", str(run)]) == 0
    trajectories = read_trajectories(run)
    assert len(trajectories) == 2
    t = trajectories[0]
    assert t.header.agent == "tester" and t.header.env_id == "Homeostasis-Single-v0"
    assert t.header.extra["exact"] and t.header.extra["trial"] == 7
    assert t.states[:, 0].tolist() == [100, 95, 118, 113] and t.actions[:, 0].tolist() == [0, 20, 0]
    assert t.rewards.sum() == -290 and t.noise[:, 0].tolist() == [-5, 3, -5]
    assert t.attempts[1][0].prompt == "Level: 95\n\nHow much?"
    assert main(["replay", str(file), "--convert", str(run)]) == 2  # nothing is overwritten


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the recorded BioBlue logs are not at {DATA}")
def test_all_recorded_logs_agree_in_every_state_and_reward(tmp_path, capsys):
    files = sorted(map(str, DATA.glob("*.tsv")))
    assert main(["replay", "--json", *files, "--convert", str(tmp_path / "run")]) == 0
    results = json.loads(capsys.readouterr().out)
    assert len(results) == 50 and all(r["exact"] and r["steps"] == 100 for r in results)
    trajectories = read_trajectories(tmp_path / "run")
    assert len(trajectories) == 50
    assert all(np.isfinite(t.rewards).all() for t in trajectories)
