// One alert: why, the score after each action, the session with its gaps, and where it comes from.

import { $, DAY_MS, bar, cause, chip, drawing, duration, element, gapText, numbers, risk, signed, time } from "./dom.js";
import { form } from "./verdict.js";

export function detail(alert) {
  const overruled = cause(alert);
  return [
    element("div", { class: "headline" }, chip(alert),
      overruled ? element("span", { class: "cause" }, `by ${overruled}`) : null,
      element("h2", {}, alert.session_id)),
    element("p", { class: "risk" }, risk(alert.score), element("small", {}, ` risk, threshold ${risk(alert.threshold)}`)),
    element("p", { class: "account" }, "account ", element("span", { class: "id" }, alert.account_id)),
    element("p", { id: "found", class: "judgement", hidden: "" }),
    ...(alert.cause === "circuit_breaker" ? [element("p", { class: "listed" }, "The score asks for a block; the circuit breaker held it back, and asks for a second factor.")] : []),
    element("section", { id: "why" }, ...why(alert)),
    element("section", { id: "signals" }),
    element("section", { id: "history" }),
    ...((alert.scores ?? []).length > 1 ? [element("h3", {}, "Score after each action"), chart(alert)] : []),
    element("section", { id: "session" }, ...timeline(alert)),
    element("h3", {}, "Alert"), facts(alert),
    element("details", { class: "raw" }, element("summary", {}, "As on the topic"), element("pre", { tabindex: "0", role: "region", "aria-label": "The alert as JSON" }, JSON.stringify(alert, null, 2))),
    ...form(alert),
  ];
}

// Puts what the alert's model was asked for beside what the alert said at once; or says why there is none.
export function showExplanation(alert, found) {
  $("why").replaceChildren(...why(alert, found));
  $("signals").replaceChildren(...signals(alert, found.signals ?? []));
  if (found.attributions) $("session").replaceChildren(...timeline(alert, found.attributions));
}

function why(alert, found = {}) {
  const sign = (reason) => reason.match(/: ([+-])/)?.[1];
  const atOnce = alert.explanation ?? [];
  const reasons = found.explanation ? [...atOnce.filter((reason) => !sign(reason)), ...found.explanation] : atOnce;
  const list = element("ul", { class: "why" }, ...reasons.map((reason) =>
    element("li", { class: { "+": "raises", "-": "lowers" }[sign(reason)] ?? "rule" }, reason)));
  const note = found.attributions
    ? ` Shapley values, ${found.exact ? "exact" : "estimated"}: ${found.baseline.toFixed(3)} without these actions, ${found.score.toFixed(3)} with them` : "";
  return [
    ...(reasons.length ? [element("h3", {}, "Why", element("small", {}, note)), list] : []),
    ...(found.unexplained ? [element("p", { class: "unexplained" }, `No exact values: ${found.unexplained}`)] : []),
  ];
}

