// What the account went through: all alerts and verdicts that are kept of it, in the order of time; and what is held back.

import { $, cause, chip, element, finding, numbers, risk, shortTime, time } from "./dom.js";
import { address } from "./address.js";
import { holding, ofAccount, verdictsOn } from "./judged.js";
import { alertsKept } from "./list.js";

const MOST = 100;

export function showHistory(alert) {
  const alerts = alertsKept().filter((one) => one.account_id === alert.account_id || one.session_id === alert.session_id);
  const verdicts = new Set([...ofAccount(alert.account_id), ...verdictsOn(alert)]);
  const told = [...alerts.map((one) => [one.detected_at_ms, one]), ...[...verdicts].map((one) => [one.decided_at_ms, one])];
  told.sort(([one], [other]) => one - other);
  const said = told.map(([, one]) => one.verdict_id ?? one.alert_id).join();
  if ($("history").dataset.said === said) return; // what has the focus keeps it
  $("history").dataset.said = said;
  const counts = [[alerts.length, "alert"], [verdicts.size, "verdict"]].filter(([count]) => count)
    .map(([count, name]) => `${numbers.format(count)} ${name}${count === 1 ? "" : "s"}`).join(", ");
  const denied = alerts.filter((one) => one.cause === "deny_list").sort((one, other) => other.detected_at_ms - one.detected_at_ms)[0];
  $("history").replaceChildren(
    element("h3", {}, "History of the account", element("small", {}, ` ${counts} kept, the oldest first`)),
    ...(denied ? [element("p", { class: "listed" }, "On the deny list when an alert was last decided by it, ", time(denied.detected_at_ms, shortTime(denied.detected_at_ms)), ".")] : []),
    ...(told.length > MOST ? [element("p", { class: "listed" }, `The last ${MOST} of ${numbers.format(told.length)}. `, element("a", { href: address({ q: alert.account_id, view: "" }) }, "All its alerts"))] : []),
    element("ol", { class: "history" }, ...told.slice(-MOST).map(([ms, one]) => element("li", {}, time(ms, shortTime(ms)), " ", ...(one.verdict_id ? ofVerdict(one, alert) : ofAlert(one, alert))))));
  showFound(alert);
}

const session = (one, alert) => (one.account_id !== alert.account_id ? `${one.session_id} of account ${one.account_id}`
  : one.session_id === alert.session_id ? "this session" : one.session_id);

function ofAlert(one, alert) {
  const by = cause(one) ? ` by ${cause(one)}` : "";
  const text = `${session(one, alert)}, ${risk(one.score)} after ${one.action}${by}`;
  if (one.alert_id === alert.alert_id) return [element("b", { class: "here" }, chip(one), ` ${text} (this alert)`)];
  return [element("a", { href: address({ alert: one.alert_id }) }, chip(one), " ", element("span", {}, text))];
}

function ofVerdict(one, alert) {
  return [finding(one), ` ${session(one, alert)}, by ${one.by}${one.fraud_type ? `, ${one.fraud_type}` : ""}${one.why ? `: ${one.why}` : ""}`];
}

// What the alert's session was found to be: the verdict that holds, and what it was before.
function showFound(alert) {
  const found = holding(alert);
  const before = verdictsOn(alert).slice(0, -1).reverse();
  $("found").hidden = !found;
  if (!found) return;
  $("found").replaceChildren(finding(found), ` by ${found.by}, `, time(found.decided_at_ms, shortTime(found.decided_at_ms)),
    `${found.fraud_type ? `, ${found.fraud_type}` : ""}${found.why ? `: ${found.why}` : ""}`,
    ...before.map((one) => element("small", {}, `before it ${one.verdict.toLowerCase()} by ${one.by}, ${shortTime(one.decided_at_ms)}`)));
}

// What the circuit breaker holds back: from the alerts that are kept, and from the workers that say whether it is open.
export function showHeldBack(figures) {
  const times = alertsKept().filter((one) => one.cause === "circuit_breaker").map((one) => one.detected_at_ms);
  const up = (figures?.workers ?? []).filter((one) => one.up);
  const sum = (name) => up.reduce((total, one) => total + one[name], 0);
  const open = sum("breakers_open");
  $("held-back").hidden = !times.length && !open;
  if ($("held-back").hidden) return;
  const at = (ms) => time(ms, shortTime(ms));
  const words = [element("b", {}, "Circuit breaker")];
  if (open) words.push(` Open on ${numbers.format(open)} of ${numbers.format(sum("partitions"))} partitions, since `, at(figures.breaker_open_since_ms), " as seen here", sum("on_probation") ? `; a model or setting is new to ${numbers.format(sum("on_probation"))}.` : ".");
  else if (up.length) words.push(" Closed.");
  if (times.length) {
    const first = times.reduce((one, other) => Math.min(one, other)), last = times.reduce((one, other) => Math.max(one, other));
    words.push(` ${numbers.format(times.length)} of the alerts kept ${times.length === 1 ? "is a block" : "are blocks"} held back as ${times.length === 1 ? "a challenge, of " : "challenges, since "}`, at(first));
    if (times.length > 1) words.push(", the last ", at(last));
    words.push(": ", element("a", { href: address({ cause: "circuit_breaker", decision: "", alert: "" }) }, "show"), ".");
  }
  const came = (outcome) => up.reduce((total, one) => total + (one.step_ups[outcome] ?? 0), 0);
  if (came("passed") + came("failed")) words.push(` Of all second factors ${numbers.format(came("passed"))} were passed and ${numbers.format(came("failed"))} failed.`);
  const said = words.map((one) => one.textContent ?? one).join("");
  if ($("held-back").dataset.said === said) return;
  $("held-back").dataset.said = said;
  $("held-back").replaceChildren(...words);
}
