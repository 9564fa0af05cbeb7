"""Ensembles, phase maps and the verb ``alice-bob``."""

import argparse
import json
import math

import numpy as np
import pytest

from homeostasis_gym.core.value_graph import CollapseRule, Outcomes, reference
from homeostasis_gym.errors import HomeostasisError, UnknownNameError
from homeostasis_gym.experiments import alice_bob_cli
from homeostasis_gym.experiments.alice_bob import (
    Axis,
    Ensemble,
    Rate,
    phase_map,
    run_ensemble,
    summarize,
    survival,
)

pytest.importorskip("scipy", reason="the extra `report` is not installed")


def verb(*words):
    """Run the verb as the command line does."""
    parser = argparse.ArgumentParser()
    alice_bob_cli.add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["alice-bob", *words])
    return arguments.run(arguments)


def made_up():
    """Four runs: only B, both (A first), none, both in the same step."""
    onset = np.zeros((4, 2, 3), dtype=np.int32)
    onset[0, 1] = [50, 40, 0]
    onset[1, 0] = [10, 0, 0]
    onset[1, 1] = [0, 0, 90]
    onset[3, 0] = [30, 30, 0]
    onset[3, 1] = [0, 30, 0]
    return Outcomes(onset, np.zeros((4, 2, 3)), 100, CollapseRule(hold=5))


def test_summary_counts_what_happened():
    params = reference()
    found = summarize(params, made_up())
    assert (found.one_sided.count, found.all_agents.count, found.none.count) == (1, 2, 1)
    assert [rate.count for rate in found.agents.values()] == [2, 3]
    assert {name: rate.count for name, rate in found.first_agents.items()} == {"ALICE": 2, "BOB": 2}
    assert {name: rate.count for name, rate in found.first_values.items()} == {
        "Power": 2,
        "Self-direction": 2,
        "Benevolence": 1,
    }
    assert found.onset[1] == 30
    assert found.rule == "negative: level below 0, 5 steps in a row"
    # By step 93 the collapse that began at 90 has not lasted long enough to be known.
    early = summarize(params, made_up(), by=93)
    assert (early.one_sided.count, early.all_agents.count) == (2, 1)
    assert summarize(params, made_up(), by=94).all_agents.count == 2
    quiet = summarize(params, made_up(), by=12)
    assert quiet.none.count == 4
    assert quiet.onset is None
    with pytest.raises(HomeostasisError, match=r"`by` must be in 5\.\.100, got 101"):
        summarize(params, made_up(), by=101)


def test_intervals_are_wilsons():
    rate = Rate.of(np.array([True] * 385 + [False] * 615))
    z, p, n = 1.959963984540054, 0.385, 1000
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert rate.low == pytest.approx(middle - half, abs=1e-12)
    assert rate.high == pytest.approx(middle + half, abs=1e-12)
    assert str(rate) == "0.385 [0.355, 0.416]"


def test_survival_censors_what_did_not_collapse():
    pytest.importorskip("lifelines", reason="the extra `report` is not installed")
    curve = survival(made_up())
    # First collapses at 10, 30 and 40; the fourth run is censored at 96, as none could begin later.
    shown = dict(zip(curve.steps.tolist(), curve.surviving.tolist(), strict=True))
    assert shown == pytest.approx({0: 1, 10: 0.75, 30: 0.5, 40: 0.25, 96: 0.25})
    assert curve.median == 30
    assert ((curve.low <= curve.surviving) & (curve.surviving <= curve.high)).all()
    alice = survival(made_up(), 0)
    assert alice.surviving[-1] == pytest.approx(0.5)
    never = Outcomes(np.zeros((3, 2, 3), np.int32), np.zeros((3, 2, 3)), 50, CollapseRule(hold=1))
    assert survival(never).to_dict()["median"] is None