export function chart(alert) {
  const scores = alert.scores;
  const width = Math.max(260, $("detail").clientWidth - 40);
  const height = 150, left = 30, right = 14, top = 14, bottom = 22;
  const x = (index) => left + (index * (width - left - right)) / (scores.length - 1);
  const y = (score) => top + (1 - score) * (height - top - bottom);
  const first = alert.action_number - scores.length + 1;
  const last = scores.length - 1;
  const labelled = 10 + 8 * String(alert.action_number).length; // a label's width and some air
  const every = Math.ceil((labelled * last) / (width - left - right));
  const nodes = [];
  for (const score of [0, 0.5, 1]) {
    nodes.push(drawing("line", { class: "grid", x1: left, x2: width - right, y1: y(score), y2: y(score) }));
    nodes.push(drawing("text", { x: left - 6, y: y(score) + 4, "text-anchor": "end" }, String(score)));
  }
  nodes.push(drawing("line", { class: "threshold", x1: left, x2: width - right, y1: y(alert.threshold), y2: y(alert.threshold) }));
  nodes.push(drawing("text", { class: "threshold-text", x: left + 4, y: y(alert.threshold) - 4 }, `threshold ${alert.threshold.toFixed(2)}`));
  nodes.push(drawing("polyline", { class: "curve", points: scores.map((score, index) => `${x(index)},${y(score)}`).join(" ") }));
  scores.forEach((score, index) => {
    nodes.push(drawing("circle", { class: score >= alert.threshold ? "over" : "under", cx: x(index), cy: y(score), r: 4 },
      drawing("title", {}, `${first + index}. ${alert.window.at(index - scores.length)}: ${risk(score)}`)));
    if (index === last || (index % every === 0 && last - index >= every)) {
      nodes.push(drawing("text", { class: "step-text", x: x(index), y: height - 5, "text-anchor": "middle" }, String(first + index)));
    }
  });
  const words = `Score after each action: ${scores.map((score) => score.toFixed(3)).join(", ")}; threshold ${risk(alert.threshold)}`;
  return drawing("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words }, ...nodes);
}

function timeline(alert, attributions = []) {
  const steps = alert.window.length;
  const first = alert.action_number - steps + 1;
  const scores = alert.scores ?? [], gaps = alert.gap_ranges_ms ?? [];
  const scored = scores.length > 0, explained = attributions.length > 0, timed = gaps.some((one) => one);
  const largest = Math.max(0.05, ...attributions.map((one) => Math.abs(one.value)));
  const cell = (kind, ...children) => element("div", { class: kind, role: "cell" }, ...children);
  const rows = alert.window.map((action, index) => {
    const one = attributions[index - (steps - attributions.length)];
    const score = scores[index - (steps - scores.length)];
    return element("div", { class: index === steps - 1 ? "step decides" : "step", role: "row" },
      cell("number", String(first + index)),
      timed ? cell("gap", ...gap(gaps[index], one?.gap_value ?? null, first + index)) : null,
      cell("name", action, parts(one)),
      scored ? cell("after", score === undefined ? "" : bar(score >= alert.threshold ? "meter over" : "meter", score, score.toFixed(3))) : null,
      explained ? cell("share", one === undefined ? "" : bar(one.value < 0 ? "meter diverging" : "meter diverging raises", Math.abs(one.value) / largest, signed(one.value))) : null);
  });
  const columns = [["#", "2rem"], ...(timed ? [["Gap before", "8.2rem"]] : []), ["Action", "minmax(8rem, 1.3fr)"],
    ...(scored ? [["Score after", "minmax(5rem, 1fr)"]] : []), ...(explained ? [["Contribution", "minmax(8rem, 1.2fr)"]] : [])];
  const heads = columns.map(([text]) => element("div", { role: "columnheader" }, text));
  const note = first > 1 ? ` the last ${steps} of ${alert.action_number} actions` : "";
  const table = element("div", { class: "timeline", role: "table", "aria-label": "Session, action by action", "data-decision": alert.decision }, element("div", { class: "step head", role: "row" }, ...heads), ...rows);
  table.style.setProperty("--columns-wide", columns.map(([, width]) => width).join(" "));
  return [element("h3", {}, "Session", element("small", {}, note)), table];
}

// What an action's parts come to, where the model reads signals: its amount, its device, what the account did before.
function parts(attribution) {
  const told = (attribution?.parts ?? []).filter((one) => Math.abs(one.value) >= 0.01).slice(0, 5);
  if (!told.length) return null;
  return element("ul", { class: "parts", title: "estimated shares of the action's contribution" }, ...told.map((one) =>
    element("li", { class: one.value < 0 ? "lowers" : "raises" }, `${one.part}: ${signed(one.value)}`)));
}

function gap(range, value, number) {
  if (number === 1) return ["start"];
  if (!range) return ["–"];
  const [low, high] = range;
  const line = element("i"); // its length grows with the logarithm: from milliseconds to a day
  line.style.setProperty("--share", Math.min(1, Math.log10(1 + (high ?? 2 * low)) / Math.log10(DAY_MS)).toFixed(3));
  const text = gapText(range);
  return [value === null ? text : element("span", { title: `the gap itself: ${signed(value)}` }, text), line];
}

// What each signal says of the deciding action: first what is not as usual.
function signals(alert, said) {
  if (!said.length) return [];
  const unusual = said.filter((one) => !one.is_usual), usual = said.filter((one) => one.is_usual);
  const list = (name, some) => element("ul", { class: name }, ...some.map((one) => element("li", {}, one.words)));
  return [
    element("h3", {}, `What the signals say of ${alert.window.at(-1)}`, element("small", {}, unusual.length ? "" : " nothing unusual")),
    ...(unusual.length ? [list("signals", unusual)] : []),
    ...(usual.length ? [element("details", { class: "raw usual" }, element("summary", {}, `As usual: ${numbers.format(usual.length)}`), list("signals", usual))] : []),
  ];
}

function facts(alert) {
  const list = element("dl", { class: "facts" });
  const add = (name, ...value) => list.append(element("dt", {}, name), element("dd", {}, ...value));
  const id = (text, title) => element("span", { class: "id", title }, text);
  add("Account", id(alert.account_id));
  add("Deciding action", `${alert.action}, number ${numbers.format(alert.action_number)} of the session`);
  add("It happened", time(alert.occurred_at_ms));
  add("Alert decided", time(alert.detected_at_ms), ` · ${duration(Math.max(0, alert.detected_at_ms - alert.received_at_ms))} after the broker took the action`);
  add("Model", `${alert.model.name}, version ${alert.model.version} `, id(alert.model.sha256.slice(0, 12), alert.model.sha256));
  add("Event", id(alert.event_id));
  add("Lies at", id(`${alert.source.topic}[${alert.source.partition}] offset ${numbers.format(alert.source.offset)}`));
  add("Alert id", id(alert.alert_id));
  return list;
}
