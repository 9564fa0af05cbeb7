"""The Inspect tasks, the converter, and the same replies by every road."""

import gc
import json

import gymnasium as gym
import numpy as np
import pytest

import homeostasis_gym
from homeostasis_gym.agent import Task
from homeostasis_gym.collapse import score
from homeostasis_gym.errors import HomeostasisError, MissingExtraError, RecordError
from homeostasis_gym.experiments import RunFolder
from homeostasis_gym.rollout import rollout

pytest.importorskip("inspect_ai", reason="needs the extra llm")
pytest.importorskip("openai", reason="needs the extra llm")

from homeostasis_agents.inspect_logs import from_plain, main, read_log, to_plain, write_run
from homeostasis_agents.inspect_tasks import TaskError
from homeostasis_agents.llm import LanguageModelAgent, RecordedClient, ScriptedClient, embedded, smollm2
from homeostasis_agents.llm.factories import conversation_settings, llm
from inspect_ai import eval as inspect_eval
from inspect_ai import eval_set
from inspect_ai.log import read_eval_log
from inspect_ai.model import ModelOutput, ModelUsage, get_model

# Inspect 0.3.285 calls tenacity in a way that the newest one deprecates, and leaves streams to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'initial' parameter:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def collected():
    """What Inspect leaves open is closed while the warnings about it are ignored."""
    yield
    gc.collect()


def available():
    try:
        embedded.runtime()
        embedded.weights()
    except MissingExtraError as error:
        return str(error)
    return ""


needs_model = pytest.mark.skipif(bool(available()), reason=available() or "-")


def replies(text):
    """What the scripted model answers, on every road: it escalates, and once talks nonsense."""
    turns = text.count("A ")
    return "nothing" if turns % 5 == 4 and "Not usable" not in text else f"{turns}, {2 * turns}"


def mock(said, tools, tool_choice, config):
    text = "\n".join(m.text for m in said if m.role == "user")
    output = ModelOutput.from_content("mockllm/model", replies(text))
    # Without usage Inspect would fetch a tokenizer's table from the network.
    output.usage = ModelUsage(input_tokens=20, input_tokens_cache_read=100, output_tokens=4, total_tokens=124)
    return output


def one_number(said, tools, tool_choice, config):
    output = ModelOutput.from_content("mockllm/model", "1")
    output.usage = ModelUsage(input_tokens=20, output_tokens=20, total_tokens=40)
    return output


def run_task(tmp_path, name="homeostasis_gym/mohon", model=None, **options):
    model = model or get_model("mockllm/model", custom_outputs=mock, memoize=False)
    return inspect_eval(name, model=model, task_args=options, log_dir=str(tmp_path / "logs"), display="none")[
        0
    ]


def by_hand(seed, steps, env_id="Homeostasis-MOHoN-v0", **settings):
    env = gym.make(env_id, max_consumption=None, episode_length=steps)
    client = ScriptedClient(
        lambda request: replies("\n".join(m.content for m in request.messages if m.role == "user"))
    )
    talk, _ = conversation_settings(settings)
    return rollout(env, LanguageModelAgent(Task.from_env(env), client, talk), seed=seed)


def test_a_task_plays_as_compare_does(tmp_path):
    log = run_task(tmp_path, episodes=3, steps=12, history="window", turns=4)
    assert log.status == "success"
    records = read_log(log.location)
    assert [t.header.seed for t in records] == [1, 2, 3]
    for record in records:
        other = by_hand(record.header.seed, 12, history="window", turns=4)
        assert np.array_equal(record.actions, other.actions)
        assert np.array_equal(record.rewards, other.rewards)
        assert record.invalid_replies == other.invalid_replies > 0
        assert score([record])[0].regret == score([other])[0].regret
        assert record.tokens("cached") > 0
    values = log.samples[0].scores["outcome"].value
    assert set(values) == {"flip", "onset", "runaway_index", "regret", "invalid_rate"}
    assert {s.name for s in log.results.scores} == set(values)
    assert log.samples[0].id == "seed-1"
    assert [m.role for m in log.samples[0].messages][:3] == ["system", "user", "assistant"]


def test_a_log_becomes_a_run_folder(tmp_path, capsys):
    log = run_task(tmp_path, episodes=2, steps=6)
    out = tmp_path / "run"
    assert main([log.location, "--out", str(out)]) == 0
    assert RunFolder(out).trajectories() == read_log(log.location)
    assert main([str(tmp_path / "none.eval"), "--out", str(tmp_path / "x")]) == 2
    assert "cannot be read as an Inspect log" in capsys.readouterr().err
    other = run_task(tmp_path, episodes=1, steps=7)
    with pytest.raises(HomeostasisError, match="`logs` must be of one environment"):
        write_run([log.location, other.location], tmp_path / "both")


