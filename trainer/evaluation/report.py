"""The report of one model: plots as PNG, all of it as one HTML page, and the model card in Markdown."""

import base64
import html
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np

from detector.model.artifact import ModelMetadata
from trainer.evaluation.figures import Figures, Group, Interval
from trainer.evaluation.scoring import NEVER, Scored

_TRACES: Final = 12
_DPI: Final = 110
_LOWEST_RATE: Final = 1e-5


def write_report(out: Path, metadata: ModelMetadata, figures: Figures, scored: Scored) -> list[Path]:
    """Write plots, page and card beside a model file; return their paths.

    Raises:
        OSError: one cannot be written.
    """
    png = plots(scored, figures)
    card = model_card(metadata, figures)
    paths = [out.with_suffix(suffix) for suffix in (".png", ".html", ".md")]
    image = base64.b64encode(png).decode()
    page = (
        f"<!doctype html><meta charset=utf-8><title>{html.escape(metadata.name)} {html.escape(metadata.version)}</title>"
        "<style>body{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto}pre{white-space:pre-wrap}"
        "img{max-width:100%}</style>"
        f"<img alt='PR, ROC, reliability, detection by action number, score traces' src='data:image/png;base64,{image}'>"
        f"<pre>{html.escape(card)}</pre>"
    )
    for path, content in zip(paths, (png, page.encode(), card.encode()), strict=True):
        path.write_bytes(content)
    return paths


def model_card(metadata: ModelMetadata, figures: Figures) -> str:
    """Return the model card (Mitchell et al. 2019), in Markdown."""
    training = ", ".join(f"{name} {value}" for name, value in metadata.training.items())
    libraries = ", ".join(f"{name} {number}" for name, number in metadata.libraries.items())
    return "\n".join(
        [
            f"# {metadata.name} {metadata.version}",
            "",
            (
                f"Scores the last {metadata.window} actions of a session, {_times(metadata)}, after every action; blocks at "
                f"{metadata.threshold:.6g}. Vocabulary of {len(metadata.vocabulary):,} actions"
                f"{' and a token for others' if metadata.unknown_token else ''}."
            ),
            "",
            "## Data",
            (
                f"`{metadata.preset}`, SHA-256 `{metadata.data_sha256}`. Figures are on {figures.sessions:,} sessions held out, "
                f"{figures.attacks:,} of them attacks. Figures that depend on how common attacks are assume "
                f"{figures.base_rate:.4%} of sessions."
            ),
            "",
            "## Figures",
            *markdown_table(("figure", "value", "95 % interval"), figure_rows(figures)),
            "",
            "## Attack families",
            *markdown_table(
                ("family", "sessions", "blocked", "before the last large transfer"),
                group_rows(figures.by_family),
            ),
            "",
            "## False alarms by kind of lawful session",
            *markdown_table(("kind", "sessions", "alarms", ""), group_rows(figures.by_lawful_kind)),
            "",
            "## False alarms by type of customer",
            *markdown_table(("type", "sessions", "alarms", ""), group_rows(figures.by_customer_type)),
            "",
            "## Use and limits",
            (
                "For blocking or stepping up sessions whose actions resemble an account takeover. A figure on simulated "
                "traffic is a figure on that traffic: train and evaluate on your own before you rely on it. The model "
                "knows actions and their times alone, neither amounts nor devices, and nothing of earlier sessions. "
                "Scores are probabilities at the base rate above only as far as the reliability plot shows."
            ),
            "",
            "## Training",
            f"{training}. {libraries}.",
            "",
        ]
    )


def figure_rows(figures: Figures) -> Iterator[tuple[str, str, str]]:
    """Yield the main figures in words: name, value, interval."""

    def percent(value: float) -> str:
        return f"{value:.2%}"

    def interval(one: Interval | None) -> str:
        return "" if one is None else f"{one[0]:.2%} to {one[1]:.2%}"

    yield "ROC-AUC", f"{figures.roc_auc:.5f}", ""
    yield "PR-AUC", f"{figures.pr_auc:.4f}", ""
    yield (
        "recall at 0.1 % false alarms per session",
        percent(figures.recall_at_0_1_percent),
        interval(figures.recall_at_0_1_percent_interval),
    )
    yield (
        "recall at 0.01 % false alarms per session",
        percent(figures.recall_at_0_01_percent),
        interval(figures.recall_at_0_01_percent_interval),
    )
    yield "recall at the threshold", percent(figures.recall), interval(figures.recall_interval)
    yield (
        "false alarms per lawful session",
        f"{figures.false_alarm_rate:.3%}",
        interval(figures.false_alarm_rate_interval),
    )
    yield (
        "blocked before the last large transfer",
        percent(figures.blocked_before_last_large),
        interval(figures.blocked_before_last_large_interval),
    )
    yield "blocked on that transfer at the latest", percent(figures.blocked_by_last_large), ""
    yield "blocked before any transfer", percent(figures.blocked_before_any_money), ""
    yield "precision", percent(figures.precision), ""
    yield "alerts per 1,000 sessions", f"{figures.alerts_per_1000_sessions:.2f}", ""
    yield "actions of the attacker until the block, median", _number(figures.actions_until_block_median), ""
    yield "seconds until the block, median", _number(figures.seconds_until_block_median), ""
    yield "Brier score", f"{figures.brier:.5f}", ""
    yield "expected calibration error", f"{figures.ece:.5f}", ""