def test_phase_map_repeats_the_single_ensembles():
    base = Ensemble(reference(), seeds=120, steps=600)
    x = Axis("rate", (0.02, 0.03, 0.04))
    y = Axis("max_step", (0.05, 0.1))
    found = phase_map(base, x, y, threads=2)
    assert found.one_sided.shape == (2, 3)
    np.testing.assert_array_equal(found.one_sided, phase_map(base, x, y).one_sided)
    for i, step in enumerate(y.points):
        for j, rate in enumerate(x.points):
            own = base.with_number("rate", rate).with_number("max_step", step)
            alone = summarize(own.params, run_ensemble(own))
            assert found.one_sided[i, j] == alone.one_sided.count
            assert found.all_agents[i, j] == alone.all_agents.count
            assert found.none[i, j] == alone.none.count
            if alone.onset is not None:
                assert found.median_onset[i, j] == alone.onset[1]
    assert found.one_sided.max() > 60
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    low, high = data["one_sided"]["interval"][0][2]
    assert low <= data["one_sided"]["rate"][0][2] <= high
    assert data["ensemble"]["collapse"]["words"].startswith("negative: level below 0")


def test_phase_map_over_the_schedule_and_the_rule():
    base = Ensemble(reference(), schedule="front_loaded", seeds=1, steps=1000)
    found = phase_map(base, Axis("schedule.share", (0.5, 0.8)), Axis("collapse.hold", (1, 20)))
    # Fair turns never collapse by then; loaded ones do, whatever the rule.
    np.testing.assert_array_equal(found.one_sided, [[0, 1], [0, 1]])
    assert found.median_onset[0, 1] < found.median_onset[1, 1]


def test_axes_are_read():
    assert Axis.parse("rate=0.02:0.04:3") == Axis("rate", (0.02, 0.03, 0.04))
    assert Axis.parse("between:Power:Power=-1,0") == Axis("between:Power:Power", (-1.0, 0.0))
    for text in ("rate", "rate=a:b:c", "rate=1:2", "=1,2"):
        with pytest.raises(HomeostasisError, match="an axis must be written NAME=FROM:TO:COUNT"):
            Axis.parse(text)
    with pytest.raises(HomeostasisError, match="`points` of axis rate must be different"):
        Axis.parse("rate=1:1:2")


def test_ensembles_that_are_refused():
    base = Ensemble(reference())
    with pytest.raises(HomeostasisError, match="`seeds` must be at least 1, got 0"):
        Ensemble(reference(), seeds=0)
    with pytest.raises(HomeostasisError, match=r"`steps` must be at least the rule's hold \(20\), got 5"):
        Ensemble(reference(), steps=5)
    with pytest.raises(UnknownNameError, match="schedule random has no parameter 'share'; it has none"):
        base.with_number("schedule.share", 0.5)
    with pytest.raises(UnknownNameError, match="collapse has the parameters level and hold, got 'depth'"):
        base.with_number("collapse.depth", 0.5)
    with pytest.raises(HomeostasisError, match="the axes must vary different parameters, got rate twice"):
        phase_map(base, Axis("rate", (0.1,)), Axis("rate", (0.2,)))


def test_verb_prints_the_published_rate(capsys):
    assert verb("--seeds", "1000", "--threads", "1") == 0
    printed = capsys.readouterr().out
    assert "collapse is negative: level below 0, 20 steps in a row" in printed
    assert "one-sided                0.385 [0.355, 0.416]" in printed
    assert "1 million run-steps in" in printed


def test_verb_prints_json(capsys):
    words = ("--seeds", "50", "--steps", "400", "--rebalancing", "none", "--survival", "--json")
    assert verb(*words) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["summary"]["all_agents"]["count"] == 50
    assert data["ensemble"]["params"]["rebalancing"] == "none"
    assert set(data["survival"]) == {"any agent", "ALICE", "BOB"}
    assert data["survival"]["any agent"]["median"] < 60
    assert data["files"] == []


def test_verb_sets_any_number(capsys):
    words = ("--set", "rate=0.03", "--set", "between:Power:Self-direction=0", "--seeds", "20", "--json")
    assert verb(*words) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["ensemble"]["params"]["rate"] == 0.03
    assert data["ensemble"]["params"]["between_clipped"][0][1] == 0.0
    assert data["summary"]["none"]["count"] == 20


