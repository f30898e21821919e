// The list: the newest alerts, bounded, searched and filtered.

import { $, cause, chip, element, numbers, risk, shortTime, time } from "./dom.js";
import { href } from "./alert.js";

const shown = new Map(); // alert id → { alert, item, words }, in no order; the list has the newest first
const held = []; // came while the list was paused
let keep = 1000;
let paused = false;
let reading = true; // what was on the topic before is still to come

export const find = (id) => shown.get(id);
export const mostKept = () => keep;
export const stillReading = () => reading;

export function others(alert) {
  const same = [...shown.values()].map((one) => one.alert)
    .filter((other) => other.alert_id !== alert.alert_id && (other.session_id === alert.session_id || other.account_id === alert.account_id));
  return same.sort((one, other) => other.detected_at_ms - one.detected_at_ms);
}

export function take(alerts) {
  if (paused) {
    held.push(...alerts);
    held.splice(0, held.length - keep);
    tellPause();
    return;
  }
  const fresh = alerts.filter((alert) => !shown.has(alert.alert_id));
  for (const alert of fresh) insert(alert);
  while (shown.size > keep) {
    const oldest = $("alerts").lastElementChild;
    shown.delete(oldest.dataset.alert);
    oldest.remove();
  }
  if (fresh.length) {
    filter();
    if (!reading) announce(fresh);
  }
}

export function togglePause() {
  paused = !paused;
  tellPause();
  if (!paused) take(held.splice(0));
}

function tellPause() {
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = !paused ? "Pause" : held.length ? `Resume (${numbers.format(held.length)})` : "Resume";
}

export function reset(most) {
  keep = most;
  shown.clear();
  held.length = 0;
  $("alerts").replaceChildren();
  tellPause();
  filter();
}

export function setReading(now) {
  reading = now;
  filter();
}

function insert(alert) {
  // A second factor that the model does not know is no step of the window.
  const isStep = alert.cause !== "step_up_failed" || alert.window.at(-1) === alert.action;
  const before = alert.window.slice(0, isStep ? -1 : undefined).reverse();
  const row = element("a", { class: "row", href: href(alert) },
    chip(alert),
    element("span", { class: "who" }, alert.session_id),
    element("span", { class: "score" }, risk(alert.score)),
    element("span", { class: "actions" }, cause(alert) ? element("em", {}, `${cause(alert)}: `) : null, element("b", {}, alert.action), before.length ? ` after ${before.join(", ")}` : ""),
    time(alert.detected_at_ms, shortTime(alert.detected_at_ms)));
  const item = element("li", { "data-alert": alert.alert_id, class: reading ? null : "new" }, row);
  item.dataset.at = alert.detected_at_ms;
  const list = $("alerts");
  let after = list.firstElementChild;
  while (after && Number(after.dataset.at) > alert.detected_at_ms) after = after.nextElementSibling;
  list.insertBefore(item, after);
  const words = [alert.session_id, alert.account_id, alert.event_id, cause(alert), ...alert.window].join("\n").toLowerCase();
  shown.set(alert.alert_id, { alert, item, words });
  option($("decision"), alert.decision);
  option($("action"), alert.action);
}

function option(select, value) {
  if ([...select.options].some((one) => one.value === value)) return;
  const after = [...select.options].slice(1).find((one) => one.value > value) ?? null;
  select.insertBefore(element("option", { value }, value), after);
}

export function filter() {
  const wanted = $("search").value.trim().toLowerCase();
  const decision = $("decision").value;
  const action = $("action").value;
  let visible = 0;
  for (const { alert, item, words } of shown.values()) {
    const fits = words.includes(wanted) && (!decision || alert.decision === decision) && (!action || alert.action === action);
    item.hidden = !fits;
    visible += fits;
  }
  const all = `${numbers.format(shown.size)} ${shown.size === 1 ? "alert" : "alerts"}`;
  const order = reading ? ", reading…" : shown.size < keep ? ", the newest first" : ", the newest; older ones are on the topic";
  $("count").textContent = visible === shown.size ? all + order : `${numbers.format(visible)} of ${all}`;
  $("empty").hidden = visible > 0;
  $("empty").textContent = shown.size ? "No alert fits the search and filters."
    : reading ? "Reading the alerts on the topic…" : "No alert has been committed yet. They appear here as they are.";
}

let announced = 0;
let announcement = null;
function announce(alerts) { // at most every five seconds: a screen reader reads it out
  announced += alerts.length;
  announcement ??= setTimeout(() => {
    $("announcer").textContent = announced === 1 ? "One new alert" : `${announced} new alerts`;
    announced = 0;
    announcement = null;
  }, 5000);
}

export function mark(one) {
  for (const row of document.querySelectorAll('#alerts a[aria-current="true"]')) row.removeAttribute("aria-current");
  one?.item.firstElementChild.setAttribute("aria-current", "true");
}

export function neighbour(step) {
  const rows = [...document.querySelectorAll("#alerts li:not([hidden]) a")];
  const at = rows.findIndex((row) => row === document.activeElement || row.getAttribute("aria-current") === "true");
  return rows[Math.min(rows.length - 1, Math.max(0, at + step))];
}