def group_rows(groups: Mapping[str, Group]) -> Iterator[tuple[str, str, str, str]]:
    """Yield a row for each group."""
    for name, group in groups.items():
        before = "" if group.before_money is None else f"{group.before_money:.1%}"
        yield name, f"{group.sessions:,}", f"{group.share:.2%} ({group.alerts:,})", before


def markdown_table(header: tuple[str, ...], rows: Any) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield f"| {' | '.join(header)} |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def plots(scored: Scored, figures: Figures) -> bytes:
    """Draw PR, ROC, reliability, detection by action number and score traces; return a PNG."""
    from matplotlib.figure import Figure  # noqa: PLC0415  --help must not wait for it

    page = Figure(figsize=(15, 9), layout="constrained")
    axes = page.subplots(2, 3).flatten().tolist()
    highest, attack = scored.highest().astype(np.float64), scored.labels == 1
    weights = np.where(
        attack, 1.0, (1 - figures.base_rate) / figures.base_rate * attack.sum() / max(1, (~attack).sum())
    )
    order = np.argsort(-highest, kind="stable")
    recall = np.cumsum(attack[order]) / max(1, attack.sum())
    alarms = np.cumsum(~attack[order]) / max(1, (~attack).sum())
    precision = np.cumsum((weights * attack)[order]) / np.cumsum(weights[order])
    _axis(axes[0], f"precision and recall, {figures.base_rate:.2%} attacks", "recall", "precision").plot(
        recall, precision
    )
    _axis(axes[1], "ROC, by session", "false alarms per lawful session", "recall").plot(
        np.maximum(alarms, _LOWEST_RATE), recall
    )
    axes[1].set_xscale("log")
    _reliability(axes[2], highest, attack, weights)
    _detection(axes[3], scored, figures)
    _traces(axes[4], scored, figures, label=1, title="scores of some attacks")
    _traces(axes[5], scored, figures, label=0, title="scores of lawful sessions nearest the threshold")
    buffer = BytesIO()
    page.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def _axis(axis: Any, title: str, x: str, y: str) -> Any:
    axis.set(title=title, xlabel=x, ylabel=y)
    axis.grid(visible=True, alpha=0.3)
    return axis


def _reliability(axis: Any, highest: Any, attack: Any, weights: Any) -> None:
    edges = np.linspace(0, 1, 11)
    bins = np.clip(np.digitize(highest, edges) - 1, 0, 9)
    filled = [one for one in range(10) if (bins == one).any()]
    said = [np.average(highest[bins == one], weights=weights[bins == one]) for one in filled]
    seen = [np.average(attack[bins == one], weights=weights[bins == one]) for one in filled]
    _axis(axis, "reliability of a session's highest score", "score", "share of attacks")
    axis.plot([0, 1], [0, 1], "--", color="grey")
    axis.plot(said, seen, "o-")


def _detection(axis: Any, scored: Scored, figures: Figures) -> None:
    blocks = scored.first_blocks(figures.threshold)
    _axis(axis, "attacks blocked by the attacker's n-th action", "n", "share of the family")
    types, start = scored.sessions.types, scored.sessions.attacked_from
    for family in figures.by_family:
        chosen = (types.codes == types.names.index(family)) & (scored.labels == 1)
        number = np.where(blocks == NEVER, NEVER, blocks - start + 1)[chosen]
        axis.plot(
            range(1, 31), [float(((number <= n) & (number > 0)).mean()) for n in range(1, 31)], label=family
        )
    if figures.by_family:
        axis.legend(fontsize=7)


def _traces(axis: Any, scored: Scored, figures: Figures, *, label: int, title: str) -> None:
    _axis(axis, title, "action of the session", "score")
    chosen = np.flatnonzero(scored.packed.labels == label)
    if not label:
        chosen = chosen[np.argsort(-scored.highest()[chosen], kind="stable")]
    for number in chosen[:_TRACES].tolist():
        trace = scored.scores[scored.packed.starts[number] : scored.packed.starts[number + 1]]
        axis.plot(range(1, len(trace) + 1), trace, alpha=0.7)
    axis.axhline(figures.threshold, color="black", linestyle="--")


def _times(metadata: ModelMetadata) -> str:
    count = len(metadata.gap_bounds_ms)
    return f"with the gap before each in one of {count + 1} buckets" if count else "without times"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
