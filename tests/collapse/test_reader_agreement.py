"""Agreement with human readers: coefficients, the verbs agreement, label and import, recorded logs."""

from __future__ import annotations

import csv
import importlib
import json
import math
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from homeostasis_gym.cli import main
from homeostasis_gym.collapse import (
    FlipDetector,
    Rating,
    cohens_kappa,
    krippendorffs_alpha,
    measure_agreement,
    score,
    subject_from_dict,
)
from homeostasis_gym.core import MOBUO, MOHoN
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.experiments.label_cli import COLUMNS, braille_plot, label_episodes
from homeostasis_gym.imports import read_logs


def test_kappa_of_a_textbook():
    # Cohen's own table: 50 cases, 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no.
    a = ["y"] * 25 + ["n"] * 25
    b = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohens_kappa(a, b) == pytest.approx(0.4)
    assert cohens_kappa(a, a) == 1.0
    assert math.isnan(cohens_kappa(["y"] * 3, ["y"] * 3))
    with pytest.raises(HomeostasisError, match="as many labels"):
        cohens_kappa(a, b[:-1])


def test_alpha_of_a_textbook():
    # Krippendorff's example of four observers and twelve units, nominal: 0.743.
    table = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    assert krippendorffs_alpha(table) == pytest.approx(0.743, abs=5e-4)
    assert math.isnan(krippendorffs_alpha([[1, 1], [1, 1]]))
    assert math.isnan(krippendorffs_alpha([[1, None], [None, 1]]))


@pytest.mark.skipif(importlib.util.find_spec("krippendorff") is None, reason="krippendorff is not installed")
def test_alpha_as_the_other_package_computes_it():
    import krippendorff

    rng = np.random.default_rng(0)
    for _ in range(20):
        table = rng.integers(0, 3, (3, 15)).astype(float)
        table[rng.random(table.shape) < 0.2] = np.nan
        ours = krippendorffs_alpha([[None if np.isnan(v) else int(v) for v in row] for row in table])
        assert ours == pytest.approx(krippendorff.alpha(table, level_of_measurement="nominal"))


def test_agreement_counts_everything():
    detector = {
        "a": Rating("flip", 10, "B"),
        "b": Rating("ok"),
        "c": Rating("mild", 3),
        "d": Rating("flip", 5, "A"),
        "e": None,
        "f": Rating("ok"),
    }
    reader = {
        "a": Rating("flip", 12, "B"),
        "b": Rating("ok"),
        "c": Rating("ok"),
        "d": Rating("mild", 5),
        "x": Rating("ok"),
        "e": Rating("ok"),
    }
    second = {"a": Rating("flip"), "b": Rating("mild")}
    result = measure_agreement(detector, {"one": reader, "two": second})
    assert result.flag.confusion == {"no flip": {"no flip": 2, "flip": 1}, "flip": {"no flip": 0, "flip": 1}}
    assert result.flag.kappa == pytest.approx(0.5)
    assert result.flag.interval[0] <= 0.5 <= result.flag.interval[1]
    assert result.flag.raters == 3
    assert result.verdict.observed == 0.5
    assert result.onset_error["errors"] == [-2]
    assert result.objective_agreement == 1.0
    assert [d["episode"] for d in result.disagreements] == ["c", "d"]
    assert (result.unrated, result.unmatched, result.unscored) == (["f"], ["x"], ["e"])
    json.dumps(result.to_dict(), allow_nan=False)
    with pytest.raises(HomeostasisError, match="must share names"):
        measure_agreement(detector, {"one": {"zzz": Rating("ok")}})
    with pytest.raises(HomeostasisError, match="`label` must be one of ok, mild, flip, got 'bad'"):
        Rating("bad")


