"""The pipeline: stage → score → weigh → decide → shadow → reason, from partitions and their next entries to what they come to.

The detector in service runs it, and so does whoever computes its alerts afterwards: offline, in a backtest, or to
rebuild a partition. Nothing given to it is changed; `Partition.apply` takes over what came of it, once that is
committed. An entry that can't be processed is found by bisection and fails alone.
"""

import itertools
from collections import ChainMap, Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, replace
from typing import Final, NamedTuple

from detector.contract.actions import StepUp
from detector.contract.alerts import Alert
from detector.contract.dead_letters import Reason
from detector.core.carrying import Carrier, Weighed, weighed
from detector.core.decision import Decided, Past, Policy, Suppression, decide
from detector.core.drift import NOTHING, Tally, Watched, tally
from detector.core.encoding import Encoding
from detector.core.evidence import Evidence
from detector.core.judging import Taken
from detector.core.limits import SessionLimits
from detector.core.partition import Delta, Partition
from detector.core.retelling import settle
from detector.core.ruling import UNRULED, Ask, Rule
from detector.core.session import CARRIED, SHADOW_CARRIED, with_marks
from detector.core.shadowing import Challenger, Shadowed, Verdicts, ruled_in_shadow, shadowed
from detector.core.staging import Candidate, Entry, Failure, Staged, stage

_BATCH_ENTRIES: Final = 2_000
_ROUNDS: Final = 3
"""In which what a batch blocks is found out, where accounts go on after a block: each settles at least one block more."""


class ProcessingError(Exception):
    """An entry can't be processed: the fault is the detector's or the model's. The message says which and why."""


class ScoreRefusedError(ValueError):
    """A model's answer is no score."""


