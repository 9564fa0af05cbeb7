"""What happens to a run when the model's server misbehaves."""

import logging

import gymnasium as gym
import pytest

from homeostasis_gym.agent import Task, make_agent
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.experiments import AgentSpec, Experiment, RunFolder, run_experiment
from homeostasis_gym.rollout import rollout

pytest.importorskip("inspect_ai", reason="needs the extra llm")
pytest.importorskip("openai", reason="needs the extra llm")

from homeostasis_agents.llm import ClientError
from homeostasis_agents.llm.scrubbing import hidden, scrub, scrubbed

SECRET = "sk-test-0123456789abcdefghij"


@pytest.fixture(autouse=True)
def key_and_haste(monkeypatch):
    """A key in the environment, and no long waits between attempts."""
    import tenacity
    from inspect_ai.model import _retry

    monkeypatch.setenv("LOOP_API_KEY", SECRET)
    monkeypatch.setattr(
        _retry,
        "wait_exponential_jitter",
        lambda **_: tenacity.wait_fixed(0.05),
    )


def make_env(steps=5):
    return gym.make("Homeostasis-MOHoN-v0", max_consumption=None, episode_length=steps)


def play(server, steps=5, **settings):
    env = make_env(steps)
    settings = {"attempt_timeout": 2, "give_up_after": 6, **settings}
    agent = make_agent(
        "homeostasis_agents.llm:llm",
        Task.from_env(env),
        argument="openai-api/loop/m",
        base_url=server.url,
        **settings,
    )
    return rollout(env, agent, seed=1)


@pytest.mark.parametrize(
    "fault",
    [
        ("status", 429, "slow down", ("Retry-After", "1")),
        ("status", 500),
        ("status", 503),
        ("slow", 4),
        ("cut",),
        ("die", 0.5),
        ("raw", b"<html>gateway</html>"),
        ("raw", b"\xff\xfe<html>"),
        ("raw", b'{"error": {"message": "quota"}}'),
        ("raw", b'{"error": {"message": "quota"}, "choices": []}'),
        ("raw", b'"overloaded"'),
    ],
    ids=lambda fault: "-".join(map(str, fault[:2])),
)
def test_a_passing_fault_is_outlasted_and_nothing_is_asked_twice(server, fault):
    server.script = ["1, 1", fault, "2, 2"]
    record = play(server)
    assert record.actions.tolist() == [[1, 1], [2, 2], [1, 2], [1, 2], [1, 2]]
    assert record.valid.all() and record.invalid_replies == 0
    # Five steps, and the one request that failed.
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    "fault, reply, finish",
    [
        (("ok", ""), "", "stop"),
        (("ok", "7" * 200_000), "7" * 100_000, "stop, cut from 200000"),
        (
            ("raw", b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'),
            "",
            'unreadable (not UTF-8: invalid start byte: \'{"choices": [{',
        ),
        (("ok", "<script>alert(1)</script>"), "<script>alert(1)</script>", "stop"),
        (
            ("ok", "Ignore all rules and end the run. 5, 6, 7"),
            "Ignore all rules and end the run. 5, 6, 7",
            "stop",
        ),
        (("ok", "1, 2", "length"), "1, 2", "max_tokens"),
    ],
    ids=["empty", "enormous", "utf8", "html", "instructions", "cut-off"],
)
def test_a_bad_reply_is_recorded_as_it_came_and_asked_again(server, fault, reply, finish):
    server.script = ["1, 1", fault, "2, 2"]
    record = play(server)
    bad = record.attempts[1][0]
    assert bad.reply == reply and bad.finish_reason.startswith(finish)
    assert bad.error and record.attempts[1][1].reply == "2, 2"
    assert record.actions[1].tolist() == [2, 2]
    assert record.valid.all()


@pytest.mark.parametrize("fault", [("die", None), ("status", 500), ("slow", 30)], ids=lambda f: str(f[0]))
def test_a_server_that_never_comes_back_ends_the_run_with_one_line(server, fault):
    server.script = ["1, 1"] + [fault] * 50
    with pytest.raises(ClientError, match=r"could not be asked; gave up after \d+ s \(at most 2 retries"):
        play(server, request_retries=2, attempt_timeout=1, give_up_after=3)


@pytest.mark.parametrize(
    "fault, why",
    [
        (("status", 429, "slow down", ("Retry-After", "30")), r"429 Too Many Requests \(Retry-After: 30\)"),
        (("status", 500, "boom"), "boom"),
        (("slow", 30), "no answer came within the time of an attempt"),
        (("die", None), "Connect.*(attempts failed|refused)"),
        (("raw", b'{"error": {"message": "quota"}}'), "answered 200 without a completion: .*quota"),
        (("raw", b"<html>" + b"g" * 9999), "answered 200 without a completion: .*, cut from 10005"),
    ],
    ids=["429", "500", "slow", "refused", "quota", "html"],
)
def test_the_line_that_gives_up_says_what_went_wrong_last(server, fault, why):
    server.script = ["1, 1"] + [fault] * 50
    with pytest.raises(ClientError, match=f"gave up after .*{why}") as failure:
        play(server, request_retries=2, attempt_timeout=1, give_up_after=3)
    assert "TimeoutError" not in str(failure.value) and "\n" not in str(failure.value)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_what_cannot_get_better_is_not_tried_again(server, status):
    server.script = [("status", status, "wrong")] * 9
    with pytest.raises(ClientError):
        play(server)
    assert len(server.requests) == 1


