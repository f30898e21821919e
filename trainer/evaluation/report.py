"""The report of one model: plots as PNG, all of it as one HTML page, and the model card in Markdown."""

import base64
import html
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from detector.core.signals import Signal, Signals
from detector.model.metadata import ModelMetadata
from detector.writing import written_whole
from trainer.data.sessions import LabelsOf
from trainer.evaluation.course import BUILT_IN, Course
from trainer.evaluation.curves import Ranking
from trainer.evaluation.evasion import Escapes
from trainer.evaluation.figures import Difference, Figures, Group
from trainer.evaluation.scoring import Scored
from trainer.evaluation.units import judge

_TRACES: Final = 12
_DPI: Final = 110
_LOWEST_RATE: Final = 1e-5
_BAND_DRAWS: Final = 100
_GRID: Final = 200
_LABELS: Final = {
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "last_roc_auc": "ROC-AUC, scores after the last action",
    "last_pr_auc": "PR-AUC, scores after the last action",
    "recall": "recall at the threshold",
    "false_alarm_rate": "false alarms per lawful {unit}",
    "precision": "precision",
    "f1": "F1 at the threshold",
    "best_f1": "best F1",
    "macro_f1": "macro F1 at the threshold",
    "best_macro_f1": "best macro F1",
    "alerts_per_1000": "alerts per 1,000 {unit}s",
    "served_recall": "recall as served, by scores after each action",
    "served_false_alarm_rate": "false alarms per lawful {unit} as served, by scores after each action",
    "blocked_before_last_large": "blocked before the last large transfer",
    "blocked_by_last_large": "blocked on that transfer at the latest",
    "blocked_before_any_money": "blocked before any transfer",
    "lawful_challenged": "lawful {unit}s challenged or blocked",
    "stopped": "attacks challenged or blocked",
    "stopped_before_last_large": "challenged or blocked before the last large transfer",
    "stopped_by_last_large": "challenged or blocked on that transfer at the latest",
    "several_blocked_before_large": "attacks of several sessions blocked before their first large transfer",
}


_KINDS: Final = {
    "bigrams": "Logistic regression on pairs of actions, which did better than a network. ",
    "recurrent": "A recurrent network. ",
}


