"""The table of recorded language-model trials: flips, onsets, Runaway Index, against the published counts.

    python scripts/table_recorded_data.py FOLDER_OF_LOGS

Prints one row per benchmark, condition and model. The published counts are of ten trials per row; where the
folder holds fewer, the row says how many. Also checks on every trial that the detector run step by step
says what the detector says of the finished trial.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from homeostasis_gym.collapse import FlipDetector, score, subject_from_dict, summarize
from homeostasis_gym.imports import read_logs
from homeostasis_gym.trajectory import Trajectory

# Published judgements of ten trials: (benchmark, condition, model) -> words.
PUBLISHED = {
    ("mobuo", "no-hint", "gpt"): "10 fail",
    ("mobuo", "no-hint", "claude"): "4 fail, 1 mild",
    ("mobuo", "hint", "gpt"): "3 fail",
    ("mobuo", "hint", "claude"): "0 fail, 1 mild",
    ("mohon", "", "gpt"): "fails (no counts)",
    ("mohon", "", "claude"): "fails less (no counts)",
    ("single", "", "gpt"): "succeeds",
    ("single", "", "claude"): "succeeds",
    ("sustainability", "", "gpt"): "underconsumes, oscillates",
    ("sustainability", "", "claude"): "greedy early, then underconsumes",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of recorded logs, or a run folder of them")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    trajectories = read_logs(arguments.folder)
    scores = score(trajectories)
    groups: dict[tuple[str, str, str], list[int]] = {}
    for k, t in enumerate(trajectories):
        model = "claude" if "claude" in str(t.header.extra.get("file", t.header.agent)) else "gpt"
        key = (str(t.header.benchmark["name"]), str(t.header.extra.get("condition", "")), model)
        groups.setdefault(key, []).append(k)
    rows: list[dict[str, Any]] = []
    for key, members in groups.items():
        mine = [scores[k] for k in members]
        summary = summarize(mine)
        rows.append(
            {
                "benchmark": " ".join(part for part in key[:2] if part),
                "model": key[2],
                "trials": summary.episodes,
                "distinct": summary.distinct,
                "verdicts": dict(summary.verdicts),
                "flips": summary.flips,
                "flip_rate": summary.flip_rate,
                "flip_interval": summary.flip_interval,
                "onsets": sorted(s.onset for s in mine if s.onset is not None),
                "runaway_index": summary.runaway_index_all,
                "runaway_index_distinct": summary.runaway_index,
                "regret": summary.regret,
                "modes": dict(Counter(summary.modes).most_common()),
                "published": PUBLISHED.get(key, ""),
            }
        )
    agree = sum(online(t, s) for t, s in zip(trajectories, scores, strict=True))
    if arguments.json:
        print(json.dumps({"rows": rows, "online_equals_offline": agree, "trials": len(trajectories)}))
        return
    print(
        f"{'benchmark':16} {'model':7} {'trials':>6} {'distinct':>8} {'ok/mild/flip':>12} {'flip rate':>18} "
        f"{'RI all':>7} {'RI dist.':>8} {'regret':>9}  onsets of flips; published of ten"
    )
    for row in rows:
        counts = "/".join(str(row["verdicts"].get(word, 0)) for word in ("ok", "mild", "flip"))
        low, high = row["flip_interval"]
        print(
            f"{row['benchmark']:16} {row['model']:7} {row['trials']:6} {row['distinct']:8} {counts:>12} "
            f"{row['flip_rate']:.2f} [{low:.2f}, {high:.2f}] {row['runaway_index']:7.3f} "
            f"{row['runaway_index_distinct']:8.3f} {row['regret']:9.1f}  {row['onsets'] or '-'}; "
            f"{row['published']}"
        )
        print(" " * 25 + ", ".join(f"{name} {count}" for name, count in row["modes"].items()))
    print(f"\nstep by step equals afterwards: {agree} of {len(trajectories)} trials")


def online(t: Trajectory, offline: Any) -> bool:
    """Whether the detector run step by step says what `score` says."""
    subject = subject_from_dict(t.header.benchmark)
    if subject.rules is None:
        return offline.flip is None
    detector = FlipDetector(subject)
    for k in range(len(t)):
        detector.update(t.states[k], t.actions[k], wasted=bool(t.forbidden[k] or not t.valid[k]))
    flip = detector.flip
    if flip is None:
        return not offline.flip
    names = subject.objective_names
    found = (flip.onset, flip.flagged, names[flip.objective], detector.recovered(t.states[-1]))
    return found == (offline.onset, offline.flagged, offline.objective, offline.recovered)


if __name__ == "__main__":
    main()
