// Elements and how values read. Whatever comes from Kafka is put in as text, never as markup.

export const $ = (id) => document.getElementById(id);
export const numbers = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const stamp = new Intl.DateTimeFormat("en-GB", { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" });
export const DAY_MS = 86_400_000;

export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

export function drawing(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

export function bar(kind, share, text) {
  const fill = element("i");
  fill.style.setProperty("--share", Math.min(1, Math.max(0, share)).toFixed(4));
  return element("span", { class: kind }, element("span", {}, text), fill);
}

export const chip = (alert) => element("span", { class: "chip", "data-decision": alert.decision }, alert.decision);
export const finding = (verdict) => element("span", { class: "finding", "data-verdict": verdict.verdict }, verdict.verdict.toLowerCase());
export const modelName = (model) => `${model.name} ${model.version ?? ""} · ${(model.sha256 ?? "").slice(0, 8)}`;
export const cause = (alert) => (alert.cause && alert.cause !== "score" ? alert.cause.replaceAll("_", " ") : "");
export const shortTime = (ms) => (new Date(ms).toDateString() === new Date().toDateString() ? clock : day).format(ms);
export const time = (ms, text) => element("time", { datetime: new Date(ms).toISOString(), title: stamp.format(ms) }, text ?? stamp.format(ms));

export const risk = (score) => score.toFixed(4);
export const signed = (value) => {
  const digits = Math.abs(value).toFixed(3);
  return Number(digits) === 0 ? digits : (value < 0 ? "−" : "+") + digits;
};

export function duration(ms) {
  for (const [unit, size] of [["d", DAY_MS], ["h", 3_600_000], ["min", 60_000], ["s", 1000]]) {
    if (ms >= size) return `${Number((ms / size).toPrecision(3))} ${unit}`;
  }
  return `${Math.round(ms)} ms`;
}

export function gapText([low, high]) {
  if (high === null) return `${duration(low)} or more`;
  if (low === 0) return `under ${duration(high)}`;
  const [from, unit] = duration(low).split(" ");
  const to = duration(high);
  return to.endsWith(` ${unit}`) ? `${from}–${to}` : `${from} ${unit} – ${to}`;
}