class Section(NamedTuple):
    """A table of the report."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def write_report(
    out: Path, metadata: ModelMetadata, figures: Figures, scored: Scored, more: Iterable[Section] = ()
) -> list[Path]:
    """Write plots, page and card, with more tables if given, beside a model file; return their paths.

    Raises:
        OSError: one cannot be written.
    """
    png = plots(scored, figures)
    card = list(model_card(metadata, figures, more))
    paths = [out.with_suffix(suffix) for suffix in (".png", ".html", ".md")]
    contents = (png, _page(metadata.name, card, png).encode(), "\n".join(_markdown(card)).encode())
    for path, content in zip(paths, contents, strict=True):
        with written_whole(path) as file:
            file.write(content)
    return paths


class Text(NamedTuple):
    """A heading of the first or second rank, or a paragraph."""

    tag: Literal["h1", "h2", "p"]
    text: str


def model_card(
    metadata: ModelMetadata, figures: Figures, more: Iterable[Section] = ()
) -> Iterator[Text | Section]:
    """Yield the model card (Mitchell et al. 2019), piece by piece."""
    training, libraries = (
        ", ".join(f"{name} {value}" for name, value in one.items())
        for one in (metadata.training, metadata.libraries)
    )
    count = len(metadata.gap_bounds_ms)
    times = f"with the gap before each in one of {count + 1} buckets" if count else "without times"
    others = " and a token for others" if metadata.unknown_token else ""
    adds_up = ", and adds up what they come to" if metadata.evidence else ""
    signals = ", and the signals below" if metadata.signals else ""
    challenge = metadata.challenge_threshold
    challenges = "" if challenge is None else f", asks for a second factor from {challenge:.6g} on"
    told = metadata.training
    data = f"Simulated by the preset {metadata.preset}"
    if "source" in told:
        data = f"{told['source']}: {told['labelled']:,} labelled {told['unit']}s, {told['attacks']:,} of them attacks, split by {told['split_by']}"
    yield Text("h1", f"{metadata.name} {metadata.version}")
    yield Text(
        "p",
        f"{_KINDS.get(str(told.get('model')), '')}Scores the last {metadata.window} actions of a session, {times}{signals}, after "
        f"every action{adds_up}; blocks at {metadata.threshold:.6g}{challenges}. Vocabulary of {len(metadata.vocabulary):,} actions{others}.",
    )
    yield Text("h2", "Data")
    yield Text("p", f"{data}. SHA-256 of the sessions as they were read: {metadata.data_sha256}.")
    if metadata.signals:
        yield Text("h2", "Signals")
        header = ("read beside action and gap", "kind", "of")
        yield Section(header, [(one.name, one.kind.value, one.of) for one in metadata.signals])
    yield Text("h2", "Figures")
    yield from sections(figures)
    yield from more
    yield Text("h2", "Use and limits")
    yield Text(
        "p",
        "For blocking or stepping up sessions whose actions resemble an account takeover. A figure on simulated traffic is "
        "a figure on that traffic: train and evaluate on your own before you rely on it. "
        f"{_knows(metadata.signals)} Scores are probabilities at the base "
        "rate above only as far as the reliability plot shows.",
    )
    yield Text("h2", "Training")
    yield Text("p", f"{training}. {libraries}.")


def _knows(declared: Sequence[Signal]) -> str:
    """Say what the model knows of a session and its account."""
    if not declared:
        return "The model knows actions and their times alone, neither amounts nor devices, and nothing of earlier sessions."
    signals = Signals(declared)
    events = (
        "Of events the model reads " + ", ".join(("action", "time", *signals.fields)) + ", and nothing else"
    )
    earlier = (
        "of earlier sessions what the account's profile keeps for the signals above, none of it where an account is new"
        if signals.of_history
        else "nothing of earlier sessions"
    )
    return f"{events}; {earlier}. A field that an event does not carry is absent to it."


def _markdown(card: Iterable[Text | Section]) -> Iterator[str]:
    marks = {"h1": "# ", "h2": "## ", "p": ""}
    for piece in card:
        if isinstance(piece, Text):
            yield f"{marks[piece.tag]}{piece.text}"
        else:
            yield from markdown_table(piece.header, piece.rows)
        yield ""


def _page(title: str, card: Iterable[Text | Section], png: bytes) -> str:
    """Return the card as a page of its own, its plots beneath the first paragraph."""

    def row(tag: str, cells: Iterable[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    pieces = [
        f"<{one.tag}>{html.escape(one.text)}</{one.tag}>"
        if isinstance(one, Text)
        else f"<table>{row('th', one.header)}{''.join(row('td', cells) for cells in one.rows)}</table>"
        for one in card
    ]
    image = base64.b64encode(png).decode()
    plots = f"<img alt='PR, ROC, reliability, detection by action number, score traces' src='data:image/png;base64,{image}'>"
    head = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        "<style>body{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em}img{max-width:100%}"
        "table{border-collapse:collapse;margin:1em 0}th,td{border:1px solid #ccc;padding:.2em .6em;text-align:left}</style>"
    )
    return "\n".join([head, *pieces[:2], plots, *pieces[2:]])


def sections(figures: Figures) -> Iterator[Section]:
    """Yield the tables of a model's figures, in words; those of no use are left out."""
    yield Section((f"on the {figures.unit}s {figures.part}", "", "95 % interval"), list(figure_rows(figures)))
    if figures.at_k:
        ranks = [(f"{k:,}", f"{at.precision:.2%}", f"{at.recall:.2%}") for k, at in figures.at_k.items()]
        yield Section((f"{figures.unit}s with the highest scores", "precision", "recall"), ranks)
    money = "before the last large transfer", "challenged or blocked before it"
    for title, share, groups in (
        ("attack family", "blocked", figures.by_family),
        ("lawful kind", "false alarms", figures.by_lawful_kind),
        ("type of customer", "false alarms", figures.by_customer_type),
        ("length of a lawful session", "false alarms", figures.by_length),
    ):
        if groups:
            told = [(one.before_money, one.stopped_before_money) for one in groups.values()]
            columns = 4 + max(2 - one.count(None) for one in told)
            header = (title, "sessions", share, "95 % interval", *money)
            yield Section(header[:columns], [row[:columns] for row in group_rows(groups)])


