// The console's page. Whatever comes from Kafka is put in as text, never as markup.

const $ = (id) => document.getElementById(id);
const numbers = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const stamp = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const DAY_MS = 86_400_000;

const shown = new Map(); // alert id → { alert, item, words }, in no order; the list has the newest first
const held = []; // came while the list was paused
let keep = 1000;
let paused = false;
let selected = null;
let link = { link: "connecting", since_ms: Date.now(), detail: "" };

// --- Elements -----------------------------------------------------------------------------------

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

function drawing(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function bar(kind, share, text) {
  const fill = element("i");
  fill.style.setProperty("--share", Math.min(1, Math.max(0, share)).toFixed(4));
  return element("span", { class: kind }, element("span", {}, text), fill);
}

const time = (ms, format) => element("time", { datetime: new Date(ms).toISOString() }, format.format(ms));
const signed = (value) => {
  const digits = Math.abs(value).toFixed(3);
  return Number(digits) === 0 ? digits : (value < 0 ? "−" : "+") + digits;
};

function duration(ms) {
  for (const [unit, size] of [["d", DAY_MS], ["h", 3_600_000], ["min", 60_000], ["s", 1000]]) {
    if (ms >= size) return `${Number((ms / size).toPrecision(3))} ${unit}`;
  }
  return `${Math.round(ms)} ms`;
}

function gapText([low, high]) {
  if (high === null) return `${duration(low)} or more`;
  return low === 0 ? `under ${duration(high)}` : `${duration(low)} – ${duration(high)}`;
}

// --- The list -----------------------------------------------------------------------------------

function take(alerts) {
  if (paused) {
    held.push(...alerts);
    held.splice(0, held.length - keep);
    $("pause").textContent = `Resume (${numbers.format(held.length)})`;
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
    announce(fresh);
    if (selected === null || !$("detail").dataset.alert) route();
  }
}

function insert(alert) {
  const row = element("a", { class: "row", href: `#alert=${encodeURIComponent(alert.alert_id)}` },
    element("span", { class: "chip", "data-decision": alert.decision }, alert.decision),
    element("span", { class: "who" }, alert.session_id),
    element("span", { class: "score" }, alert.score.toFixed(4)),
    element("span", { class: "actions" }, alert.window.join(" → ")),
    time(alert.detected_at_ms, clock));
  const item = element("li", { "data-alert": alert.alert_id, class: "new" }, row);
  item.dataset.at = alert.detected_at_ms;
  const list = $("alerts");
  let after = list.firstElementChild;
  while (after && Number(after.dataset.at) > alert.detected_at_ms) after = after.nextElementSibling;
  list.insertBefore(item, after);
  const words = [alert.session_id, alert.account_id, alert.event_id, ...alert.window].join("\n").toLowerCase();
  shown.set(alert.alert_id, { alert, item, words });
  option($("decision"), alert.decision);
  option($("action"), alert.action);
}

function option(select, value) {
  if ([...select.options].some((one) => one.value === value)) return;
  const after = [...select.options].slice(1).find((one) => one.value > value) ?? null;
  select.insertBefore(element("option", { value }, value), after);
}

function filter() {
  const wanted = $("search").value.trim().toLowerCase();
  const decision = $("decision").value;
  const action = $("action").value;
  let visible = 0;
  for (const { alert, item, words } of shown.values()) {
    const fits = words.includes(wanted) && (!decision || alert.decision === decision) && (!action || alert.action === action);
    item.hidden = !fits;
    visible += fits;
  }
  const all = numbers.format(shown.size);
  $("count").textContent = visible === shown.size ? `${all} alerts, the newest first` : `${numbers.format(visible)} of ${all} alerts`;
  $("empty").hidden = visible > 0;
  $("empty").textContent = shown.size ? "No alert fits the filter." : "No alert has been committed yet. They appear here as they are.";
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

function reset() {
  shown.clear();
  held.length = 0;
  $("alerts").replaceChildren();
  filter();
}

function move(step) {
  const rows = [...document.querySelectorAll("#alerts li:not([hidden]) a")];
  const at = rows.findIndex((row) => row === document.activeElement || row.getAttribute("aria-current") === "true");
  const next = rows[Math.min(rows.length - 1, Math.max(0, at + step))];
  if (!next) return;
  next.focus();
  history.replaceState(null, "", next.getAttribute("href"));
  route();
}

// --- One alert ----------------------------------------------------------------------------------

function route() {
  selected = location.hash.startsWith("#alert=") ? decodeURIComponent(location.hash.slice(7)) : null;
  for (const row of document.querySelectorAll('#alerts a[aria-current="true"]')) row.removeAttribute("aria-current");
  document.body.classList.toggle("reading", selected !== null);
  const one = shown.get(selected);
  const detail = $("detail");
  if (one) {
    one.item.firstElementChild.setAttribute("aria-current", "true");
    one.item.scrollIntoView({ block: "nearest" });
    if (detail.dataset.alert !== selected) show(one.alert);
  } else if (detail.dataset.alert !== selected || selected === null) {
    delete detail.dataset.alert;
    const text = selected === null ? "Choose an alert to see why." : "This alert is not among those kept. It is still on the topic.";
    detail.replaceChildren(back(), element("p", { class: "empty" }, text));
  }
}

function back() {
  const button = element("button", { type: "button", class: "back" }, "← All alerts");
  button.addEventListener("click", leave);
  return button;
}

function leave() {
  const row = shown.get(selected)?.item.firstElementChild;
  history.replaceState(null, "", location.pathname + location.search);
  route();
  row?.focus();
}

function show(alert) {
  const detail = $("detail");
  const attributions = alert.attributions ?? [];
  const scores = alert.scores ?? [];
  detail.dataset.alert = alert.alert_id;
  detail.replaceChildren(back(),
    element("div", { class: "headline" },
      element("span", { class: "chip", "data-decision": alert.decision }, alert.decision),
      element("h2", { id: "alert-session" }, alert.session_id)),
    element("p", { class: "risk" }, alert.score.toFixed(4), element("small", {}, ` risk, threshold ${alert.threshold}`)),
    ...why(alert, attributions),
    ...(scores.length > 1 ? [element("h3", {}, "Score after each action"), chart(alert, scores)] : []),
    ...timeline(alert, attributions, scores),
    element("h3", {}, "Alert"), facts(alert),
    element("details", { class: "raw" }, element("summary", {}, "As on the topic"), element("pre", { tabindex: "0" }, JSON.stringify(alert, null, 2))));
  detail.scrollTop = 0;
  if (document.body.classList.contains("reading") && matchMedia("(max-width: 900px)").matches) {
    detail.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

function why(alert, attributions) {
  const reasons = alert.explanation ?? [];
  if (!reasons.length) return [];
  const list = element("ul", { class: "why" }, ...reasons.map((reason) =>
    element("li", { class: reason.includes(": +") ? "raises" : "lowers" }, reason)));
  const baseline = alert.baseline ?? null;
  const note = baseline === null || !attributions.length ? ""
    : ` Shapley values, ${alert.attributions_exact ? "exact" : "estimated"}: ${baseline.toFixed(3)} without these actions, ${alert.score.toFixed(3)} with them`;
  return [element("h3", {}, "Why", element("small", {}, note)), list];
}

function chart(alert, scores) {
  const width = Math.max(260, $("detail").clientWidth - 40);
  const height = 150, left = 30, right = 14, top = 14, bottom = 22;
  const x = (index) => left + (index * (width - left - right)) / (scores.length - 1);
  const y = (score) => top + (1 - score) * (height - top - bottom);
  const first = alert.action_number - scores.length + 1;
  const every = Math.ceil(scores.length / 12);
  const nodes = [];
  for (const score of [0, 0.5, 1]) {
    nodes.push(drawing("line", { class: "grid", x1: left, x2: width - right, y1: y(score), y2: y(score) }));
    nodes.push(drawing("text", { x: left - 6, y: y(score) + 4, "text-anchor": "end" }, String(score)));
  }
  nodes.push(drawing("line", { class: "threshold", x1: left, x2: width - right, y1: y(alert.threshold), y2: y(alert.threshold) }));
  nodes.push(drawing("text", { class: "threshold-text", x: left + 4, y: y(alert.threshold) - 4 }, "threshold"));
  nodes.push(drawing("polyline", { class: "curve", points: scores.map((score, index) => `${x(index)},${y(score)}`).join(" ") }));
  scores.forEach((score, index) => {
    const dot = drawing("circle", { class: score >= alert.threshold ? "over" : "under", cx: x(index), cy: y(score), r: 4 });
    nodes.push(dot);
    if (index % every === 0 || index === scores.length - 1) {
      nodes.push(drawing("text", { x: x(index), y: height - 5, "text-anchor": "middle" }, String(first + index)));
    }
  });
  const words = `Score after each action: ${scores.map((score) => score.toFixed(3)).join(", ")}; threshold ${alert.threshold}`;
  return drawing("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words }, ...nodes);
}

function timeline(alert, attributions, scores) {
  const steps = alert.window.length;
  const first = alert.action_number - steps + 1;
  const largest = Math.max(1e-9, ...attributions.map((one) => Math.abs(one.value)));
  const cell = (kind, ...children) => element("div", { class: kind, role: "cell" }, ...children);
  const rows = alert.window.map((action, index) => {
    const one = attributions[index - (steps - attributions.length)];
    const score = scores[index - (steps - scores.length)];
    const last = index === steps - 1;
    return element("div", { class: last ? "step decides" : "step", role: "row" },
      cell("number", String(first + index)),
      cell("gap", ...gap(one, first + index)),
      cell("name", action),
      cell("after", score === undefined ? "" : bar(score >= alert.threshold ? "meter over" : "meter", score, score.toFixed(3))),
      cell("share", one === undefined ? "" : bar(one.value < 0 ? "meter diverging" : "meter diverging raises", Math.abs(one.value) / largest, signed(one.value))));
  });
  const heads = ["#", "Gap before", "Action", "Score after", "Contribution"].map((text) => element("div", { role: "columnheader" }, text));
  const note = first > 1 ? ` the last ${steps} of ${alert.action_number} actions` : "";
  return [element("h3", {}, "Session", element("small", {}, note)),
    element("div", { class: "timeline", role: "table", "aria-label": "Session, action by action" }, element("div", { class: "step head", role: "row" }, ...heads), ...rows)];
}

function gap(attribution, number) {
  if (number === 1) return ["start"];
  if (!attribution?.gap_range_ms) return ["–"];
  const [low, high] = attribution.gap_range_ms;
  const line = element("i"); // its length grows with the logarithm: from milliseconds to a day
  line.style.setProperty("--share", Math.min(1, Math.log10(1 + (high ?? 2 * low)) / Math.log10(DAY_MS)).toFixed(3));
  const text = gapText(attribution.gap_range_ms);
  return [attribution.gap_value === null ? text : element("span", { title: `the gap itself: ${signed(attribution.gap_value)}` }, text), line];
}

function facts(alert) {
  const list = element("dl", { class: "facts" });
  const add = (name, ...value) => list.append(element("dt", {}, name), element("dd", {}, ...value));
  add("Account", element("span", { class: "id" }, alert.account_id));
  if (alert.cause && alert.cause !== "score") add("Cause", alert.cause.replaceAll("_", " "));
  add("Deciding action", `${alert.action}, number ${alert.action_number} of the session`);
  add("It happened", time(alert.occurred_at_ms, stamp));
  add("Alert decided", time(alert.detected_at_ms, stamp), ` · ${duration(Math.max(0, alert.detected_at_ms - alert.received_at_ms))} after the broker took the action`);
  add("Model", `${alert.model.name}, version ${alert.model.version} `, element("span", { class: "id", title: alert.model.sha256 }, alert.model.sha256.slice(0, 12)));
  add("Event", element("span", { class: "id" }, alert.event_id));
  add("Lies at", element("span", { class: "id" }, `${alert.source.topic}[${alert.source.partition}] offset ${numbers.format(alert.source.offset)}`));
  add("Alert id", element("span", { class: "id" }, alert.alert_id));
  return list;
}

// --- States -------------------------------------------------------------------------------------

function tellLink(state, text) {
  $("link").dataset.state = state;
  $("link-text").textContent = text;
  $("figures").classList.toggle("stale", state === "lost");
}

function showLink() {
  const since = clock.format(link.since_ms);
  const texts = {
    connecting: "Connecting to Kafka…",
    live: "Live",
    no_topic: "Waiting for the topic to be created",
    unreachable: `Kafka unreachable since ${since}, reconnecting…`,
  };
  tellLink(link.link, texts[link.link] ?? link.link);
  $("link").title = link.detail;
}

function showFigures(figures) {
  const up = figures.workers.filter((worker) => worker.up);
  const sum = (name) => up.reduce((total, worker) => total + worker[name], 0);
  const put = (id, value) => { $(id).textContent = value; };
  const known = (value) => (up.length ? numbers.format(value) : "–");
  $("figures").hidden = false;
  put("rate", figures.events_per_s === null ? "–" : numbers.format(Math.round(figures.events_per_s)));
  put("lag", known(sum("lag")));
  put("latency", figures.latency_p50_ms === null ? "–" : duration(figures.latency_p50_ms));
  put("latency-more", figures.latency_p99_ms === null ? "action to alert" : `median, p99 ${duration(figures.latency_p99_ms)}`);
  put("alerts-total", known(up.reduce((total, worker) => total + Object.values(worker.alerts).reduce((a, b) => a + b, 0), 0)));
  put("suppressed", sum("suppressed") ? `+ ${numbers.format(sum("suppressed"))} suppressed` : "committed");
  put("live-sessions", known(sum("live_sessions")));
  put("dead-letters", known(sum("dead_letters")));
  const ready = up.filter((worker) => worker.ready !== false).length;
  put("workers-ready", `${ready} of ${figures.workers.length}`);
  $("workers-tile").className = ready === figures.workers.length ? "tile" : ready ? "tile warn" : "tile bad";
  $("workers").replaceChildren(...figures.workers.map(workerRow));
  const models = new Set(up.filter((worker) => worker.model.name).map((worker) => `${worker.model.name} ${worker.model.version ?? ""}`));
  put("model", models.size ? `Model ${[...models].join(", ")}` : "");
  sparkline(figures.history);
}

function workerRow(worker) {
  const state = !worker.up ? `down (${worker.detail})` : worker.ready === false ? "not ready" : worker.ready ? "ready" : "up";
  const cells = worker.up ? [worker.partitions, worker.lag, worker.live_sessions, worker.recoveries].map((one) => numbers.format(one)) : ["–", "–", "–", "–"];
  const model = worker.model.name ? `${worker.model.name} ${worker.model.version ?? ""} ${(worker.model.sha256 ?? "").slice(0, 12)}` : "–";
  return element("tr", {}, element("th", { scope: "row" }, worker.name), ...[state, ...cells, model].map((text) => element("td", {}, text)));
}

function sparkline(history) {
  const values = history.map((one) => one ?? 0);
  const width = Math.max(30, values.length - 1);
  const top = Math.max(1, ...values) * 1.1;
  const left = width - values.length + 1;
  const points = values.map((value, index) => `${left + index},${(32 - (value / top) * 32).toFixed(2)}`);
  $("sparkline").setAttribute("viewBox", `0 0 ${width} 32`);
  $("sparkline").replaceChildren(
    drawing("path", { d: `M${left},32 L${points.join(" L")} L${width},32 Z` }),
    drawing("polyline", { points: points.join(" ") }));
}

// --- The stream ---------------------------------------------------------------------------------

function listen() {
  const stream = new EventSource("stream");
  const on = (name, act) => stream.addEventListener(name, (event) => act(JSON.parse(event.data)));
  on("about", (about) => {
    keep = about.keep;
    reset();
    $("sign-out").hidden = !about.token_required;
    $("no-figures").hidden = about.workers > 0;
  });
  on("alerts", take);
  on("figures", showFigures);
  on("link", (state) => { link = state; showLink(); });
  stream.addEventListener("open", showLink);
  stream.addEventListener("error", async () => {
    tellLink("lost", "Console unreachable, reconnecting…");
    if (stream.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    const answer = await fetch("session", { cache: "no-store" }).catch(() => null);
    if (answer?.status === 401) location.replace("login");
    else setTimeout(listen, 3000);
  });
}

for (const id of ["search", "decision", "action"]) $(id).addEventListener("input", filter);
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Resume" : "Pause";
  if (!paused) take(held.splice(0));
});
$("sign-out").addEventListener("click", async () => {
  await fetch("session", { method: "DELETE" });
  location.replace("login");
});
addEventListener("hashchange", route);
addEventListener("resize", () => {
  const one = shown.get(selected);
  if (one) document.querySelector(".chart")?.replaceWith(chart(one.alert, one.alert.scores));
});
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") { document.activeElement?.blur(); leave(); return; }
  if (event.target instanceof Element && event.target.closest("input, select, textarea")) return;
  const inList = event.target instanceof Element && event.target.closest("#alerts");
  const actions = { "/": () => $("search").focus(), p: () => $("pause").click(), j: () => move(1), k: () => move(-1) };
  if (inList) Object.assign(actions, { ArrowDown: () => move(1), ArrowUp: () => move(-1) });
  if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
});
route();
listen();
