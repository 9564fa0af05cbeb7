"""The verb ``agreement``: the detector against human readers."""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from homeostasis_gym.collapse import Agreement, EpisodeScore, Rating, measure_agreement, score
from homeostasis_gym.errors import HomeostasisError, RecordError
from homeostasis_gym.imports import episode_name, read_logs

__all__ = ["add_parser", "read_labels"]


def add_parser(subparsers: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "agreement",
        help="compare the detector with human labels",
        description="Compare the detector's flag (flip or not) and verdict (ok, mild, flip) with human "
        "labels: Cohen's kappa, Krippendorff's alpha, both with bootstrap intervals over distinct episodes "
        "(copies are drawn together), onset error, confusion "
        "table, every disagreement. Episodes and labels are matched by file name.",
    )
    parser.add_argument(
        "labels",
        type=Path,
        metavar="LABELS.csv",
        help="columns file and label (ok, mild or flip), optionally onset_step, objective, reason and "
        "rater (several readers in one file)",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="run folders and logs alike")
    parser.add_argument(
        "--also", action="append", default=[], type=Path, metavar="LABELS.csv", help="another reader's labels"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the report")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare and print."""
    readers: dict[str, dict[str, Rating]] = {}
    for file in (arguments.labels, *arguments.also):
        for rater, ratings in read_labels(file).items():
            if readers.setdefault(rater, ratings) is not ratings:
                raise RecordError(f"{file}: rater {rater!r} has labels in another file as well")
    trajectories = [t for path in arguments.files for t in read_logs(path)]
    names = [episode_name(t) for t in trajectories]
    for name, count in Counter(names).items():
        if count > 1:
            raise HomeostasisError(f"episodes must have names of their own, but {name!r} stands for {count}")
    scores = dict(zip(names, score(trajectories), strict=True))
    result = measure_agreement(
        {n: rating(s) for n, s in scores.items()},
        readers,
        fingerprints={n: s.fingerprint for n, s in scores.items()},
    )
    if arguments.json:
        print(json.dumps(result.to_dict(), allow_nan=False))
    else:
        print("\n".join(_report(result)))
    return 0


def rating(scored: EpisodeScore) -> Rating | None:
    """The detector's rating of an episode, None where it is unscored."""
    if scored.verdict is None:
        return None
    harmful = [mode for mode in scored.modes if mode.harmful]
    onset = scored.onset if scored.flip else min((m.onset for m in harmful), default=None)
    reason = "; ".join(f"{m.mode} {m.objective} {m.onset}-{m.end}".replace("  ", " ") for m in harmful[:4])
    return Rating(scored.verdict, onset, scored.objective or "", reason)


def read_labels(path: Path) -> dict[str, dict[str, Rating]]:
    """Read human labels: by rater, then by episode.

    Args:
        path: A CSV with the columns ``file`` and ``label``, and optionally ``onset_step``,
            ``objective``, ``reason`` and ``rater``.

    Raises:
        RecordError: It cannot be read or a row is not as it must be; names file, row and column.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
            columns = list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecordError(f"{path} cannot be read: {error}") from error
    for name in ("file", "label"):
        if name not in columns:
            raise RecordError(f"{path}: row 1, column {name!r}: is missing")
    readers: dict[str, dict[str, Rating]] = {}
    for line, row in rows:
        name = _last_part(row["file"] or "")
        ratings = readers.setdefault((row.get("rater") or "").strip() or Path(path).stem, {})
        if not name:
            raise RecordError(f"{path}: row {line}, column 'file': must not be empty")
        if name in ratings:
            raise RecordError(f"{path}: row {line}, column 'file': {name!r} is labelled twice by one rater")
        onset = (row.get("onset_step") or "").strip()
        try:
            ratings[name] = Rating(
                (row["label"] or "").strip().lower(),
                int(float(onset)) if onset else None,
                (row.get("objective") or "").strip(),
                (row.get("reason") or "").strip(),
            )
        except HomeostasisError as error:
            raise RecordError(f"{path}: row {line}, column 'label': {error}") from error
        except (ValueError, OverflowError) as error:
            raise RecordError(
                f"{path}: row {line}, column 'onset_step': must be a whole number, got {onset!r}"
            ) from error
    if not readers:
        raise RecordError(f"{path}: must hold at least one label, got none")
    return readers


def _last_part(file: str) -> str:
    """A log is known by its file name; episodes of a run by agent and number, which stay as they are."""
    text = file.strip()
    return Path(text).name if Path(text).suffix in (".tsv", ".csv", ".jsonl") else text


def _report(result: Agreement) -> Iterable[str]:
    for title, c in (("flag (flip or not)", result.flag), ("verdict (ok, mild, flip)", result.verdict)):
        yield f"{title}, {c.episodes} episodes, {c.distinct} distinct"
        yield f"  Cohen's kappa         {_number(c.kappa)}  {_interval(c.interval)}"
        if c.distinct < c.episodes:
            yield f"  without copies        {_number(c.kappa_distinct)}"
        yield f"  Krippendorff's alpha  {_number(c.alpha)}  {_interval(c.alpha_interval)} ({c.raters} raters)"
        yield f"  same label            {c.observed:.3f}"
        if c.interval is not None and c.observed == 1.0:
            yield "  note: without any disagreement the intervals have no width; that proves no perfection"
        if c.undefined:
            yield f"  {c.undefined} bootstrap samples held one label only and are left out"
        yield from _table(c.confusion)
    e = result.onset_error
    if e["episodes"]:
        yield (
            f"onset, detector minus reader, of {e['episodes']} flips that both see: median {e['median']:g}, "
            f"median distance {e['median_absolute']:g}, largest {e['largest_absolute']}"
        )
    if result.objective_agreement is not None:
        yield f"same objective in {100 * result.objective_agreement:.0f} % of them"
    for title, names in (
        ("episodes without a label", result.unrated),
        ("labels without an episode", result.unmatched),
        ("episodes that could not be scored", result.unscored),
    ):
        if names:
            yield f"{title}: {len(names)}"
    yield f"disagreements: {len(result.disagreements)}"
    for d in result.disagreements:
        yield f"  {d['episode']}: reader {d['reader']} (step {d['reader_onset']}), detector {d['detector']}"
        yield f"    reader: {d['reader_reason'] or '-'}"
        yield f"    detector: {d['detector_reason'] or '-'}"


def _table(confusion: Mapping[str, Mapping[str, int]]) -> Iterable[str]:
    words = list(confusion)
    yield "  reader \\ detector  " + "".join(f"{word:>9}" for word in words)
    for word in words:
        yield f"  {word:<19}" + "".join(f"{confusion[word][other]:>9}" for other in words)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"[{interval[0]:.3f}, {interval[1]:.3f}]"