def difference_section(found: Mapping[str, Difference], unit: LabelsOf) -> Section:
    """Return the table of two models on the same examples."""
    rows = []
    for name, one in found.items():
        less = one.second_less_first
        shown = _shown(name)
        signed = shown.replace(":", ":+")
        interval = f"{signed.format(less.value)} ({signed.format(less.low)} to {signed.format(less.high)})"
        rows.append((label_of(name, unit), shown.format(one.first), shown.format(one.second), interval))
    return Section(("both models", "--model", "--compare", "difference, 95 % interval"), rows)


def escape_section(found: Iterable[Escapes]) -> Section:
    """Return the table of what escapes."""
    rows = [
        (
            one.edit,
            f"{one.attacks:,}",
            *(
                f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})"
                for share in (one.share, one.share_anywhere)
            ),
        )
        for one in found
    ] or [("no attack is caught", "0", "", "")]
    return Section(("caught attacks, edited", "attacks", "escape, right before the block", "anywhere"), rows)


def figure_rows(figures: Figures) -> Iterator[tuple[str, str, str]]:
    """Yield the main figures in words: name, value, interval."""
    lawful = figures.examples - figures.attacks
    yield f"{figures.unit}s", f"{figures.attacks:,} attacks, {lawful:,} lawful", ""
    yield "share of attacks assumed", f"{figures.base_rate:.4g}, {figures.base_rate_from}", ""
    yield "threshold", f"{figures.threshold:.6g}", ""
    if figures.challenge_threshold is not None:
        yield "challenge threshold", f"{figures.challenge_threshold:.6g}", ""
    for name, one in figures.estimates.items():
        label, shown = label_of(name, figures.unit), _shown(name)
        if name == "best_f1":
            label += f", at a threshold of {figures.best_f1_threshold:.6g}"
        if "macro" not in name or figures.unit != "session":
            yield label, shown.format(one.value), f"{shown.format(one.low)} to {shown.format(one.high)}"
    if figures.smallest_rate > 1e-4:  # noqa: PLR2004  0.01 %, the smallest that is asked for
        yield "smallest share of false alarms that can be told", f"{figures.smallest_rate:.2%}", ""
    for label, number in (
        ("actions of the attacker until the block, median", figures.actions_until_block_median),
        ("seconds until the block, median", figures.seconds_until_block_median),
    ):
        if number is not None:
            yield label, f"{number:g}", ""
    yield "Brier score", f"{figures.brier:.5f}", ""
    yield "expected calibration error", f"{figures.ece:.5f}", ""


def label_of(name: str, unit: LabelsOf) -> str:
    """Return a figure's name in words."""
    if name.startswith("recall_at_"):
        return f"recall at {100 * float(name.removeprefix('recall_at_')):g} % false alarms per {unit}"
    if name.startswith("blocked_after_"):
        number = name.removeprefix("blocked_after_")
        return f"blocked within {number} action{'' if number == '1' else 's'} of the attacker"
    return _LABELS[name].format(unit=unit)


def _shown(name: str) -> str:
    return "{:.4f}" if "auc" in name else "{:.2f}" if name == "alerts_per_1000" else "{:.2%}"