def test_recorded_logs_agree_with_the_reader(bioblue, capsys):
    files = sorted(str(f) for f in bioblue.glob("*.tsv"))
    assert main(["agreement", str(bioblue / "labels.csv"), *files, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["flag"]["kappa"] >= 0.9
    assert result["verdict"]["kappa"] >= 0.8
    assert result["flag"]["episodes"] == 30
    assert result["onset_error"]["median_absolute"] <= 1


def test_recorded_logs_step_by_step(bioblue):
    runs = read_logs(bioblue)
    for t, s in zip(runs, score(runs), strict=True):
        detector = FlipDetector(subject_from_dict(t.header.benchmark))
        for k in range(len(t)):
            detector.update(t.states[k], t.actions[k], wasted=bool(t.forbidden[k]))
        flip = detector.flip
        assert (flip is not None) == s.flip
        if flip is not None:
            assert (flip.onset, flip.flagged) == (s.onset, s.flagged)
        assert detector.recovered(t.states[-1]) == s.recovered


def write_csv(path, rows, columns):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


@pytest.fixture
def logs(tmp_path) -> Path:
    """Two episodes of a stranger's agent: one feeds A for ever, one keeps it."""
    rows = []
    for episode, action in ((0, 5), (1, 0)):
        level = 100.0
        for step in range(1, 31):
            rows.append([episode, step, level, action, 90, 110, f"level {level}", f"{action}"])
            level += action
        rows.append([episode, 31, level, "", "", "", "", ""])
    columns = ["episode", "step", "level_A", "action_A", "lower_A", "upper_A", "prompt", "reply"]
    write_csv(tmp_path / "mine.csv", rows, columns)
    return tmp_path / "mine.csv"


def test_a_strangers_csv(logs):
    flips, keeps = score(read_logs(logs))
    assert (flips.verdict, flips.onset, flips.agent) == ("flip", 3, "mine")
    assert keeps.verdict == "ok"
    (first, _) = read_logs(logs)
    assert first.attempts[0][0].prompt == "level 100.0"
    assert first.states.shape == (31, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("step", "stop"), "row 1, column 'step': is missing"),
        (lambda t: t.replace("level_A", "height_A"), "row 1, column 'level_A': is missing .A stands for"),
        (lambda t: t.replace("0,3,", "0,4,", 1), "row 4, column 'step': must be 3, got '4'"),
        (lambda t: t.replace("0,2,105.0", "0,2,high", 1), "row 3, column 'level_A': must be a finite number"),
        (lambda t: t.replace("0,31,250.0,,,,,\n", ""), "row 31: the final levels are unknown"),
        (lambda t: t.replace("0,2,105.0,5,90", "0,2,105.0,5,91"), "column 'lower_A': must be constant"),
        (lambda t: t.replace("0,2,105.0,5,", "0,2,105.0,", 1), "row 3: must have 8 cells, got 7"),
        (lambda t: t.replace(",90,", ",190,"), "`lower` must be below `upper`"),
        (lambda t: "", "must hold a row of column names"),
        (
            lambda t: t.replace("lower_A", "lower_B"),
            "row 1, column 'lower_A': is missing, but the other edge",
        ),
        (lambda t: t.replace("prompt", "promt"), "row 1, column 'promt': is not known"),
        (
            lambda t: t.replace("prompt", "valid"),
            "row 2, column 'valid': must be a finite number, got 'level",
        ),
        (lambda t: t.replace("prompt", "noise_A"), "row 2, column 'noise_A': must be a finite number"),
        (lambda t: t.replace("prompt", "action_B"), "row 1, column 'action_B': is not known"),
        (
            lambda t: t.replace("\n0,", "\n0.5,"),
            "row 2, column 'episode': must be a whole number, got",
        ),
    ],
)
def test_a_broken_csv_is_named_by_row_and_column(logs, change, message):
    text = logs.read_text().replace("\r\n", "\n")
    logs.write_text(change(text))
    with pytest.raises(HomeostasisError, match=message):
        read_logs(logs)


