// How the workers fare, and what is wrong with them.

import { $, drawing, duration, element, modelName as named, numbers } from "./dom.js";
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
  put("reviews", `+ ${known(alerts("CHALLENGE"))} challenges, ${known(alerts("REVIEW"))}\u00a0reviews`);
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
  showDrift(up);
  showShadow(up.map((worker) => worker.shadow).filter(Boolean));
  sparkline(figures.history);
}

function showConditions(conditions) {
  const said = JSON.stringify(conditions);
  if ($("conditions").dataset.said === said) return; // a screen reader reads it out again when it is put in anew
  $("conditions").dataset.said = said;
  $("conditions").replaceChildren(...conditions.map((one) =>
    element("p", { class: "condition", "data-severity": one.severity }, element("b", {}, one.severity === "critical" ? "Critical" : "Warning"), ` ${one.text}. `, toDo(one.rule))));
}

let runbook = "";
export const setRunbook = (url) => { runbook = url; };

// What to do stands in the runbook under the name of the alert rule.
function toDo(rule) {
  if (!runbook) return element("span", { class: "to-do" }, `Runbook: ${rule}`);
  return element("a", { class: "to-do", href: `${runbook}#${rule.toLowerCase()}`, target: "_blank", rel: "noreferrer" }, `What to do: ${rule}`);
}

// How far the traffic lies from what the model was trained on: of each thing the worker that is the farthest.
function showDrift(workers) {
  const worst = new Map();
  for (const worker of workers) {
    for (const one of worker.drift) {
      const other = worst.get(one.of);
      if (!other || one.beyond > other.beyond || (one.beyond === other.beyond && one.measure > other.measure)) worst.set(one.of, { ...one, worker: worker.name });
    }
  }
  $("drift").hidden = !worst.size;
  if (!worst.size) return;
  const all = [...worst.values()].sort((one, other) => other.beyond - one.beyond || (one.expected !== null) - (other.expected !== null) || other.measure - one.measure);
  const beyond = all.filter((one) => one.beyond);
  const fewest = Math.min(...workers.filter((one) => one.drift.length).map((one) => one.drift_events));
  const spoken = (name) => name.replaceAll("_", " ");
  $("drift-summary").textContent = `Drift: ${beyond.length ? `${beyond.map((one) => spoken(one.of)).join(", ")} unlike the training` : "as in training"}, of ${numbers.format(fewest)} events`;
  const share = (value) => `${Number((100 * value).toPrecision(2))} %`;
  $("drift-rows").replaceChildren(...all.map((one) => element("tr", { class: one.beyond ? "beyond" : null },
    element("th", { scope: "row" }, spoken(one.of)),
    ...[one.expected === null ? one.measure.toFixed(3) : share(one.measure), one.expected === null ? "0.2" : `${share(one.expected)} in training`, one.beyond ? "unlike" : "as in training", one.worker].map((text) => element("td", {}, text)))));
  const few = fewest < 5000 ? " So few events tell of no drift yet: it takes 5,000, and 20,000 for a share." : "";
  $("drift-note").replaceChildren(`An index (PSI) above 0.2 is other traffic than the model learned from, a share above three times that of training is many more. Thresholds then no longer keep their budget.${few} `,
    toDo(beyond.length && beyond.every((one) => one.expected !== null) ? "DetectorDriftOfShares" : "DetectorDrift"));
}

function showShadow(shadows) {
  $("shadow").hidden = !shadows.length;
  if (!shadows.length) return;
  const sum = (name) => numbers.format(shadows.reduce((total, one) => total + one[name], 0));
  const names = [...new Set(shadows.map((one) => named(one.model)))].join(", ");
  $("shadow").replaceChildren(element("b", {}, "In shadow"), ` ${names} would have blocked ${sum("alerts")} sessions. Of ${sum("scored")} actions scored by both, `
    + `${sum("only_challenger")} reached its threshold only and ${sum("only_champion")} the deciding model’s only.`);
}

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
