"""Write docs/environments.md from the docstrings of the environments.

python scripts/make_environment_docs.py           # write the page
python scripts/make_environment_docs.py --check   # exit status 1 where it is out of date
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from pathlib import Path

from homeostasis_gym.registration import ENVIRONMENTS

PAGE = Path(__file__).parents[1] / "docs" / "environments.md"
INTRODUCTION = """\
# The environments

Written by `python scripts/make_environment_docs.py` from the docstrings: edit those. Every environment is
made with `gymnasium.make(ID)`, many at once with `gymnasium.make_vec(ID, num_envs=N)`, after
`import homeostasis_gym`.
Rewards are vectors; `scalarization=` or a wrapper of `homeostasis_gym.wrappers` turns them into one number.

Episodes end after `episode_length` steps, by the environment itself: `env.spec.max_episode_steps` is None,
because a limit there would cut a longer `episode_length`. Wrappers that look for it in the spec, such as
Gymnasium's `TimeAwareObservation`, work after `gymnasium.make(ID, max_episode_steps=100)`.
"""


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for env_id, (entry_point, _) in ENVIRONMENTS.items():
        module, name = entry_point.split(":")
        document = inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
        title, _, body = document.partition("\n")
        body = body.strip().replace("\n## ", "\n### ").removeprefix("## ")
        parts.append(f"## `{env_id}`\n\n{title}\n\n### {body}\n")
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if parser.parse_args().check:
        return 0 if PAGE.read_text(encoding="utf-8") == page() else 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