def test_json_lines(tmp_path):
    episode = {
        "agent": "theirs",
        "benchmark": {"name": "mobuo", "max_consumption": None},
        "levels": [[110, 120 + 10 * k] for k in range(21)],
        "actions": [[0, 10]] * 20,
        "replies": ["0,10"] * 20,
    }
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(episode) + "\n\n" + json.dumps(episode | {"objectives": ["X", "Y"]}) + "\n")
    first, second = score(read_logs(path))
    assert (first.flip, first.onset, first.objective) == (True, 1, "B")
    assert first.regret == pytest.approx(first.reference_score - first.score)
    path.write_text(json.dumps(episode | {"rewards": [[0.5]] * 20}))
    (third,) = score(read_logs(path))
    assert third.regret is None
    assert "rewards unknown" in third.reason
    assert second.flip is True
    for change, message in [
        ({"levels": None}, "line 1: 'levels' must hold rows of numbers"),
        ({"levels": [[1, 2]]}, "line 1: 'levels' must have a row more than 'actions' .21., got 1"),
        ({"benchmark": {"name": "x"}}, "line 1: 'benchmark': `benchmark` must be one of"),
        ({"objectives": ["X"]}, "line 1: 'objectives' must hold 2 names, got 1"),
        ({"replies": ["0"]}, "line 1: 'replies' must hold 20 texts, got 1"),
        ({"replies": 5}, "line 1: 'replies' must be a list of texts, got 5"),
        ({"seed": "abc"}, "line 1: 'seed' must be a whole number, got 'abc'"),
        ({"seed": 1.5}, "line 1: 'seed' must be a whole number, got 1.5"),
        ({"episode": None}, "line 1: 'episode' must be a whole number, got None"),
        ({"extra": [1]}, "line 1: 'extra' must be an object"),
        ({"benchmark": "mohon"}, "line 1: 'benchmark' must be an object, got 'mohon'"),
        ({"reward_names": 3}, "line 1: 'reward_names' must be a list of names, got 3"),
        (
            {"rewards": [[1]] * 20, "reward_names": ["a", "b"]},
            "line 1: 'reward_names' must hold 1 names, got 2",
        ),
        ({"valid": ["false"] * 20}, "line 1: 'valid' must be true or false, got 'false'"),
        ({"valid": True}, "line 1: 'valid' must hold 20 truth values"),
        ({"terminated": "no"}, "line 1: 'terminated' must be true or false"),
        ({"objectives": ["X", "X"]}, "line 1: 'objectives' must hold different names"),
        ({"agent": 7}, "line 1: 'agent' must be a text, got 7"),
        ({"level": []}, "line 1: 'level' is not known; must be one of levels, actions"),
        ({"actions": [["0", "1"]] * 20}, "line 1: 'actions' must hold rows of numbers: texts"),
    ]:
        path.write_text(json.dumps(episode | change))
        with pytest.raises(HomeostasisError, match=message):
            read_logs(path)
    path.write_text("{")
    with pytest.raises(HomeostasisError, match="line 1: must be a JSON object"):
        read_logs(path)
    path.write_text("")
    with pytest.raises(HomeostasisError, match="at least one episode"):
        read_logs(path)
    with pytest.raises(HomeostasisError, match="`file` must exist"):
        read_logs(tmp_path / "nothing.csv")
    with pytest.raises(HomeostasisError, match="`file` must end in"):
        read_logs(Path(__file__))


def test_a_group_of_columns_is_whole(tmp_path):
    path = tmp_path / "two.csv"
    start = ["step", "level_A", "level_B", "action_A", "action_B"]
    for extra, missing in [
        (["next_level_A"], "next_level_B"),
        (["noise_B"], "noise_A"),
        (["lower_A", "upper_A"], "lower_B"),
        (["lower_A", "lower_B"], "upper_A"),
    ]:
        write_csv(path, [[1] * (5 + len(extra))], start + extra)
        with pytest.raises(HomeostasisError, match=f"row 1, column '{missing}': is missing, but"):
            read_logs(path)
    write_csv(path, [[1] * 8], [*start, "next_level_A", "next_level_B", "valid"])
    assert read_logs(path)[0].valid.all()
    write_csv(path, [[1] * 7 + [2]], [*start, "next_level_A", "next_level_B", "valid"])
    with pytest.raises(HomeostasisError, match="row 2, column 'valid': must be 0 or 1, got '2'"):
        read_logs(path)


