// The verdicts on sessions: of each the last ones, those on alerts that are shown for as long as these are.

const MOST_OF_A_SESSION = 4;
const bySession = new Map(); // the longest not judged first; of a session the one that holds last
const key = ({ account_id, session_id }) => JSON.stringify([account_id, session_id]);

export const forget = () => bySession.clear();
export const verdictsOn = (alert) => bySession.get(key(alert)) ?? [];
export const holding = (alert) => verdictsOn(alert).at(-1);
export const ofAccount = (account) => [...bySession.values()].flat().filter((one) => one.account_id === account);

// Whether somebody has yet to say what the alert was. What cleared the session before it says nothing of it.
export function waits(alert) {
  const found = holding(alert);
  return !found || (found.verdict !== "FRAUD" && found.alert_id !== alert.alert_id && found.decided_at_ms < alert.detected_at_ms);
}

export function judge(verdicts, alerts, keep) {
  for (const one of verdicts) {
    const known = verdictsOn(one);
    bySession.delete(key(one));
    const both = known.some((other) => other.verdict_id === one.verdict_id) ? known : [...known, one];
    bySession.set(key(one), both.sort((first, second) => first.decided_at_ms - second.decided_at_ms).slice(-MOST_OF_A_SESSION));
  }
  const needed = bySession.size > 2 * keep ? new Set(alerts.map(key)) : null;
  while (bySession.size > 2 * keep) {
    const [oldest, of] = bySession.entries().next().value;
    bySession.delete(oldest);
    if (needed.has(oldest)) bySession.set(oldest, of);
  }
}
