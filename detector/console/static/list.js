// The list: the newest alerts, bounded, searched and filtered; or of them the queue, what has yet to be judged.

import { $, cause, chip, element, finding, modelName, numbers, risk, shortTime, time } from "./dom.js";
import { FILTERS, address, place } from "./address.js";
import { forget, holding, judge, waits } from "./judged.js";

const shown = new Map(); // alert id → { alert, item, words }, in no order; the list has the view's
const held = []; // came while the list was paused
let keep = 1000;
let paused = false;
let reading = true; // what was on the topic before is still to come
let judging = { reading: true, trouble: "" }; // likewise the verdicts; and why there may be none
let order = null;
let base = "#"; // what the address names beside the alert; each row's leads to the same

export const find = (id) => shown.get(id);
export const mostKept = () => keep;
export const stillReading = () => reading;
export const alertsKept = () => [...shown.values()].map((one) => one.alert);

// The order of the queue: a customer locked out before one that was asked, before one that went on; then the tenth of the
// risk; then who has waited longest. Of all: the newest first.
const RANKS = { BLOCK: 0, CHALLENGE: 1, REVIEW: 2 };
const rank = (alert) => RANKS[alert.decision] ?? 3;
const tenth = (alert) => Math.floor(alert.score * 10);
const newest = (one, other) => other.detected_at_ms - one.detected_at_ms;
const gravest = (one, other) => rank(one) - rank(other) || tenth(other) - tenth(one) || one.detected_at_ms - other.detected_at_ms;

export function take(alerts) {
  if (paused) {
    held.push(...alerts);
    held.splice(0, held.length - keep);
    tellPause();
    return;
  }
  const fresh = alerts.filter((alert) => !shown.has(alert.alert_id));
  for (const alert of fresh) insert(alert);
  if (shown.size > keep) for (const { alert, item } of sorted(newest).slice(keep)) { shown.delete(alert.alert_id); item.remove(); }
  if (fresh.length) {
    filter();
    if (!reading) announce(fresh);
  }
}

export function takeVerdicts(verdicts) {
  judge(verdicts, alertsKept(), keep);
  const sessions = new Set(verdicts.map((one) => one.session_id));
  for (const { alert, item } of shown.values()) if (sessions.has(alert.session_id)) tellFinding(alert, item);
  filter();
}

function tellFinding(alert, item) {
  const found = holding(alert);
  item.querySelector(".found").replaceChildren(...(found ? [finding(found), " "] : []));
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
  forget();
  held.length = 0;
  $("alerts").replaceChildren();
  tellPause();
  filter();
}

export function setReading(now) {
  reading = now;
  filter();
}

export function setJudging(now) {
  judging = now;
  filter();
}

// All of them in an order; of two that are alike the later to come first.
const sorted = (by) => [...shown.values()].reverse().sort((one, other) => by(one.alert, other.alert));

function insert(alert) {
  // A second factor that the model does not know is no step of the window.
  const isStep = alert.cause !== "step_up_failed" || alert.window.at(-1) === alert.action;
  const before = alert.window.slice(0, isStep ? -1 : undefined).reverse();
  const row = element("a", { class: "row", href: href(alert) },
    chip(alert),
    element("span", { class: "who" }, alert.session_id),
    element("span", { class: "score" }, risk(alert.score)),
    element("span", { class: "actions" }, element("span", { class: "found" }), cause(alert) ? element("em", {}, `${cause(alert)}: `) : null, element("b", {}, alert.action), before.length ? ` after ${before.join(", ")}` : ""),
    time(alert.detected_at_ms, shortTime(alert.detected_at_ms)));
  const item = element("li", { "data-alert": alert.alert_id, class: reading ? null : "new" }, row);
  const list = $("alerts");
  let after = list.firstElementChild;
  while (after && (order ?? newest)(alert, find(after.dataset.alert).alert) > 0) after = after.nextElementSibling;
  list.insertBefore(item, after);
  const words = [alert.session_id, alert.account_id, alert.event_id, cause(alert), ...alert.window].join("\n").toLowerCase();
  shown.set(alert.alert_id, { alert, item, words });
  tellFinding(alert, item);
  for (const [name, value, text] of [["decision", alert.decision], ["cause", causeOf(alert), causeOf(alert).replaceAll("_", " ")], ["action", alert.action], ["model", modelOf(alert), modelName(alert.model)]]) option(select(name), value, text);
}

const href = (alert) => `${base}${base === "#" ? "" : "&"}alert=${encodeURIComponent(alert.alert_id)}`;
const select = (name) => $(`by-${name}`);
const causeOf = (alert) => alert.cause ?? "score";
const modelOf = (alert) => alert.model.sha256.slice(0, 12);

function option(list, value, text) {
  const known = [...list.options].find((one) => one.value === value);
  if (known && text) known.text = text; // an address may have named it before
  if (known) return;
  const after = [...list.options].slice(1).find((one) => one.value > value) ?? null;
  list.insertBefore(element("option", { value }, text ?? value), after);
}