def test_every_condition_of_a_model_is_an_agent_of_its_own(tmp_path, capsys):
    """Logs of one model with different settings, epochs or temperatures never take each other's place."""
    plain = run_task(tmp_path, episodes=2, steps=5)
    blind = run_task(tmp_path, episodes=2, steps=5, history="blind", retries=0)
    model = get_model("mockllm/model", custom_outputs=mock, memoize=False)
    twice = inspect_eval(
        "homeostasis_gym/mohon",
        model=model,
        task_args={"episodes": 1, "steps": 5, "hint": True},
        epochs=2,
        temperature=0.5,
        log_dir=str(tmp_path / "logs"),
        display="none",
    )[0]
    assert twice.status == "success", twice.error
    out = tmp_path / "run"
    expected = {
        "mockllm/model": 2,
        "mockllm/model+history:blind+retries:0": 2,
        "mockllm/model+hint:true+temperature:0.5": 1,
        "mockllm/model+epoch:2+hint:true+temperature:0.5": 1,
    }
    counts: dict[str, int] = {}
    assert main([str(tmp_path / "logs"), "--out", str(out)]) == 0
    for record in RunFolder(out).trajectories():
        counts[record.header.agent] = counts.get(record.header.agent, 0) + 1
    assert counts == expected
    actions = [
        t.actions.tolist() for t in RunFolder(out).trajectories("mockllm/model+history:blind+retries:0")
    ]
    assert actions == [t.actions.tolist() for t in read_log(blind.location)]
    assert [t.actions.tolist() for t in RunFolder(out).trajectories("mockllm/model")] == [
        t.actions.tolist() for t in read_log(plain.location)
    ]
    assert main([plain.location, "--out", str(out)]) == 2
    assert f"`out` must be a new or an empty folder, but {out} holds" in capsys.readouterr().err


def test_an_episode_that_stands_in_two_logs_is_one_only_if_it_is_the_same(tmp_path, capsys):
    log = run_task(tmp_path, episodes=1, steps=4)
    write_run([log.location, log.location], tmp_path / "once")
    assert len(RunFolder(tmp_path / "once").trajectories()) == 1
    model = get_model("mockllm/model", custom_outputs=[one_number(0, 0, 0, 0)] * 99, memoize=False)
    other = run_task(tmp_path, model=model, episodes=1, steps=4)
    with pytest.raises(
        HomeostasisError, match="must hold every episode once, but episode 0 of mockllm/model"
    ):
        write_run([log.location, other.location], tmp_path / "both")
    assert not (tmp_path / "both").exists()
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), "--out", str(tmp_path / "x")]) == 2
    assert "holds none" in capsys.readouterr().err


def test_an_eval_set_goes_on_and_its_logs_give_every_episode_once(server, tmp_path, monkeypatch):
    monkeypatch.setenv("LOOP_API_KEY", SECRET)
    server.script = ["1, 1"] * 3 + [("status", 400, "no")]
    arguments = {
        "tasks": "homeostasis_gym/mohon",
        "log_dir": str(tmp_path / "set"),
        "model": get_model("openai-api/loop/m", base_url=server.url, memoize=False),
        "task_args": {"episodes": 3, "steps": 2},
        "max_samples": 1,
        "display": "none",
    }
    done, _ = eval_set(retry_attempts=0, **arguments)
    assert not done
    done, logs = eval_set(retry_attempts=0, **arguments)
    assert done and [log.status for log in logs] == ["success"]
    # The finished episode is not played again; the one that broke off is, from its first step.
    assert len(server.requests) == 4 + 4
    write_run([tmp_path / "set"], tmp_path / "run")
    assert [t.header.episode for t in RunFolder(tmp_path / "run").trajectories()] == [0, 1, 2]


def test_a_record_survives_the_log_to_the_last_bit():
    record = by_hand(1, 5)
    assert from_plain(to_plain(record)) == record
    with pytest.raises(RecordError, match="holds no record"):
        from_plain({"form": 1})
    with pytest.raises(RecordError, match="must have form 1, got 9"):
        from_plain({"form": 9})


