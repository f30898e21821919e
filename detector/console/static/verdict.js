// What a session was found to be: said beside its alert, by those who may; and how often the blocks were right.

import { $, element } from "./dom.js";

let may = false; // whether who looks on may give verdicts
let armed = null; // the verdict that is to be confirmed, FRAUD or LAWFUL
let said = ""; // what became of the last one
let told = () => {};

export async function askForRights() {
  const answer = await fetch("session", { cache: "no-store" }).catch(() => null);
  may = (answer?.headers.get("Console-Rights") ?? "").split(" ").includes("analyst");
  $("verdict-keys").hidden = !may;
}

export const onTold = (act) => { told = act; };

export function form(alert) {
  if (!may) return [];
  armed = null;
  const by = element("input", { id: "verdict-by", required: "", maxlength: "256", autocomplete: "name", value: localStorage.getItem("by") ?? "" });
  by.addEventListener("change", () => localStorage.setItem("by", by.value.trim()));
  const why = element("input", { id: "verdict-why", maxlength: "2000", autocomplete: "off" });
  const button = (value, key, text) => {
    const made = element("button", { type: "button", value, "aria-keyshortcuts": key, "aria-pressed": "false" }, text);
    made.addEventListener("click", () => arm(armed === value ? null : value));
    return made;
  };
  const confirm = element("button", { type: "button", id: "verdict-confirm", hidden: "", "aria-keyshortcuts": "Control+Enter" });
  confirm.addEventListener("click", () => tell(alert, by, why));
  const box = element("form", { id: "verdict", class: "verdict", "aria-label": "Verdict" },
    element("label", { for: "verdict-by" }, "Your name"), by, element("label", { for: "verdict-why" }, "Why"), why,
    button("FRAUD", "f", "It was fraud"), button("LAWFUL", "l", "It was lawful"), confirm, element("p", { id: "verdict-said", role: "status" }, said));
  box.addEventListener("submit", (event) => event.preventDefault());
  said = "";
  return [box];
}

// The first of two steps. The second one is another place to click, or keys that nobody types in a word.
export function arm(value) {
  if (!$("verdict")) return;
  armed = value;
  for (const one of $("verdict").querySelectorAll("button[value]")) one.setAttribute("aria-pressed", String(one.value === value));
  $("verdict-confirm").hidden = !value;
  $("verdict-confirm").textContent = `Tell: ${value === "FRAUD" ? "fraud" : "lawful"}`;
  $("verdict-said").textContent = value ? `${value === "FRAUD" ? "Fraud" : "Lawful"}? Ctrl and Enter, or the button, tell it. Escape withdraws it.` : "";
}

// What a key does here; whether it was taken.
export function press(event, keys) {
  if (!may || !$("verdict")) return false;
  if (armed && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    if (!event.repeat) $("verdict-confirm").click();
    return true;
  }
  if (armed && event.key === "Escape") { arm(null); return true; }
  const typing = event.target instanceof Element && event.target.closest("input, select, textarea");
  if (typing || event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.key.length > 1) return false;
  const value = keys ? { f: "FRAUD", l: "LAWFUL" }[event.key] : undefined;
  if (armed && !$("verdict").contains(event.target)) { arm(null); return value !== undefined; } // a word is being typed, it seems
  if (value) arm(value);
  return value !== undefined;
}

async function tell(alert, by, why) {
  if (!armed || $("verdict-confirm").disabled) return;
  if (!by.value.trim()) by.value = "";
  if (!by.reportValidity()) return;
  const given = { alert_id: alert.alert_id, verdict: armed, by: by.value.trim(), why: why.value.trim() };
  $("verdict-confirm").disabled = true;
  const answer = await fetch("verdicts", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(given) }).catch(() => null);
  said = answer?.ok ? `Told: ${given.verdict} on ${alert.session_id}. A later verdict takes its place.` : `Not told: ${answer ? await answer.text() : "the console can’t be reached"}`;
  if (!by.isConnected) { $("announcer").textContent = said; return; } // another alert was opened meanwhile
  $("verdict-confirm").disabled = false;
  if (answer?.ok) { arm(null); why.value = ""; }
  $("verdict-said").textContent = said;
  if (answer?.ok) told(alert, said);
  said = "";
}

// How often the blocks of the last week were right, by the verdicts on them.
export function showJudged(workers) {
  const models = {};
  for (const worker of workers) {
    for (const [model, counts] of Object.entries(worker.judged)) {
      models[model] ??= {};
      for (const [name, count] of Object.entries(counts)) models[model][name] = (models[model][name] ?? 0) + count;
    }
  }
  const share = (part, whole) => `${Math.round((100 * part) / whole)} %`;
  const told = Object.entries(models).flatMap(([model, { FRAUD = 0, LAWFUL = 0, NONE = 0 }]) => (FRAUD + LAWFUL
    ? [`${model}: ${share(FRAUD, FRAUD + LAWFUL)} right of ${FRAUD + LAWFUL} with a verdict, ${share(LAWFUL, FRAUD + LAWFUL + NONE)} false alarms of all ${FRAUD + LAWFUL + NONE}`] : []));
  $("judged").hidden = !told.length;
  $("judged").replaceChildren(element("b", {}, "Blocks of the last 7 days"), ` ${told.join("; ")}`);
}