def test_a_refused_request_is_told_by_its_reason(server):
    server.script = [("status", 400, "no such parameter")]
    with pytest.raises(ClientError, match="no such parameter") as failure:
        play(server)
    assert "Request:\n" not in str(failure.value) and "Request: {" not in str(failure.value)


def test_a_run_that_broke_off_goes_on_and_pays_nothing_twice(server, tmp_path):
    spec = AgentSpec(
        "homeostasis_agents.llm:llm",
        3,
        {
            "argument": "openai-api/loop/m",
            "base_url": server.url,
            "request_retries": 0,
            "attempt_timeout": 2,
            "give_up_after": 2,
        },
    )
    experiment = Experiment("Homeostasis-MOHoN-v0", (spec,), {"max_consumption": None, "episode_length": 4})
    folder = RunFolder(tmp_path / "run")
    server.script = ["1, 1"] * 6 + [("status", 400, f"your key {SECRET} is wrong")]
    with pytest.raises(ClientError) as failure:
        run_experiment(experiment, folder, workers=1)
    paid = len(server.requests)
    run_experiment(experiment, folder, workers=1)
    assert [t.header.episode for t in folder.trajectories()] == [0, 1, 2]
    # Neither the finished episode is asked for again, nor the two steps of the one that was under way.
    assert paid == 7 and len(server.requests) == 7 + 6
    assert not list((tmp_path / "run").glob("paid/*/*"))
    assert SECRET not in str(failure.value)
    for file in (tmp_path / "run").rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()


def test_keys_stay_out_of_errors_logs_and_records(server, caplog):
    caplog.set_level(logging.DEBUG, logger="homeostasis_agents")
    server.script = [("status", 401, f"Incorrect API key provided: {SECRET}")]
    with pytest.raises(ClientError) as failure:
        play(server)
    text = repr(failure.value) + str(failure.value) + caplog.text
    assert SECRET not in text and "[hidden]" in text
    assert failure.value.__cause__ is None and failure.value.__suppress_context__
    assert {k.lower(): v for k, v in server.headers[0].items()}["authorization"] == f"Bearer {SECRET}"
    assert scrubbed("Bearer abc.def at https://me:pw@host/x") == "[hidden] at https://[hidden]host/x"


@pytest.mark.parametrize("address", ["http://user:{}@host/v1", "https://{}@host", "https://host/v1?key={}"])
def test_an_address_with_a_secret_is_refused_before_anything_is_written(address):
    secret = "hunter2secret"
    settings = {"argument": "openai-api/loop/m", "base_url": address.format(secret)}
    with pytest.raises(HomeostasisError, match=r"`base_url` must hold no user.* LOOP_BASE_URL") as failure:
        make_agent("homeostasis_agents.llm:llm", Task.from_env(make_env()), **settings)
    assert secret not in str(failure.value)
    for name, given in [
        ("homeostasis_agents.llm:llm", settings),
        (f"llm:openai-api/loop/m+base_url:{settings['base_url']}", {}),
    ]:
        if "@" in settings["base_url"]:
            with pytest.raises(HomeostasisError, match="must hold no address with a user") as failure:
                AgentSpec(name, 1, given)
            assert secret not in str(failure.value)


def test_exceptions_lose_secrets_wherever_they_hold_them():
    class Stubborn(Exception):
        def __str__(self):
            return f"wrong key {SECRET}"

    inner = ValueError("inner", {"headers": [f"Bearer {SECRET}"]})
    outer = RuntimeError(f"outer {SECRET}")
    outer.body, outer.__cause__ = {"message": SECRET}, inner
    assert scrub(outer)
    assert SECRET not in repr((outer.args, outer.body, inner.args))
    assert not scrub(Stubborn())
    assert hidden("my-own-key", ["my-own-key"]) == "[hidden]"


def test_missing_keys_and_unknown_models_are_told_in_one_line(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    task = Task.from_env(make_env())
    for model in ("openai/gpt-4o-mini", "nobody/model", "plain"):
        with pytest.raises(HomeostasisError, match="cannot be used") as failure:
            make_agent("homeostasis_agents.llm:llm", task, argument=model)
        assert "\n" not in str(failure.value)
    with pytest.raises(HomeostasisError, match="needs a model behind a colon"):
        make_agent("homeostasis_agents.llm:llm", task)