def test_imported_logs_are_a_run_folder(logs, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    run = tmp_path / "run"
    assert main(["import", str(logs), "--out", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 2
    assert [s.verdict for s in score(read_logs(run))] == ["flip", "ok"]
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").exists()
    capsys.readouterr()
    assert main(["import", str(logs), "--out", str(run)]) == 2
    assert "must name a new or empty folder" in capsys.readouterr().err
    labels = tmp_path / "labels.csv"
    write_csv(labels, [["mine.csv#1", "flip", 3], ["mine.csv#2", "mild", 1]], ["file", "label", "onset_step"])
    assert main(["agreement", str(labels), str(run)]) == 0
    report = capsys.readouterr().out
    assert "disagreements: 1" in report
    assert "mine.csv#2: reader mild (step 1), detector ok" in report


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,word\na,ok\n", "row 1, column 'label': is missing"),
        ("file,label\na,good\n", "row 2, column 'label': `label` must be one of"),
        ("file,label\na,ok\na,ok\n", "row 3, column 'file': 'a' is labelled twice"),
        ("file,label,onset_step\na,flip,soon\n", "row 2, column 'onset_step': must be a whole number"),
        ("file,label\n,ok\n", "row 2, column 'file': must not be empty"),
        ("file,label\n", "must hold at least one label"),
    ],
)
def test_broken_labels_are_named_by_row_and_column(logs, tmp_path, capsys, text, message):
    labels = tmp_path / "labels.csv"
    labels.write_text(text)
    assert main(["agreement", str(labels), str(logs)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_several_raters(logs, tmp_path, capsys):
    labels = tmp_path / "labels.csv"
    rows = [[f"mine.csv#{k}", w, r] for r in ("ann", "ben") for k, w in ((1, "flip"), (2, "ok"))]
    write_csv(labels, rows, ["file", "label", "rater"])
    assert main(["agreement", str(labels), str(logs), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["readers"] == ["ann", "ben"]
    assert result["flag"]["raters"] == 3
    assert main(["agreement", str(labels), str(logs), "--also", str(labels)]) == 2
    assert "has labels in another file as well" in capsys.readouterr().err


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


class Keyboard:
    """A person, scripted."""

    def __init__(self, keys, lines):
        self.keys, self.lines, self.screen = list(keys), list(lines), []

    def label(self, runs, out, rater="me"):
        return label_episodes(
            runs,
            out,
            rater,
            0,
            key=lambda: self.keys.pop(0) if self.keys else "",
            line=lambda question: self.lines.pop(0) if self.lines else "",
            write=self.screen.append,
            width=80,
        )


def test_labelling_is_blind_resumable_and_undoable(play, tmp_path):
    runs = play(MOHoN(), [(0, 10)] * 100, range(5), agent="secret-agent-name")
    out = tmp_path / "labels.csv"
    first = Keyboard(
        ["z", "f", "o", "u", "m", "q"], ["200", "7", "c", "b", "ran away", "", "5", "", "sloppy"]
    )
    assert first.label(runs, out) == 2
    shown = "\n".join(first.screen)
    assert "secret-agent-name" not in shown
    assert "onset" not in shown
    assert "no such key: 'z'" in shown
    assert "must be a step from 1 to 100, got '200'" in shown
    assert "must be one of A, B, got 'c'" in shown
    rows = table(out)
    assert tuple(rows[0]) == COLUMNS
    assert [(r["label"], r["onset_step"], r["objective"], r["reason"]) for r in rows] == [
        ("flip", "7", "B", "ran away"),
        ("mild", "5", "", "sloppy"),
    ]
    again = Keyboard(["o", "s", "o", "o"], [])
    assert again.label(runs, out) == 4
    assert len({r["file"] for r in table(out)}) == 4
    last = Keyboard(["o"], [])
    assert last.label(runs, out) == 5
    assert Keyboard(["o"] * 9, []).label(runs, out) == 5  # nothing is asked twice
    assert Keyboard(["o"], []).label(runs, out, rater="another") == 1


def test_labelling_by_the_command_line(logs, tmp_path):
    out = tmp_path / "out.csv"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "homeostasis_gym.cli",
            "label",
            str(logs),
            "--out",
            str(out),
            "--rater",
            "ann",
        ],
        input="o\n\nf\n3\nbecause\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "2 of 2 episodes labelled by ann" in done.stdout
    assert {r["label"] for r in table(out)} == {"ok", "flip"}


def test_braille_plot():
    text = braille_plot(np.linspace(0, 10, 50), [5.0], 20, 4)
    lines = text.split("\n")
    assert len(lines) == 4
    assert lines[0].startswith("        10 ")
    assert lines[-1].startswith("         0 ")
    assert all(len(line) == 31 for line in lines)
    assert braille_plot(np.array([np.nan, np.nan]), [], 10, 2)


def test_mobuo_labels_need_no_band(play, tmp_path):
    runs = play(MOBUO(), [(5, 5)] * 100)
    assert Keyboard(["t", "o"], []).label(runs, tmp_path / "l.csv") == 1


def test_copies_are_drawn_together():
    detector = {f"a{k}": Rating("flip") for k in range(8)} | {f"b{k}": Rating("ok") for k in range(8)}
    reader = dict(detector) | {"b0": Rating("flip")}
    alone = measure_agreement(detector, {"one": reader})
    copies = {f"a{k}": "same" for k in range(8)} | {f"b{k}": f"b{k}" for k in range(8)}
    result = measure_agreement(detector, {"one": reader}, fingerprints=copies)
    assert (alone.flag.distinct, result.flag.distinct) == (16, 9)
    assert alone.flag.kappa == alone.flag.kappa_distinct == result.flag.kappa
    pairs = [("flip", "flip"), ("flip", "ok"), *[("ok", "ok")] * 7]
    assert result.flag.kappa_distinct == pytest.approx(cohens_kappa(*zip(*pairs, strict=True)))
    assert np.ptp(result.flag.interval) > np.ptp(alone.flag.interval)
    assert result.flag.undefined > 0  # without the one distinct flip there may be one label only


def test_copies_and_empty_intervals_are_told(tmp_path, capsys):
    episode = {"levels": [[110, 120]] * 21, "actions": [[0, 0]] * 20, "benchmark": {"name": "mohon"}}
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(json.dumps(episode) for _ in range(3)))
    labels = tmp_path / "labels.csv"
    names = [f"log.jsonl#{k}" for k in (1, 2, 3)]
    words = [s.verdict for s in score(read_logs(path))]
    write_csv(labels, list(zip(names, words, strict=True)), ["file", "label"])
    assert main(["agreement", str(labels), str(path)]) == 0
    out = capsys.readouterr().out
    assert "3 episodes, 1 distinct" in out
    assert "without copies" in out


@pytest.mark.parametrize(
    "header", ["file,label,outcome", "file,label,onset_step,objective,reason,rater,notes"]
)
def test_labelling_spoils_no_other_table(logs, tmp_path, capsys, header):
    out = tmp_path / "out.csv"
    text = f"{header}\nmine.csv#1,ok{',x' * (header.count(',') - 1)}\n"
    out.write_text(text)
    assert main(["label", str(logs), "--out", str(out), "--rater", "ann"]) == 2
    assert f"{out}: row 1: `--out` must name a new file" in capsys.readouterr().err
    assert out.read_text() == text


@pytest.fixture
def terminal(logs, tmp_path):
    """The verb label at a terminal of its own: what to type, and how to wait for what it shows."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "homeostasis_gym.cli", "label", str(logs)]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out.csv"), "--rater", "ann"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = ""

    def wait(text: str) -> str:
        nonlocal seen
        end = time.monotonic() + 60
        while text not in seen:
            assert time.monotonic() < end, seen
            if select.select([ours], [], [], 0.2)[0]:
                seen += os.read(ours, 65536).decode(errors="replace")
        before, seen = seen.split(text, 1)
        return before

    yield lambda keys: os.write(ours, keys.encode()), wait
    process.kill()
    process.wait()
    os.close(ours)


def test_labelling_at_a_terminal(terminal, tmp_path):
    type_keys, wait = terminal
    wait("q quit")
    time.sleep(0.3)
    type_keys("\x1b[A")  # an arrow is no answer
    time.sleep(0.3)
    type_keys("ofmo")  # the first answers; what is typed ahead labels nothing that was not seen
    wait("reason")
    time.sleep(0.3)
    type_keys("\n")
    wait("episode 2 of 2")
    assert "no such key" not in wait("q quit")
    time.sleep(0.5)
    assert [(r["label"], r["reason"]) for r in table(tmp_path / "out.csv")] == [("ok", "")]
    type_keys("q")
    wait("1 of 2 episodes labelled by ann")


def test_totals_share_an_axis(play, tmp_path):
    runs = play(MOBUO(), [(1, 9)] * 100)
    person = Keyboard(["q"], [])
    person.label(runs, tmp_path / "l.csv")
    shown = "\n".join(person.screen)
    assert shown.count("one scale for all") == 2
    highest = float(runs[0].states.max())
    assert shown.count(f"{highest:>10.4g} ") == 2