def group_rows(groups: Mapping[str, Group]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each group."""
    for name, group in groups.items():
        before, stopped = (
            "" if one is None else f"{one:.1%}" for one in (group.before_money, group.stopped_before_money)
        )
        share = group.share
        yield (
            name,
            f"{group.sessions:,}",
            f"{share.value:.2%} ({group.alerts:,})",
            f"{share.low:.2%} to {share.high:.2%}",
            before,
            stopped,
        )


def markdown_table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    for number, row in enumerate((header, *rows)):
        cells = (cell.replace("|", r"\|") for cell in row)
        yield f"| {' | '.join(cells)} |"
        if not number:
            yield "|" + "---|" * len(header)


def plots(scored: Scored, figures: Figures) -> bytes:
    """Draw PR and ROC with bands of 95 %, reliability, detection by action number and score traces; return a PNG."""
    from matplotlib.figure import Figure  # noqa: PLC0415  --help must not wait for it

    page = Figure(figsize=(15, 9), layout="constrained")
    axes = page.subplots(2, 3).flatten().tolist()
    _curves(axes[0], axes[1], scored, figures)
    _reliability(axes[2], scored, figures)
    _detection(axes[3], scored, figures)
    _traces(axes[4], scored, figures, label=1, title="scores of some attacks")
    _traces(axes[5], scored, figures, label=0, title="scores of lawful sessions nearest the threshold")
    buffer = BytesIO()
    page.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def _axis(axis: Any, title: str, x: str, y: str) -> Any:
    axis.set(
        title=title, xlabel=x, ylabel=y, ylim=(-0.03, 1.03)
    )  # of a rate or a score, also where all are alike
    axis.grid(visible=True, alpha=0.3)
    return axis


def _curves(pr: Any, roc: Any, scored: Scored, figures: Figures) -> None:
    judged = judge(scored, figures.unit)
    ranking = Ranking.of(judged.labels, judged.scores)
    recalls = np.linspace(1 / _GRID, 1, _GRID)
    alarms = np.geomspace(max(_LOWEST_RATE, figures.smallest_rate / 2), 1, _GRID)
    drawn = []
    for weights in (None, *itertools.islice(judged.draws, _BAND_DRAWS)):
        curve = ranking.curve(figures.base_rate, weights)
        at_recall = np.minimum(np.searchsorted(curve.recall, recalls), len(curve.recall) - 1)
        at_alarms = np.searchsorted(curve.false_alarms, alarms, side="right")
        drawn.append((curve.precision[at_recall], np.append([0.0], curve.recall)[at_alarms]))
    unit = figures.unit
    for axis, grid, place in (
        (
            _axis(pr, f"precision and recall, {figures.base_rate:.2%} attacks", "recall", "precision"),
            recalls,
            0,
        ),
        (_axis(roc, f"ROC, by {unit}", f"false alarms per lawful {unit}", "recall"), alarms, 1),
    ):
        samples = np.array([one[place] for one in drawn])
        axis.plot(grid, samples[0])
        axis.fill_between(grid, *np.percentile(samples, [2.5, 97.5], axis=0), alpha=0.2)
    roc.set_xscale("log")


def _reliability(axis: Any, scored: Scored, figures: Figures) -> None:
    judged = judge(scored, figures.unit)
    odds = Ranking.of(judged.labels, judged.scores).curve(figures.base_rate).odds
    weights = np.where(judged.labels, 1.0, odds)
    bins = np.minimum((judged.scores * 10).astype(int), 9)
    weight, said, seen = (
        np.bincount(bins, weights * one, minlength=10) for one in (1.0, judged.scores, judged.labels)
    )
    filled = weight > 0
    _axis(axis, f"reliability of the score of a {figures.unit}", "score", "share of attacks")
    axis.plot([0, 1], [0, 1], "--", color="grey")
    axis.plot(said[filled] / weight[filled], seen[filled] / weight[filled], "o-")


def _detection(axis: Any, scored: Scored, figures: Figures) -> None:
    number = Course.of(scored, figures.threshold, BUILT_IN).number
    types, attack = scored.sessions.types, scored.sessions.labels == 1
    _axis(axis, "attacks blocked by the attacker's n-th action", "n", "share of the attacks")
    families = {name: (types.codes == types.names.index(name)) & attack for name in figures.by_family}
    for name, chosen in (families or {"all": attack}).items():
        axis.plot(range(1, 31), [float((number[chosen] <= n).mean()) for n in range(1, 31)], label=name)
    axis.legend(fontsize=7)


def _traces(axis: Any, scored: Scored, figures: Figures, *, label: int, title: str) -> None:
    _axis(axis, title, "action of the session", "score")
    chosen = np.flatnonzero(scored.sessions.labels == label)
    if not label:
        chosen = chosen[np.argsort(-scored.highest()[chosen], kind="stable")]
    for number in chosen[:_TRACES].tolist():
        trace = scored.scores[scored.sessions.starts[number] : scored.sessions.starts[number + 1]]
        axis.plot(range(1, len(trace) + 1), trace, alpha=0.7)
    axis.axhline(figures.threshold, color="black", linestyle="--")