class Share(NamedTuple):
    """One partition's next entries.

    Attributes:
        source: topic and partition of the input.
        partition: as committed.
        entries: in the order of the log.
        next_offset: input offset after them, and after what lies between and behind them.
        pending: what earlier entries of the same batch come to.
    """

    source: tuple[str, int]
    partition: Partition
    entries: Sequence[Entry]
    next_offset: int
    pending: Delta | None = None

    @property
    def sessions(self) -> Mapping[str, bytes]:
        """Those that were live before its entries, and of the committed ones some that were not any more."""
        committed = self.partition.sessions
        return committed if self.pending is None else ChainMap(self.pending.touched, committed)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a share comes to.

    Attributes:
        delta: what it changes in its partition, to be committed with the alerts and then applied.
        alerts: in the order of the log, with their explanations.
        shadow_alerts: a challenger's, without explanations, and of rules in shadow.
        failures: entries that left no other trace: they could not be processed, or there was no room for them.
        scores: of the events, in the order of the log.
        agreement: scored events, by the verdicts of champion and challenger.
        matches: how often each rule held.
        suppressed: how often something was not published, by reason.
        trips: how often the circuit breaker opened.
        step_ups: what came of second factors that sessions were asked for.
        unscored: events that say what came of one, in an action that the model does not know.
        listings: of accounts.
        verdicts: on sessions, by what becomes of them.
        duplicates: events ignored.
        clamped: events before their session's last one.
        ahead: events whose time was too far ahead of the broker's.
        late: … or behind, and not taken for that.
        expired: sessions dropped because they were idle for too long.
        evicted: sessions dropped because there were too many.
        expired_accounts: profiles dropped because their accounts were unseen for too long.
        evicted_accounts: profiles dropped because there were too many.
        tally: what was scored, counted for drift; nothing unless that is watched.
    """

    delta: Delta
    alerts: list[Alert] = field(default_factory=list)
    shadow_alerts: list[Alert] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    agreement: Counter[Verdicts] = field(default_factory=Counter)
    matches: Counter[Rule] = field(default_factory=Counter)
    suppressed: Counter[Suppression] = field(default_factory=Counter)
    trips: int = 0
    step_ups: Counter[StepUp] = field(default_factory=Counter)
    unscored: int = 0
    listings: int = 0
    verdicts: Counter[Taken] = field(default_factory=Counter)
    duplicates: int = 0
    clamped: int = 0
    ahead: int = 0
    late: int = 0
    expired: int = 0
    evicted: int = 0
    expired_accounts: int = 0
    evicted_accounts: int = 0
    tally: Tally = NOTHING

    def then(self, later: "Outcome") -> "Outcome":
        """Return both as one; the later one's delta holds this one's."""
        names = [one.name for one in fields(self) if one.name != "delta"]
        return Outcome(later.delta, **{name: getattr(self, name) + getattr(later, name) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """What turns entries into alerts, and into what they change.

    Attributes:
        encoding: of the model.
        score: the model's risk of each candidate's window, from 0 to 1.
        policy: what decides.
        limits: of sessions.
        evidence: how a session's windows add up; None lets each stand alone.
        past: what the entries led to when they were decided before, for a rebuild.
        explain: gives alerts their explanations; none without it.
        challenger: scores the same windows in shadow.
        rules: beside the model, in shadow or not; None asks none.
        watched: what traffic is held against for drift; None counts nothing.
        isolates: whether an entry that can't be processed fails alone, or all of them with it.
        now_ms: the clock, for `detected_at_ms` alone.
        timed: measures each stage, by its name.
    """

    encoding: Encoding
    score: Callable[[Sequence[Candidate]], list[float]]
    policy: Policy
    limits: SessionLimits
    evidence: Evidence | None = None
    past: Past | None = None
    explain: Callable[[Decided], Decided] | None = None
    challenger: Challenger | None = None
    rules: Ask | None = None
    watched: Watched | None = None
    isolates: bool = True
    now_ms: Callable[[], int] = lambda: 0
    timed: Callable[[str], AbstractContextManager[object]] = lambda _: nullcontext()

    def run(self, shares: Sequence[Share]) -> list[Outcome]:
        """Return what each share comes to; the windows of all are scored in one call.

        Raises:
            ProcessingError: an entry can't be processed, and does not fail alone.
        """
        try:
            return self._run(shares)
        except Exception:  # noqa: BLE001  whatever it is: the entry at fault is looked for
            return [self._isolated(share) for share in shares]

    def over(
        self,
        partition: Partition,
        entries: Iterable[Entry],
        source: tuple[str, int],
        batch_entries: int = _BATCH_ENTRIES,
    ) -> Iterator[Outcome]:
        """Run over the log of one partition at rest, which is changed; the batches' size changes nothing but the speed."""
        remaining = iter(entries)
        while batch := list(itertools.islice(remaining, batch_entries)):
            (outcome,) = self.run([Share(source, partition, batch, batch[-1].offset + 1)])
            partition.apply(outcome.delta)
            yield outcome

    def _run(self, shares: Sequence[Share]) -> list[Outcome]:
        """Return what each share comes to, up to the verdict that cuts it and then from there on."""
        outcomes, rest = dict[int, Outcome](), dict(enumerate(shares))
        while rest:
            tried = self._try(list(rest.values()))
            for (number, share), (cut_at, outcome) in zip(list(rest.items()), tried, strict=True):
                del rest[number]
                part = share
                if cut_at is not None:
                    until = next(at for at, one in enumerate(share.entries) if one.offset == cut_at)
                    part = share._replace(entries=share.entries[:until])
                found = outcome or self._in_halves(part, lambda half: self._run([half])[0])
                outcomes[number] = outcomes[number].then(found) if number in outcomes else found
                if len(part.entries) < len(share.entries):
                    later = share.entries[len(part.entries) :]
                    rest[number] = share._replace(entries=later, pending=found.delta)
        return [outcomes[number] for number in range(len(shares))]

    def _try(self, shares: Sequence[Share]) -> list[tuple[int | None, Outcome | None]]:
        """Return the offset of the verdict that each share is cut at, if any, and what it comes to until there, if settled."""
        encoding, limits = self.encoding, self.limits
        with self.timed("stage"):
            staged = [
                stage(one.partition, one.entries, encoding, limits, one.pending, self.policy.step_ups)
                for one in shares
            ]
        with self.timed("score"):
            scores = [self._weigh(*each) for each in zip(shares, staged, self._score(staged), strict=True)]
        with self.timed("decide"):
            decided = [self._decide(*each) for each in zip(shares, staged, scores, strict=True)]
        settled = [self._settle(*each) for each in zip(shares, staged, scores, decided, strict=True)]
        with self.timed("shadow"):
            in_shadow = [
                self._shadow(share, each, *one) if one else None
                for share, each, one in zip(shares, staged, settled, strict=True)
            ]
        with self.timed("reason"):
            settled = [(one[0], self._explain(one[1])) if one else None for one in settled]
        return [
            (
                each.cut_at,
                _outcome(share, each, *one, shadow or [], self._tally(each, one[0])) if one else None,
            )
            for share, each, one, shadow in zip(shares, staged, settled, in_shadow, strict=True)
        ]

    def _settle(
        self, share: Share, staged: Staged, scores: Weighed, decided: Decided
    ) -> tuple[Weighed, Decided] | None:
        """Let accounts forget what blocked sessions have taught them, and score again what they did later in the batch.

        Likewise what challenged ones teach that have not passed. That may block others. It is settled when what is blocked
        and challenged is what was assumed: by the order of the log, each is then of a session that was told what those
        before it have left.
        """
        for _ in range(_ROUNDS):
            with self.timed("stage"):
                if not settle(staged, decided.trust, self.encoding):
                    return scores, decided
            with self.timed("score"):
                scores = self._weigh(share, staged, *self._score([staged]))
            with self.timed("decide"):
                decided = self._decide(share, staged, scores)
        return None

    def _in_halves(self, share: Share, run: Callable[[Share], Outcome]) -> Outcome:
        half = len(share.entries) // 2
        first = run(share._replace(entries=share.entries[:half]))
        return first.then(run(share._replace(entries=share.entries[half:], pending=first.delta)))

    def _score(self, staged: Sequence[Staged]) -> list[list[float]]:
        scores = self.score([candidate for one in staged for candidate in one.candidates])
        for score in scores:
            if not 0 <= score <= 1:  # nor is NaN
                raise ScoreRefusedError(
                    f"model {self.policy.model.name} scored {score}: expected a number from 0 to 1"
                )
        rest = iter(scores)
        return [list(itertools.islice(rest, len(one.candidates))) for one in staged]

    def _weigh(self, share: Share, staged: Staged, window_scores: list[float]) -> Weighed:
        carrier = Carrier(self.evidence, self.policy.model, CARRIED) if self.evidence else None
        return weighed(carrier, staged.candidates, window_scores, share.sessions)

    def _decide(self, share: Share, staged: Staged, scores: Weighed) -> Decided:
        return decide(
            staged.candidates,
            scores,
            breaker=(share.pending or share.partition).breaker,
            alerted=staged.alerted,
            policy=self.policy,
            encoding=self.encoding,
            source=share.source,
            now_ms=self.now_ms,
            ruled=self.rules(staged.candidates, scores.scores) if self.rules else UNRULED,
            past=self.past,
        )

    def _tally(self, staged: Staged, scores: Weighed) -> Tally:
        if self.watched is None:
            return NOTHING
        return tally(staged.candidates, scores.scores, self.encoding, self.watched)

    def _shadow(self, share: Share, staged: Staged, scores: Weighed, decided: Decided) -> list[Shadowed]:
        """Return what the challenger comes to, and what rules in shadow do."""
        candidates, encoding, source, now_ms = staged.candidates, self.encoding, share.source, self.now_ms
        tried = []
        if decided.ruled and self.past is None:
            tried.append(
                ruled_in_shadow(
                    candidates,
                    scores,
                    decided.ruled,
                    policy=self.policy,
                    encoding=encoding,
                    source=source,
                    now_ms=now_ms,
                )
            )
        if self.challenger is not None:
            policy, _, evidence = self.challenger
            carrier = Carrier(evidence, policy.model, SHADOW_CARRIED) if evidence else None
            tried.append(
                shadowed(
                    candidates,
                    weighed(carrier, candidates, self.challenger.scores(candidates), share.sessions),
                    scores.scores,
                    policy=policy,
                    champion=self.policy,
                    encoding=encoding,
                    source=source,
                    now_ms=now_ms,
                )
            )
        return tried

    def _explain(self, decided: Decided) -> Decided:
        """Give alerts their explanations; one that can't be explained is published without."""
        if self.explain is None or not decided.alerts:
            return decided
        try:
            return self.explain(decided)
        except Exception:  # noqa: BLE001  no block is held back for want of words
            if len(decided.alerts) == 1:
                return decided
        half = len(decided.alerts) // 2
        parts = [
            self._explain(replace(decided, alerts=decided.alerts[part], windows=decided.windows[part]))
            for part in (slice(half), slice(half, None))
        ]
        return replace(decided, alerts=[alert for part in parts for alert in part.alerts])

    def _isolated(self, share: Share) -> Outcome:
        """Bisect a share that can't be processed as a whole, down to the entries at fault."""
        try:
            return self._run([share])[0]
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"
            if len(share.entries) <= 1:
                offset = share.entries[0].offset if share.entries else share.next_offset
                if not share.entries or not self.isolates:
                    where = f"{share.source[0]}[{share.source[1]}] at offset {offset}"
                    raise ProcessingError(f"{where} can't be processed: {detail}") from error
                failed = Failure(offset, Reason.PROCESSING, detail)
                return Outcome(
                    share.pending or share.partition.unchanged(share.next_offset), failures=[failed]
                )
        return self._in_halves(share, self._isolated)


