"""The embedded model as a model provider of Inspect AI: ``--model smollm2/135m``, without key or network."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from homeostasis_agents.llm.client import Constraint, ContextFullError, Message, Reply, Request
from homeostasis_agents.llm.embedded import SmolLM2Client

__all__ = ["SmolLM2"]


class SmolLM2(ModelAPI):
    """SmolLM2-135M-Instruct in this process.

    Args:
        model_name: ``135m``, the only one.
        base_url: Must be absent, there is no server.
        api_key: Must be absent.
        config: See Inspect.
        **model_args: ``threads``, see `SmolLM2Client`.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 (Inspect's own signature)
        **model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        if model_name != "135m":
            raise ValueError(f"`model` must be smollm2/135m, got smollm2/{model_name}")
        self._threads = int(model_args.pop("threads", 1))
        if model_args:
            raise ValueError(f"smollm2 takes the argument threads alone, got {', '.join(model_args)}")
        self._clients: dict[tuple[float, bool], SmolLM2Client] = {}
        SmolLM2Client(threads=self._threads)  # missing pieces are told now

    def max_connections(self) -> int:
        """One conversation at a time: a second one would take the first one's prefix cache away."""
        return 1

    async def generate(
        self,
        input: list[ChatMessage],  # noqa: A002 (Inspect's own name)
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """Answer, in a thread, so that Inspect stays awake meanwhile."""
        key = (config.temperature or 0.0, bool(config.logprobs))
        if key not in self._clients:
            self._clients = {key: SmolLM2Client(threads=self._threads, temperature=key[0], logprobs=key[1])}
        extra = config.extra_body or {}
        grammar = extra.get("grammar")
        request = Request(
            messages=tuple(Message(_role(m), m.text) for m in input),
            max_tokens=config.max_tokens or 256,
            # Whoever does not say that a conversation goes on gets it from an empty cache.
            fresh=not extra.get("cache_prompt", False),
            seed=config.seed,
            constraint=Constraint(grammar) if grammar is not None else None,
        )
        try:
            reply = await anyio.to_thread.run_sync(self._clients[key].complete, request)
        except ContextFullError as error:
            return ModelOutput.from_content("smollm2/135m", str(error), "model_length")
        return _output(reply)


def _role(message: ChatMessage) -> Any:
    return message.role if message.role in ("system", "assistant") else "user"


def _output(reply: Reply) -> ModelOutput:
    return ModelOutput(
        model="smollm2/135m",
        choices=[
            ChatCompletionChoice(
                message=ChatMessageAssistant(content=reply.text, source="generate"),
                stop_reason="max_tokens" if reply.finish_reason == "length" else "stop",
            )
        ],
        usage=ModelUsage(
            input_tokens=reply.usage.uncached,
            input_tokens_cache_read=reply.usage.cached,
            output_tokens=reply.usage.completion,
            total_tokens=reply.usage.prompt + reply.usage.completion,
        ),
    )


@modelapi(name="smollm2")
def smollm2() -> type[ModelAPI]:
    """The provider, as Inspect registers it."""
    return SmolLM2