@pytest.mark.parametrize("name", ["single", "mobuo", "mobuon", "sustainability", "sleepwake", "value_graph"])
def test_every_benchmark_is_a_task(tmp_path, name):
    def one(said, tools, tool_choice, config):
        text = said[0].text
        count = 3 if "with 3 whole" in text else 1 if "one" in text.split() else 2
        output = ModelOutput.from_content("mockllm/model", ", ".join(["1"] * count))
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output

    model = get_model("mockllm/model", custom_outputs=one, memoize=False)
    log = run_task(tmp_path, f"homeostasis_gym/{name}", model, episodes=1, steps=3)
    assert log.status == "success", log.error
    assert read_log(log.location)[0].valid.all()


def test_limits_on_money_and_tokens(tmp_path):
    """Ours ends the task and keeps what is finished; one of Inspect's leaves a sample unscored."""
    prices = tmp_path / "prices.json"
    prices.write_text('{"mockllm/model": {"input": 10000, "cached": 0, "output": 0}}')
    options = {"episodes": 2, "steps": 4, "prices": str(prices)}
    model = get_model("mockllm/model", custom_outputs=one_number, memoize=False)
    # A step costs 20 cents: the money ends in the second step of the second sample.
    arguments = {"model": model, "log_dir": str(tmp_path / "logs"), "display": "none", "max_samples": 1}
    log = inspect_eval("homeostasis_gym/single", task_args={**options, "max_cost": 1.0}, **arguments)[0]
    assert log.status == "error" and "stopped: $1.0000 of the allowed $1.0000" in log.error.message
    assert [record.header.episode for record in read_log(log.location)] == [0]
    log = inspect_eval("homeostasis_gym/single", task_args=options, token_limit=100, **arguments)[0]
    assert log.status == "success", log.error
    assert [sample.limit.type for sample in log.samples] == ["token", "token"]
    assert [sample.scores["outcome"].answer for sample in log.samples] == ["unscored", "unscored"]
    with pytest.raises(RecordError, match="holds no finished episode"):
        read_log(log.location)


SECRET = "sk-test-0123456789abcdefghij"


def run_against(server, tmp_path, name="homeostasis_gym/mohon", eval_options=(), **options):
    """A task through a real provider, against our misbehaving server; gives the log as it was written."""
    log = inspect_eval(
        name,
        model=get_model("openai-api/loop/m", base_url=server.url, memoize=False),
        task_args={"attempt_timeout": 2, "give_up_after": 6, **options},
        log_dir=str(tmp_path / "logs"),
        display="none",
        **dict(eval_options),
    )[0]
    return read_eval_log(log.location)


@pytest.mark.parametrize(
    "fault",
    [
        ("status", 401, f"Incorrect API key provided: {SECRET}"),
        ("status", 400, f"Incorrect API key provided: {SECRET}"),
        ("status", 500, f"Incorrect API key provided: {SECRET}"),
        ("raw", json.dumps({"error": {"message": f"key {SECRET}"}}).encode()),
        ("raw", f"<html>{SECRET}</html>".encode()),
    ],
    ids=["401", "400", "500", "error-with-200", "html"],
)
def test_a_key_in_an_error_does_not_reach_the_log(server, tmp_path, monkeypatch, fault):
    monkeypatch.setenv("LOOP_API_KEY", SECRET)
    server.script = ["1, 1", *[fault] * 99]
    log = run_against(server, tmp_path, episodes=1, steps=3, request_retries=1)
    assert log.status == "error"
    assert any(event.event == "model" and event.error for event in log.samples[0].events)
    text = log.model_dump_json()
    assert SECRET not in text and "[hidden]" in text


def test_a_fault_through_a_task_is_outlasted(server, tmp_path, monkeypatch):
    monkeypatch.setenv("LOOP_API_KEY", SECRET)
    server.script = ["1, 1", ("status", 503), "2, 2"]
    log = run_against(server, tmp_path, episodes=1, steps=3)
    assert log.status == "success", log.error
    assert read_log(log.location)[0].actions.tolist() == [[1, 1], [2, 2], [1, 2]]


def test_wrong_options_are_told(tmp_path, capfd):
    for options, message in [
        ({"episodes": 0}, "`episodes` must be an integer of at least 1, got 0"),
        ({"temperature": "hot"}, "`temperature` must be a number in .* got 'hot'"),
        ({"connections": "x"}, "`connections` must be an integer of at least 1, got 'x'"),
        ({"retries": "many"}, "`retries` must be an integer .* got 'many'"),
        ({"attempt_timeout": "a"}, "`attempt_timeout` must be an integer .* got 'a'"),
        ({"backend": "foo"}, "`backend` must be '' or 'llama.cpp', got 'foo'"),
        ({"max_cost": 1}, "`max_cost` needs a price of mockllm/model"),
        ({"base_url": "http://host/v1"}, "`base_url` must be given to Inspect, as --model-base-url ADDRESS"),
        ({"labels": ["one"]}, "`labels`"),
        ({"histroy": "full"}, "does not know the settings histroy"),
        ({"history": "all"}, "`history` must be one of"),
    ]:
        with pytest.raises(TaskError, match=message) as failure:
            run_task(tmp_path, **options)
        # Inspect shows errors of this kind in one line, but not where it shows nothing.
        assert isinstance(failure.value, HomeostasisError)
        assert f"error: {failure.value}" in capfd.readouterr().err
    assert not list(tmp_path.rglob("*.eval"))


