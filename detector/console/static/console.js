// The console's page: the stream, what the address names, and the keys.

import { $, element, shortTime } from "./dom.js";
import { FILTERS, go, place } from "./address.js";
import { chart, detail, showExplanation } from "./alert.js";
import { showHeldBack, showHistory } from "./history.js";
import { filter, find, mark, mostKept, neighbour, nextAfter, reset, setJudging, setReading, stillReading, take, takeVerdicts, togglePause } from "./list.js";
import { setRunbook, showFigures } from "./health.js";
import { askForRights, onTold, press } from "./verdict.js";

let selected = null;
let latest = null; // figures
let link = { link: "connecting", since_ms: Date.now(), detail: "" };

// --- What the address names ---------------------------------------------------------------------

function route() {
  const before = selected;
  selected = place().alert || null;
  document.body.classList.toggle("reading", selected !== null);
  const one = find(selected);
  mark(one);
  if (selected !== before) one?.item.scrollIntoView({ block: "nearest" });
  if (selected !== null && $("detail").dataset.shows === selected) { // also once it is no longer kept
    if (one) showHistory(one.alert);
    return;
  }
  const said = one ? selected : selected === null ? "none" : stillReading() ? "reading" : "gone";
  if ($("detail").dataset.shows === said) return;
  $("detail").dataset.shows = said;
  const words = {
    none: "Choose an alert to see why.",
    reading: "Reading the alerts on the topic…",
    gone: `This alert is not among the newest ${mostKept()} that are kept here. It is on the topic for as long as the topic keeps it.`,
  };
  $("detail").replaceChildren(back(), ...(one ? detail(one.alert) : [element("p", { class: "empty" }, words[said])]));
  $("detail").scrollTop = 0;
  if (one) { showHistory(one.alert); explain(one.alert); }
  if (one && matchMedia("(max-width: 900px)").matches) {
    $("detail").focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

async function explain(alert) {
  const found = await fetch(`explanations/${encodeURIComponent(alert.alert_id)}`, { cache: "no-store" })
    .then((answer) => answer.json()).catch(() => ({ unexplained: "the console did not answer" }));
  if ($("detail").dataset.shows === alert.alert_id) showExplanation(alert, found);
}

function back() {
  const button = element("button", { type: "button", class: "back" }, "← Back to the list");
  button.addEventListener("click", leave);
  return button;
}

function leave() {
  const row = find(selected)?.item.firstElementChild;
  go({ alert: "" }, true);
  route();
  row?.focus();
}

function move(step) {
  open(neighbour(step));
}

// Goes to an alert of the list, by key or after a verdict: nothing to come back to.
function open(id) {
  if (!id) return;
  find(id).item.firstElementChild.focus();
  go({ alert: id }, true);
  route();
}

function show() {
  filter();
  showHeldBack(latest); // its link is into the view
  route();
}

// --- The stream ---------------------------------------------------------------------------------

function tellLink(state, text) {
  $("link").dataset.state = state;
  if ($("link-text").textContent !== text) $("link-text").textContent = text;
  $("figures").classList.toggle("stale", state === "lost");
  document.title = state === "live" ? "Session alerts" : `(${state.replace("_", " ")}) Session alerts`;
}

function showLink() {
  const texts = {
    connecting: "Connecting to Kafka…",
    reading: "Reading the topic…",
    live: "Live",
    no_topic: "Waiting for the topic to be created",
    unreachable: `Kafka unreachable since ${shortTime(link.since_ms)}, reconnecting…`,
  };
  tellLink(link.link, texts[link.link] ?? link.link);
  $("link").title = link.detail;
  setReading(link.link === "connecting" || link.link === "reading");
  route();
}

function listen() {
  const stream = new EventSource("stream");
  const on = (name, act) => stream.addEventListener(name, (event) => act(JSON.parse(event.data)));
  on("about", (about) => {
    reset(about.keep);
    setRunbook(about.runbook_url);
    $("sign-out").hidden = !about.token_required;
    $("no-figures").hidden = about.workers > 0;
  });
  on("alerts", (alerts) => { take(alerts); showHeldBack(latest); route(); });
  on("verdicts", (verdicts) => { takeVerdicts(verdicts); route(); });
  on("figures", (figures) => { latest = figures; $("figures").hidden = false; showFigures(figures); showHeldBack(figures); });
  on("link", (state) => { link = state; showLink(); });
  on("verdicts-link", (state) => setJudging({
    reading: state.link === "connecting" || state.link === "reading",
    trouble: state.link === "unreachable" ? `Verdicts can’t be read since ${shortTime(state.since_ms)} (${state.detail}): alerts may have one that is not shown.` : "",
  }));
  stream.addEventListener("open", showLink);
  stream.addEventListener("error", async () => {
    tellLink("lost", "Console unreachable, reconnecting…");
    if (stream.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    const answer = await fetch("session", { cache: "no-store" }).catch(() => null);
    if (answer?.status === 401) location.replace(`login${location.hash}`);
    else setTimeout(listen, 3000);
  });
}

// --- Keys and buttons ---------------------------------------------------------------------------

// Keys of one character can be switched off: who speaks to the computer would set them off (WCAG 2.1.4).
let keys = localStorage.getItem("keys") !== "off";
function tellKeys() {
  $("keys").setAttribute("aria-pressed", String(keys));
  $("keys").textContent = keys ? "Keys on" : "Keys off";
}
$("keys").addEventListener("click", () => {
  keys = !keys;
  localStorage.setItem("keys", keys ? "on" : "off");
  tellKeys();
});

for (const name of FILTERS) $(`by-${name}`).addEventListener("input", (event) => { go({ [name]: event.target.value }); show(); });
let typing = false; // a search is one step to go back, not one for each letter
$("search").addEventListener("input", () => { go({ q: $("search").value }, typing); typing = true; show(); });
$("search").addEventListener("blur", () => { typing = false; });
$("clear").addEventListener("click", () => { go({ q: "", ...Object.fromEntries(FILTERS.map((name) => [name, ""])) }); show(); $("search").focus(); });
onTold((alert, said) => {
  const next = place().view === "queue" ? nextAfter(alert) : undefined;
  if (!next) return;
  open(next);
  $("verdict-said").textContent = said;
});
$("pause").addEventListener("click", togglePause);
$("sign-out").addEventListener("click", async () => {
  const answer = await fetch("session", { method: "DELETE" }).catch(() => null);
  if (answer?.ok) location.replace("login");
  else tellLink("lost", "Not signed out: the console can’t be reached");
});
$("alerts").addEventListener("click", (event) => { // by Enter: what was chosen is to be read
  if (event.detail === 0 && event.target.closest("a")) requestAnimationFrame(() => $("detail").focus({ preventScroll: true }));
});
addEventListener("hashchange", () => { typing = false; show(); });
addEventListener("resize", () => {
  const one = find(selected);
  if (one) document.querySelector(".chart")?.replaceWith(chart(one.alert));
});
addEventListener("keydown", (event) => {
  if (press(event, keys)) { event.preventDefault(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") { document.activeElement?.blur(); leave(); return; }
  if (event.target instanceof Element && event.target.closest("input, select, textarea")) return;
  const inList = event.target instanceof Element && event.target.closest("#alerts");
  const actions = keys ? { "/": () => $("search").focus(), p: togglePause, j: () => move(1), k: () => move(-1), q: () => { go({ view: place().view === "queue" ? "" : "queue" }); show(); } } : {};
  if (inList) Object.assign(actions, { ArrowDown: () => move(1), ArrowUp: () => move(-1) });
  if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
});
tellKeys();
if (FILTERS.some((name) => place()[name])) $("filters").open = true;
show();
askForRights().then(listen);
