"""The page of a run: what it says, that it is whole, and that nothing an agent says becomes markup."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from homeostasis_gym.collapse import score
from homeostasis_gym.core import MOBUO, MOHoN, Single, SleepWake, Sustainability, ValueGraph
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.report import write_report
from homeostasis_gym.report._svg import Axis, short


class Reader(HTMLParser):
    """Counts elements and collects what is loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: dict[str, int] = {}
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.data = ""
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] = self.elements.get(tag, 0) + 1
        given = dict(attrs)
        self.loaded += [str(given[k]) for k in ("src", "xlink:href", "data", "srcset") if k in given]
        if tag != "a" and "href" in given:
            self.loaded.append(str(given["href"]))
        if any(name.startswith("on") for name in given):
            self.loaded.append(str(given))
        if tag not in ("meta", "link", "br", "img", "input", "hr"):
            self.open.append(tag)
        self.inside = given.get("id") or "" if tag == "script" else ""

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.inside == "episodes":
            self.data += data


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def test_page_is_whole_escaped_and_loads_nothing(tmp_path, compared, evil):
    runs = compared
    path = write_report(tmp_path, {"seed": 1, "note": evil}, runs, score(runs))
    assert path == tmp_path / "report.html"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    page = read(path)
    assert page.loaded == []
    assert page.elements["script"] == 2
    assert "img" not in page.elements
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    assert evil not in text
    episodes = json.loads(page.data)
    assert len(episodes) == 9
    said = next(e for e in episodes.values() if e["attempts"])
    assert said["attempts"][4] == [
        [f"prompt 5 {evil}", "refused 5", "no numbers", ""],
        ["", f"reply 5 {evil}", "", ""],
    ]


def test_page_shows_every_episode_and_every_onset(tmp_path, compared):
    runs = compared
    scores = score(runs)
    text = write_report(tmp_path, {}, runs, scores).read_text(encoding="utf-8")
    assert text.count('<button type="button" class="episode"') == 9
    assert text.count('class="onset"') == sum(s.flip is True for s in scores) == 3
    assert "3 of 3 episodes flipped" in text
    assert "0 of 3 episodes flipped" in text
    assert "Share of episodes without a flip so far" in text
    assert "flip_count=5" in text
    assert "base-stock" in text


def test_many_episodes_are_all_in_the_figure(tmp_path, played, maximiser):
    benchmark = MOHoN(episode_length=20)
    runs = played(benchmark, maximiser, "many", count=80)
    text = write_report(tmp_path, {}, runs, score(runs)).read_text(encoding="utf-8")
    assert text.count('<button type="button" class="episode"') == 60
    assert "20 more episodes" in text
    assert len(re.findall(r'class="line o1 flipped"', text)) == 80


@pytest.mark.parametrize(
    "benchmark",
    [
        Single(),
        MOBUO(),
        Sustainability(),
        SleepWake(),
        SleepWake(switching="chance"),
        MOHoN(objectives=9),
        ValueGraph(episode_length=50),
    ],
    ids=lambda b: b.name,
)
def test_every_kind_of_benchmark(tmp_path, benchmark, played):
    policy = benchmark.policy(benchmark.reference_policy)
    runs = played(benchmark, policy, "handwritten", count=2)
    assert read(write_report(tmp_path, {}, runs, score(runs))).loaded == []


def test_unscored_and_unknown_are_told(tmp_path, played, maximiser):
    runs = played(MOHoN(), maximiser, "x", count=2)
    unknown = [replace(t, header=replace(t.header, benchmark={})) for t in runs]
    broken = [replace(t, states=np.full_like(t.states, np.nan)) for t in runs]
    for some in (unknown, broken):
        text = write_report(tmp_path, {}, some, score(some)).read_text(encoding="utf-8")
        assert "2 episodes are unscored" in text
        assert not re.search(r"[>,\[:]\s*(nan|NaN|Infinity)\b", text)