def test_a_password_in_the_address_of_the_model_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("LOOP_API_KEY", SECRET)
    with pytest.raises(TaskError, match=r"`--model-base-url` must hold no user, .* LOOP_BASE_URL") as failure:
        inspect_eval(
            "homeostasis_gym/mohon",
            model="openai-api/loop/m",
            model_base_url="http://me:hunter2@127.0.0.1:1/v1",
            log_dir=str(tmp_path / "logs"),
            display="none",
        )
    assert "hunter2" not in str(failure.value) and not list(tmp_path.rglob("*.eval"))


@pytest.mark.parametrize(
    "options, inspects, expected",
    [({}, {}, 0.0), ({}, {"temperature": 0.7}, 0.7), ({"temperature": 0.3}, {"temperature": 0.7}, 0.3)],
)
def test_the_temperature_is_that_of_compare_unless_told(
    server, tmp_path, monkeypatch, options, inspects, expected
):
    monkeypatch.setenv("LOOP_API_KEY", SECRET)
    log = run_against(server, tmp_path, eval_options=inspects, episodes=1, steps=2, **options)
    assert {request["temperature"] for request in server.requests} == {expected}
    assert read_log(log.location)[0].header.extra["client"]["temperature"] == expected


def test_what_the_model_writes_for_itself_is_not_among_the_replies(tmp_path):
    log = run_task(tmp_path, episodes=1, steps=12, history="summary", turns=4)
    record = read_log(log.location)[0]
    attempts = [attempt for step in record.attempts for attempt in step]
    summaries = sum(attempt.prompt.startswith("[summary] ") for attempt in attempts)
    assert summaries > 0 and record.invalid_replies > 0
    rate = log.samples[0].scores["outcome"].value["invalid_rate"]
    assert rate == record.invalid_replies / (len(attempts) - summaries)


def test_a_recorded_client_plays_an_episode_again():
    record = by_hand(2, 8)
    client = RecordedClient([attempt for step in record.attempts for attempt in step])
    env = gym.make("Homeostasis-MOHoN-v0", max_consumption=None, episode_length=8)
    again = rollout(env, LanguageModelAgent(Task.from_env(env), client), seed=2)
    assert np.array_equal(again.actions, record.actions) and again.attempts == record.attempts
    assert homeostasis_gym.__version__


@needs_model
@pytest.mark.model
def test_the_same_text_in_process_and_over_loopback_without_prompt_cache(monkeypatch):
    monkeypatch.setenv("LOOP_API_KEY", "none")
    server = embedded.start_server(prompt_cache=False)

    def play(make):
        env = gym.make("Homeostasis-MOHoN-v0", max_consumption=None, episode_length=3)
        return rollout(env, make(Task.from_env(env)), seed=1)

    inside = play(lambda task: smollm2(task, prompt_cache=False))
    outside = play(
        lambda task: llm(
            task, argument="openai-api/loop/smollm2", base_url=f"{server.listening_address}/v1", example=True
        )
    )
    assert [[a.reply for a in s] for s in inside.attempts] == [[a.reply for a in s] for s in outside.attempts]
    assert np.array_equal(inside.actions, outside.actions)
    assert inside.tokens("cached") == outside.tokens("cached") == 0
    assert inside.tokens("prompt") == outside.tokens("prompt") > 0


@needs_model
@pytest.mark.model
def test_the_embedded_model_as_an_inspect_model_is_the_same_model(tmp_path):
    log = run_task(tmp_path, model="smollm2/135m", episodes=1, steps=5, example=True)
    assert log.status == "success", log.error
    record = read_log(log.location)[0]
    env = gym.make("Homeostasis-MOHoN-v0", max_consumption=None, episode_length=5)
    direct = rollout(env, smollm2(Task.from_env(env)), seed=1)
    assert [[a.reply for a in s] for s in record.attempts] == [[a.reply for a in s] for s in direct.attempts]
    assert record.tokens("cached") == direct.tokens("cached") > 0