def test_verb_draws_a_phase_map(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the extra `report` is not installed")
    out = tmp_path / "map"
    words = ("--seeds", "20", "--steps", "300", "--grid", "rate=0.02:0.06:3", "--grid", "target=5,10")
    assert verb(*words, "--collapse", "decline", "--out", str(out)) == 0
    printed = capsys.readouterr().out
    assert "collapse is decline: level has lost 50% of its peak, 20 steps in a row" in printed
    assert "rows target, columns rate" in printed
    data = json.loads((out / "result.json").read_text())
    assert np.shape(data["one_sided"]["rate"]) == (2, 3)
    pictures = sorted(path.name for path in out.glob("*.svg"))
    assert pictures == [
        f"phase-map-{what}-{shade}.svg"
        for what in ("all-agents", "none", "one-sided")
        for shade in ("dark", "light")
    ]
    text = (out / "phase-map-one-sided-light.svg").read_text()
    assert "interaction rate (per step)" in text
    assert "level has lost 50% of its peak" in text


def test_verb_draws_survival(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the extra `report` is not installed")
    pytest.importorskip("lifelines", reason="the extra `report` is not installed")
    assert verb("--seeds", "20", "--steps", "300", "--survival", "--out", str(tmp_path), "--json") == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert len(files) == 5
    drawn = (tmp_path / "survival-dark.svg").read_text()
    assert "time (steps)" in drawn
    # The same data make the same file.
    assert verb("--seeds", "20", "--steps", "300", "--survival", "--out", str(tmp_path), "--json") == 0
    assert (tmp_path / "survival-dark.svg").read_text() == drawn


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--grid", "rate=1,2"), "`--grid` must be given twice or not at all, got 1"),
        (("--set", "rate"), "`--set` must be written NAME=NUMBER, got 'rate'"),
        (("--set", "speed=1"), "parameter must be one of rate"),
        (("--rebalancing", "wishful"), "`rebalancing` must be one of none"),
        (("--seeds", "0"), "`seeds` must be at least 1, got 0"),
        (("--hold", "0"), "collapse `hold` must be a whole number, at least 1, got 0"),
        (("--threads", "0"), "`threads` must be at least 1, got 0"),
        (("--grid", "rate=1,2", "--grid", "target=1,2", "--survival"), "`--survival` shows one ensemble"),
    ],
)
def test_verb_refuses_with_one_line(words, message):
    with pytest.raises(HomeostasisError, match=message) as caught:
        verb(*words)
    assert "\n" not in str(caught.value)


def test_article_preset_takes_turns(capsys):
    assert verb("--preset", "article", "--seeds", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["ensemble"]["schedule"]["name"] == "alternating"


def test_runs_that_do_not_differ_have_no_intervals(capsys):
    words = ("--seeds", "20", "--steps", "50", "--threads", "1")
    assert verb("--preset", "article", *words) == 0
    printed = capsys.readouterr().out
    assert "only 1 different run(s) among the 20" in printed
    assert "[" not in printed
    assert verb("--decay", "multiplicative", "--set", "decay_rate=0.01", *words) == 0
    assert "95 % interval" in capsys.readouterr().out
    with pytest.raises(HomeostasisError, match="`decay_rate` must be 0 with decay none"):
        verb("--set", "decay_rate=0.01", *words)


def test_a_map_in_several_chunks_is_the_same(monkeypatch):
    ensemble = Ensemble(reference(rate=0.04), seeds=30, steps=400)
    axes = (Axis("rate", (0.03, 0.05)), Axis("max_step", (0.08, 0.1)))
    whole = phase_map(ensemble, *axes)
    monkeypatch.setattr("homeostasis_gym.experiments.alice_bob._CHUNK", 7)
    parts = phase_map(ensemble, *axes)
    np.testing.assert_array_equal(whole.one_sided, parts.one_sided)
    np.testing.assert_array_equal(whole.median_onset, parts.median_onset)
    first = run_ensemble(ensemble.with_number("max_step", 0.08).with_number("rate", 0.05)).agent_onset()
    begun = np.where(first == 0, 10**6, first).min(axis=1)
    assert whole.median_onset[0, 1] == np.median(begun[begun < 10**6])