// Shows the view that the address names.
export function filter() {
  const wanted = place();
  const queue = wanted.view === "queue";
  const by = queue ? gravest : newest;
  if (order !== by) $("alerts").append(...sorted(by).map((one) => one.item));
  order = by;
  for (const name of FILTERS) { if (wanted[name]) option(select(name), wanted[name]); select(name).value = wanted[name]; }
  if ($("search").value !== wanted.q) $("search").value = wanted.q;
  const found = { none: (alert) => waits(alert), given: (alert) => holding(alert) !== undefined, FRAUD: (alert) => holding(alert)?.verdict === "FRAUD", LAWFUL: (alert) => holding(alert)?.verdict === "LAWFUL" };
  const fitting = [
    [wanted.q, ({ words }) => words.includes(wanted.q.trim().toLowerCase())],
    [wanted.decision, ({ alert }) => alert.decision === wanted.decision],
    [wanted.cause, ({ alert }) => causeOf(alert) === wanted.cause],
    [wanted.action, ({ alert }) => alert.action === wanted.action],
    [wanted.model, ({ alert }) => modelOf(alert) === wanted.model],
    [wanted.verdict, ({ alert }) => found[wanted.verdict]?.(alert)],
  ].filter(([is]) => is).map(([, fits]) => fits);
  const moved = base !== address({ alert: "" });
  base = address({ alert: "" });
  const visible = [], waiting = [];
  for (const one of shown.values()) {
    const isWaiting = waits(one.alert);
    if (isWaiting) waiting.push(one);
    const fits = (!queue || isWaiting) && fitting.every((fit) => fit(one));
    one.item.hidden = !fits;
    if (fits) visible.push(one);
    if (moved) one.item.firstElementChild.setAttribute("href", href(one.alert));
  }
  tellViews(queue, wanted, waiting.length);
  tellCount(queue, visible, waiting.length);
}

function tellViews(queue, wanted, waiting) {
  const unknown = reading || judging.reading;
  $("queue-length").textContent = unknown ? "…" : numbers.format(waiting);
  $("all-length").textContent = numbers.format(shown.size);
  for (const [id, view] of [["view-queue", "queue"], ["view-all", ""]]) {
    $(id).setAttribute("href", address({ view }));
    if (queue === (view === "queue")) $(id).setAttribute("aria-current", "page");
    else $(id).removeAttribute("aria-current");
  }
  const count = FILTERS.filter((name) => wanted[name]).length;
  $("filters-set").textContent = count ? ` (${count} set)` : "";
  $("clear").hidden = !count && !wanted.q;
}

function tellCount(queue, visible, waiting) {
  const sessions = new Set(visible.map(({ alert }) => JSON.stringify([alert.account_id, alert.session_id]))).size;
  const all = `${numbers.format(shown.size)} ${shown.size === 1 ? "alert" : "alerts"}`;
  const of = shown.size < keep ? "" : `, of the newest ${numbers.format(keep)}`;
  const order = reading ? ", reading…" : shown.size < keep ? ", the newest first" : ", the newest; older ones are on the topic";
  const some = visible.length < (queue ? waiting : shown.size) ? `${numbers.format(visible.length)} of ` : "";
  const lot = queue ? `${numbers.format(waiting)} to judge${some || visible.length === sessions ? "" : ` in ${numbers.format(sessions)} sessions`}${of}` : all;
  const inOrder = queue ? ", by decision, risk and wait" : order;
  $("count").textContent = queue && judging.reading ? "Reading the verdicts…" : some + lot + (some ? "" : inOrder);
  $("judging").textContent = judging.trouble;
  $("judging").hidden = !judging.trouble;
  $("empty").hidden = visible.length > 0;
  $("empty").textContent = reading ? "Reading the alerts on the topic…" : queue && !waiting ? "No alert waits for a verdict."
    : shown.size ? "No alert fits the search and filters." : "No alert has been committed yet. They appear here as they are.";
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

const rows = () => [...document.querySelectorAll("#alerts li:not([hidden]) a")];

export function neighbour(step) {
  const all = rows();
  const at = all.findIndex((row) => row === document.activeElement || row.getAttribute("aria-current") === "true");
  return all[Math.min(all.length - 1, Math.max(0, at + step))]?.parentElement.dataset.alert;
}

// The next alert of the view that is of another session, which a verdict leaves where it is: below, or else from the top.
export function nextAfter(alert) {
  const ids = rows().map((row) => row.parentElement.dataset.alert);
  const at = ids.indexOf(alert.alert_id);
  return [...ids.slice(at + 1), ...ids.slice(0, Math.max(0, at))].find((id) => {
    const other = find(id).alert;
    return other.session_id !== alert.session_id || other.account_id !== alert.account_id;
  });
}
