// What a session was found to be: a form beside its alert, for those who may say so.

import { $, element } from "./dom.js";

let may = false; // whether who looks on may give verdicts

export async function askForRights() {
  const answer = await fetch("session", { cache: "no-store" }).catch(() => null);
  may = (answer?.headers.get("Console-Rights") ?? "").split(" ").includes("analyst");
}

export function verdict(alert) {
  if (!may) return [];
  const by = element("input", { id: "verdict-by", required: "", maxlength: "256", autocomplete: "name", value: localStorage.getItem("by") ?? "" });
  const why = element("input", { id: "verdict-why", maxlength: "2000", autocomplete: "off" });
  const said = element("p", { role: "status" });
  const form = element("form", { id: "verdict", class: "verdict" },
    element("label", { for: "verdict-by" }, "Your name"), by, element("label", { for: "verdict-why" }, "Why"), why,
    element("button", { type: "submit", value: "FRAUD" }, "It was fraud"), element("button", { type: "submit", value: "LAWFUL" }, "It was lawful"), said);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const given = { alert_id: alert.alert_id, verdict: event.submitter.value, by: by.value.trim(), why: why.value.trim() };
    localStorage.setItem("by", given.by);
    const answer = await fetch("verdicts", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(given) }).catch(() => null);
    said.textContent = answer?.ok ? `Told: ${given.verdict}. A later verdict takes its place.` : `Not told: ${answer ? await answer.text() : "the console can’t be reached"}`;
  });
  return [element("h3", {}, "Verdict"), form];
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