def test_records_of_any_shape(tmp_path, played, maximiser):
    """One agent in several environments, too short ones, and ones that are not ours."""
    (t,) = played(MOHoN(), maximiser, "x", count=1)
    empty = {n: getattr(t, n)[:0] for n in ("actions", "rewards", "noise", "valid", "forbidden", "seconds")}
    never = replace(t, observations=t.observations[:1], states=t.states[:1], attempts=(), **empty)
    alien = replace(
        t,
        header=replace(t.header, benchmark={}, objective_names=()),
        observations=np.zeros((101, 4)),
        actions=np.zeros(100, dtype=np.int64),
        noise=np.zeros((100, 0)),
    )
    runs = [t, never, alien, *played(MOBUO(), maximiser, "x", count=1)]
    scores = score(runs)
    assert [s.flip for s in scores] == [True, None, None, True]
    assert "without a step" in scores[1].reason
    assert read(write_report(tmp_path, {}, runs, scores)).loaded == []


def test_lost_steps_are_a_column_of_their_own(tmp_path, played, maximiser):
    runs = played(MOHoN(), maximiser, "x", count=2, talks=True)
    lost = np.ones(100, dtype=bool)
    lost[[3, 5, 8]] = False
    runs[1] = replace(runs[1], valid=lost)
    text = write_report(tmp_path, {}, runs, score(runs)).read_text(encoding="utf-8")
    headings = re.findall(r'<th scope="col" title="[^"]*"><button type="button">([^<]*)<', text)
    row = re.findall(r'<td data-value="([^"]*)">', text)
    assert len(row) == len(headings)
    told = dict(zip(headings, row, strict=True))
    assert told["invalid replies"] == repr(200 / 397) and told["lost steps"] == "3.0"
    assert "50.4 % <small>200 of 397</small>" in text
    assert "Tokens are means" not in text, "nobody counted any"


def test_wrong_input_is_named(tmp_path, compared):
    runs = compared
    with pytest.raises(HomeostasisError, match="at least one episode"):
        write_report(tmp_path, {}, [], [])
    with pytest.raises(HomeostasisError, match=r"one result per trajectory \(9\), got 8"):
        write_report(tmp_path, {}, runs, score(runs)[:-1])


def test_axis():
    bent = Axis(-10.0, 1e6, 0.0, 300.0, 0.0, 10.0)
    assert bent(-10.0) == 0.0
    assert bent(1e6) == pytest.approx(300.0)
    places = [bent(v) for v in bent.ticks(24.0)]
    assert all(b - a >= 24.0 for a, b in pairwise(places))
    assert 0.0 in bent.ticks()
    assert Axis(0, 100, 0, 300).ticks(60) == [0, 20, 40, 60, 80, 100]
    assert Axis(5, 5, 0, 300).ticks() == [5]
    assert [short(v) for v in (0, 1.5, -20, 12345, 2.5e6)] == [
        "0",
        "1.5",
        "\N{MINUS SIGN}20",
        "12.3k",
        "2.5M",
    ]


def test_what_the_records_say_of_an_agent_is_shown(tmp_path, played, maximiser):
    runs = played(MOHoN(), maximiser, "x", count=2)
    same = {"model": "tiny <b>", "client": {"temperature": 0.7}, "prompt_fingerprint": "abc"}
    runs = [replace(t, header=replace(t.header, extra={**same, "file": f"{k}"})) for k, t in enumerate(runs)]
    text = write_report(tmp_path, {}, runs, score(runs)).read_text(encoding="utf-8")
    shown = re.search(r"<summary>x</summary><pre>(.*?)</pre>", text, re.DOTALL)[1]
    for word in ("tiny &lt;b&gt;", "temperature&#34;: 0.7", "abc", "(differs between episodes)"):
        assert word in shown, shown
    text = write_report(tmp_path, {}, *(lambda r: (r, score(r)))(played(MOHoN(), maximiser, "x", count=1)))
    assert "as their records have them" not in text.read_text(encoding="utf-8")


def test_an_episode_that_the_agent_ended_is_unscored(tmp_path, played, maximiser):
    runs = played(MOHoN(), maximiser, "x", count=2)
    arrays = ("actions", "rewards", "noise", "valid", "forbidden", "seconds")
    cut = {name: getattr(runs[1], name)[:40] for name in arrays}
    ends = {name: getattr(runs[1], name)[:41] for name in ("observations", "states")}
    runs[1] = replace(runs[1], **cut, **ends, attempts=(), ended_by_agent=True)
    scores = score(runs)
    assert [one.verdict for one in scores] == ["flip", None] and scores[0].score == runs[0].score
    text = write_report(tmp_path, {}, runs, scores).read_text(encoding="utf-8")
    assert "1 episodes are unscored: the agent ended the episode before its time." in text
