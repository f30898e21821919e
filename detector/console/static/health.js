// How the workers fare, and what is wrong with them.

import { $, drawing, duration, element, numbers } from "./dom.js";
import { showJudged } from "./verdict.js";

export function showFigures(figures) {
  const up = figures.workers.filter((worker) => worker.up);
  const sum = (name) => up.reduce((total, worker) => total + worker[name], 0);
  const put = (id, value) => { $(id).textContent = value; };
  const known = (value) => (up.length ? numbers.format(value) : "–");
  const alerts = (decision) => up.reduce((total, worker) => total + (worker.alerts[decision] ?? 0), 0);
  put("rate", figures.events_per_s === null ? "–" : numbers.format(Math.round(figures.events_per_s)));
  put("lag", known(sum("lag")));
  put("latency", figures.latency_p50_ms === null ? "–" : duration(figures.latency_p50_ms));
  put("latency-more", figures.latency_p99_ms === null ? "action to alert" : `median, p99 ${duration(figures.latency_p99_ms)}`);
  put("blocks", known(alerts("BLOCK")));
  put("reviews", `+ ${known(alerts("CHALLENGE"))} challenges, ${known(alerts("REVIEW"))} reviews`);
  $("suppressed").title = `${numbers.format(sum("suppressed"))} scores at or above a threshold were not published again`;
  put("live-sessions", known(sum("live_sessions")));
  put("dead-letters", known(sum("dead_letters")));
  const ready = up.filter((worker) => worker.ready !== false).length;
  put("workers-ready", `${ready} of ${figures.workers.length}`);
  $("workers-tile").className = ready === figures.workers.length ? "tile" : ready ? "tile warn" : "tile bad";
  $("workers").replaceChildren(...figures.workers.map(workerRow));
  put("model", [...new Set(up.filter((worker) => worker.model.name).map((worker) => named(worker.model)))].join(", "));
  showConditions(figures.conditions);
  showJudged(up);
  showShadow(up.map((worker) => worker.shadow).filter(Boolean));
  sparkline(figures.history);
}

function showConditions(conditions) {
  const said = JSON.stringify(conditions);
  if ($("conditions").dataset.said === said) return; // a screen reader reads it out again when it is put in anew
  $("conditions").dataset.said = said;
  $("conditions").replaceChildren(...conditions.map((one) =>
    element("p", { class: "condition", "data-severity": one.severity }, element("b", {}, one.severity === "critical" ? "Critical" : "Warning"), ` ${one.text}`)));
}

function showShadow(shadows) {
  $("shadow").hidden = !shadows.length;
  if (!shadows.length) return;
  const sum = (name) => numbers.format(shadows.reduce((total, one) => total + one[name], 0));
  const names = [...new Set(shadows.map((one) => named(one.model)))].join(", ");
  $("shadow").replaceChildren(element("b", {}, "In shadow"), ` ${names} would have blocked ${sum("alerts")} sessions. Of ${sum("scored")} actions scored by both, `
    + `${sum("only_challenger")} reached its threshold only and ${sum("only_champion")} the deciding model’s only.`);
}

const named = (model) => `${model.name} ${model.version ?? ""} · ${(model.sha256 ?? "").slice(0, 8)}`;

function workerRow(worker) {
  const state = !worker.up ? `down (${worker.detail})` : worker.ready === false ? "not ready" : worker.ready ? "ready" : "up";
  const names = ["partitions", "breakers_open", "lag", "live_sessions", "recoveries", "refused_models"];
  const cells = names.map((name) => (worker.up ? numbers.format(worker[name]) : "–"));
  const model = worker.model.name ? named(worker.model) : "–";
  const cell = (text) => element("td", {}, text);
  return element("tr", {}, element("th", { scope: "row" }, worker.name), ...[state, ...cells, model].map(cell));
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