def _of_steps(scores: list[float], staged: Staged) -> list[float]:
    if not staged.unscored:
        return scores
    return [score for one, score in zip(staged.candidates, scores, strict=True) if one.is_step]


def _outcome(
    share: Share,
    staged: Staged,
    scores: Weighed,
    decided: Decided,
    in_shadow: Sequence[Shadowed],
    tallied: Tally,
) -> Outcome:
    marks = decided.marks
    for tried in in_shadow:
        marks = {one: marks.get(one, 0) | tried.marks.get(one, 0) for one in marks | tried.marks}
    before = staged.touched
    touched = before | {
        one: with_marks(before[one], new) for one, new in marks.items() if new and one in before
    }
    scores.keep(touched)
    for tried in in_shadow:
        tried.weighed.keep(touched)
    told = (alert for tried in in_shadow for alert in tried.alerts)
    delta = Delta(
        share.next_offset,
        staged.stream_time_ms,
        sorted(staged.removed),
        touched,  # in the order of the last touch, still
        staged.listed.changed,
        decided.breaker,
        sorted(staged.histories.forgotten),
        staged.histories.packed(),
        decided.alerted.changed,
        staged.heard_at_ms,
    )
    return Outcome(
        delta,
        alerts=decided.alerts,
        shadow_alerts=sorted(told, key=lambda one: one.source.offset),
        scores=_of_steps(scores.scores, staged),
        agreement=sum((tried.agreement for tried in in_shadow), Counter()),
        matches=Counter(rule for rules in decided.ruled.values() for rule in rules),
        suppressed=decided.suppressed,
        trips=decided.trips,
        step_ups=decided.step_ups,
        unscored=staged.unscored,
        failures=staged.failures,
        listings=staged.listings,
        verdicts=staged.verdicts,
        duplicates=staged.duplicates,
        clamped=staged.clamped,
        ahead=staged.ahead,
        late=staged.late,
        expired=staged.expired,
        evicted=staged.evicted,
        expired_accounts=staged.histories.expired,
        evicted_accounts=staged.histories.evicted,
        tally=tallied,
    )
