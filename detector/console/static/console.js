// The console's page: the stream, what the address names, and the keys.

import { $, element, shortTime } from "./dom.js";
import { chart, detail, showExplanation } from "./alert.js";
import { filter, find, mark, mostKept, neighbour, others, reset, setReading, stillReading, take, togglePause } from "./list.js";
import { showFigures } from "./health.js";
import { askForRights } from "./verdict.js";

let selected = null;
let link = { link: "connecting", since_ms: Date.now(), detail: "" };

// --- What the address names ---------------------------------------------------------------------

function route() {
  const before = selected;
  selected = named();
  document.body.classList.toggle("reading", selected !== null);
  const one = find(selected);
  mark(one);
  if (selected !== before) one?.item.scrollIntoView({ block: "nearest" });
  if (selected !== null && $("detail").dataset.shows === selected) return; // also once it is no longer kept
  const said = one ? selected : selected === null ? "none" : stillReading() ? "reading" : "gone";
  if ($("detail").dataset.shows === said) return;
  $("detail").dataset.shows = said;
  const words = {
    none: "Choose an alert to see why.",
    reading: "Reading the alerts on the topic…",
    gone: `This alert is not among the newest ${mostKept()} that are kept here. It is on the topic for as long as the topic keeps it.`,
  };
  $("detail").replaceChildren(back(), ...(one ? detail(one.alert, others(one.alert)) : [element("p", { class: "empty" }, words[said])]));
  $("detail").scrollTop = 0;
  if (one) explain(one.alert);
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

function named() {
  if (!location.hash.startsWith("#alert=")) return null;
  try {
    return decodeURIComponent(location.hash.slice(7));
  } catch {
    return location.hash.slice(7); // a stray %: no alert's id
  }
}

function back() {
  const button = element("button", { type: "button", class: "back" }, "← All alerts");
  button.addEventListener("click", leave);
  return button;
}

function leave() {
  const row = find(selected)?.item.firstElementChild;
  history.replaceState(null, "", location.pathname + location.search);
  route();
  row?.focus();
}

function move(step) {
  const row = neighbour(step);
  if (!row) return;
  row.focus();
  history.replaceState(null, "", row.getAttribute("href"));
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
    $("sign-out").hidden = !about.token_required;
    $("no-figures").hidden = about.workers > 0;
  });
  on("alerts", (alerts) => { take(alerts); route(); });
  on("figures", (figures) => { $("figures").hidden = false; showFigures(figures); });
  on("link", (state) => { link = state; showLink(); });
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

for (const id of ["search", "decision", "action"]) $(id).addEventListener("input", filter);
$("pause").addEventListener("click", togglePause);
$("sign-out").addEventListener("click", async () => {
  const answer = await fetch("session", { method: "DELETE" }).catch(() => null);
  if (answer?.ok) location.replace("login");
  else tellLink("lost", "Not signed out: the console can’t be reached");
});
$("alerts").addEventListener("click", (event) => { // by Enter: what was chosen is to be read
  if (event.detail === 0 && event.target.closest("a")) requestAnimationFrame(() => $("detail").focus({ preventScroll: true }));
});
addEventListener("hashchange", route);
addEventListener("resize", () => {
  const one = find(selected);
  if (one) document.querySelector(".chart")?.replaceWith(chart(one.alert));
});
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") { document.activeElement?.blur(); leave(); return; }
  if (event.target instanceof Element && event.target.closest("input, select, textarea")) return;
  const inList = event.target instanceof Element && event.target.closest("#alerts");
  const actions = keys ? { "/": () => $("search").focus(), p: togglePause, j: () => move(1), k: () => move(-1) } : {};
  if (inList) Object.assign(actions, { ArrowDown: () => move(1), ArrowUp: () => move(-1) });
  if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
});
tellKeys();
route();
askForRights().then(listen);
