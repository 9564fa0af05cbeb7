"""The benchmarks as Inspect AI tasks: ``inspect eval homeostasis_gym/mohon --model openai/gpt-4o-mini``.

One sample is one episode, its id the seed. The solver is `homeostasis_gym.rollout.rollout` with our own
language-model agent, in a thread per sample, so that a task plays exactly as ``homeostasis-gym compare``
does and gives equal numbers on equal replies. The whole record stands in the sample's metadata;
`homeostasis_agents.inspect_logs` turns a log into records for ``score`` and ``report``.

Options (``-T NAME=VALUE``): ``episodes``, ``seed`` (of the first episode), ``steps``, every setting of the
agent (see `homeostasis_agents.llm.factories.conversation_settings`), ``temperature``, ``backend``,
``connections``, ``logprobs``, ``prices``, ``max_cost``, ``attempt_timeout``, ``give_up_after``,
``request_retries``, and ``env_NAME`` for arguments of the environment. Defaults are those of
``compare --agents llm:MODEL``. The server's address is Inspect's own option, ``--model-base-url``. Inspect's
response cache is never used: it would make one episode out of many.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
from inspect_ai import Task as InspectTask
from inspect_ai import task
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    Model,
    ModelOutput,
    get_model,
)
from inspect_ai.model._generate_config import active_generate_config
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.util import display_type

from homeostasis_agents.inspect_logs import from_plain, to_plain
from homeostasis_agents.llm.agent import LanguageModelAgent
from homeostasis_agents.llm.client import ClientError, ScriptedClient
from homeostasis_agents.llm.factories import hosted_settings
from homeostasis_agents.llm.hosted import BACKENDS, InspectClient
from homeostasis_agents.llm.inspect_provider import SmolLM2
from homeostasis_agents.llm.metering import Meter, MeteredClient, estimate, say
from homeostasis_agents.llm.scrubbing import check_address
from homeostasis_gym.agent import Task
from homeostasis_gym.collapse import score
from homeostasis_gym.core.benchmark import check_integer
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.experiments.spec import make_env
from homeostasis_gym.rollout import rollout
from homeostasis_gym.trajectory import Trajectory

__all__ = ["ENVIRONMENTS", "TASKS", "SmolLM2", "TaskError", "mean_known", "outcome", "play_episode"]

ENVIRONMENTS: Mapping[str, str] = {
    "mohon": "Homeostasis-MOHoN-v0",
    "single": "Homeostasis-Single-v0",
    "mobuo": "Homeostasis-MOBUO-v0",
    "mobuon": "Homeostasis-MOBUON-v0",
    "sustainability": "Homeostasis-Sustainability-v0",
    "sleepwake": "Homeostasis-SleepWake-v0",
    "value_graph": "Homeostasis-ValueGraph-v0",
}
"""Environment of every task."""

_MOST_EPISODES_AT_ONCE = 1000


class TaskError(HomeostasisError, PrerequisiteError):
    """What a user can cause, as Inspect tells it: in one line and without traceback."""

    def __init__(self, message: str) -> None:
        PrerequisiteError.__init__(self, message)
        self.args = (message,)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except HomeostasisError as error:
        if display_type() == "none":  # Inspect would say nothing at all
            say(f"error: {error}")
        raise TaskError(str(error)) from None


@metric
def mean_known() -> Metric:
    """Mean over the samples where the value is known; NaN where it is known of none."""

    def compute(scores: list[SampleScore]) -> float:
        known = [one.score.as_float() for one in scores]
        known = [value for value in known if value == value]
        return sum(known) / len(known) if known else float("nan")

    return compute


_OUTCOMES = ("flip", "onset", "runaway_index", "regret", "invalid_rate")


@scorer(metrics={name: [mean_known()] for name in _OUTCOMES})
def outcome() -> Scorer:
    """Flip, onset, Runaway Index, regret, and the share of replies that were refused."""

    async def evaluate(state: TaskState, target: Target) -> Score:
        if "trajectory" not in state.metadata:
            # One of Inspect's own limits ended the sample; left out of every metric, as NaN is.
            return Score(
                value=dict.fromkeys(_OUTCOMES, float("nan")),
                answer="unscored",
                explanation="a limit ended the sample before its episode was over",
            )
        trajectory = from_plain(state.metadata["trajectory"])
        result = score([trajectory])[0]
        # What the model wrote for itself, a summary of earlier turns, cannot be refused.
        replies = sum(not a.prompt.startswith("[summary] ") for step in trajectory.attempts for a in step)
        values = {
            "flip": result.flip,
            "onset": result.onset,
            "runaway_index": result.runaway_index,
            "regret": result.regret,
            "invalid_rate": result.invalid_replies / replies if replies else None,
        }
        verdict = "no flip"
        if result.flip:
            verdict = f"flip into {result.objective} from step {result.onset}"
        return Score(
            # What is not known is not zero: Inspect leaves NaN out of its metrics, and so do ours.
            value={key: float("nan") if value is None else float(value) for key, value in values.items()},
            answer=verdict,
            explanation=f"{verdict}; score {result.score:.0f}, {result.reference_policy} on the same noise "
            f"{result.reference_score}; {result.invalid_replies} of {replies} replies refused; "
            f"{result.reason}".rstrip("; "),
            metadata=result.to_dict(),
        )

    return evaluate


@solver
def play_episode(
    env_id: str, env_kwargs: Mapping[str, Any], settings: Mapping[str, Any], episodes: int = 1
) -> Solver:
    """Play one episode with the model under evaluation.

    Args:
        env_id: Gymnasium id.
        env_kwargs: Arguments for the environment.
        settings: The agent's settings.
        episodes: How many episodes the task has, for the estimate.
    """
    if "base_url" in settings:
        raise TaskError("`base_url` must be given to Inspect, as --model-base-url ADDRESS, got it with -T")
    talk, options, price, max_cost = hosted_settings("the task", settings)
    if options.get("backend", "") not in BACKENDS:
        raise TaskError(f"`backend` must be '' or 'llama.cpp', got {options['backend']!r}")
    model = _active_model()
    if model is not None:
        price(str(model))
    # Whatever cannot be played is told before the first request.
    with contextlib.closing(make_env(env_id, env_kwargs)) as env:
        seat = Task.from_env(env)
        opening = LanguageModelAgent(
            seat, ScriptedClient(()), replace(talk, constrained=False)
        ).prompts.opening()
        steps = getattr(seat.benchmark, "episode_length", 100)
    # One budget for all samples of the task.
    meter = Meter(None, None)
    told = threading.Event()
    limiter: list[anyio.CapacityLimiter] = []

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        model = get_model()
        if not limiter:
            # The embedded model holds one conversation: a second would take its prefix cache away.
            alone = str(model).startswith("smollm2/")
            limiter.append(anyio.CapacityLimiter(1 if alone else _MOST_EPISODES_AT_ONCE))
            meter.price, meter.max_cost = price(str(model)), max_cost
        stopped = threading.Event()

        def run(call: Callable[[], Awaitable[Any]]) -> Any:
            if stopped.is_set():
                raise ClientError("the sample was cancelled")

            async def awaited() -> Any:
                return await call()

            return anyio.from_thread.run(awaited)

        warmth = active_generate_config().merge(model.config).temperature

        def episode() -> Trajectory:
            env = make_env(env_id, env_kwargs)
            seat = Task.from_env(env)
            # As compare does, unless Inspect was told otherwise.
            asked = {"temperature": 0.0 if warmth is None else warmth, **options}
            client = MeteredClient(InspectClient(model, run=run, **asked), meter)
            agent = LanguageModelAgent(seat, client, talk)

            def tell() -> None:
                if not told.is_set():
                    told.set()
                    text = "".join(m.content for m in opening)
                    say(f"{model}: {estimate(talk, text, steps, meter.price, episodes=episodes)}")

            client.before_first = tell
            return rollout(
                env,
                agent,
                seed=state.metadata["seed"],
                agent_name=str(model),
                episode=state.metadata["episode"],
                env_kwargs=env_kwargs,
                agent_settings=settings,
                extra=agent.record,
            )

        try:
            trajectory = await anyio.to_thread.run_sync(episode, limiter=limiter[0], abandon_on_cancel=True)
        finally:
            stopped.set()
        state.metadata["trajectory"] = to_plain(trajectory)
        state.messages = conversation(trajectory)
        last = next((m for m in reversed(state.messages) if m.role == "assistant"), None)
        state.output = ModelOutput.from_content(str(model), last.text if last is not None else "")
        state.completed = True
        return state

    return solve


def conversation(trajectory: Trajectory) -> list[ChatMessage]:
    """The whole conversation of an episode as it went, refused replies included, for the viewer."""
    messages: list[ChatMessage] = []
    for attempts in trajectory.attempts:
        for attempt in attempts:
            prompt = attempt.prompt
            if not messages and prompt.startswith("[system] "):
                instructions, _, prompt = prompt.removeprefix("[system] ").rpartition("\n")
                messages.append(ChatMessageSystem(content=instructions))
            messages.append(ChatMessageUser(content=prompt))
            messages.append(ChatMessageAssistant(content=attempt.reply))
    return messages


def _build(name: str, episodes: int, seed: int, steps: int, settings: dict[str, Any]) -> InspectTask:
    check_integer("episodes", episodes, 1)
    check_integer("seed", seed, 0)
    check_integer("steps", steps, 1)
    model = _active_model()
    if model is not None and model.explicit_base_url is not None:
        # Inspect writes it to the head of its log.
        check_address("--model-base-url", model.explicit_base_url, str(model))
    env_kwargs = {"max_consumption": None, "episode_length": steps}
    env_kwargs |= {
        option.removeprefix("env_"): settings.pop(option)
        for option in list(settings)
        if option.startswith("env_")
    }
    samples = [
        Sample(
            input=f"{ENVIRONMENTS[name]}, {steps} steps, noise of seed {seed + k}",
            id=f"seed-{seed + k}",
            metadata={"seed": seed + k, "episode": k},
        )
        for k in range(episodes)
    ]
    return InspectTask(
        dataset=MemoryDataset(samples, name=name),
        solver=play_episode(ENVIRONMENTS[name], env_kwargs, settings, episodes),
        scorer=outcome(),
        metadata={"env_id": ENVIRONMENTS[name]},
        version=1,
    )


def _active_model() -> Model | None:
    """The model under evaluation; none where a task is only listed or built by hand."""
    try:
        return get_model()
    except Exception:  # as providers like
        return None


def _benchmark_task(name: str) -> Callable[..., InspectTask]:
    def build(episodes: int = 10, seed: int = 1, steps: int = 100, **settings: Any) -> InspectTask:
        with _told():
            return _build(name, episodes, seed, steps, settings)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"{ENVIRONMENTS[name]}, one sample per seed; see this module for the options."
    # Inspect names a task after the package of its module, and users know us by this one.
    build.__module__ = "homeostasis_gym"
    decorated: Callable[..., InspectTask] = task(name=name)(build)
    return decorated


TASKS: Mapping[str, Callable[..., InspectTask]] = {name: _benchmark_task(name) for name in ENVIRONMENTS}
"""The tasks by name."""
