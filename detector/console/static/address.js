// What the address names: a view, filters, an alert. So that a link opens the same, and Back and Forward work.
// It stands behind the #, which no server and no log of one gets to see.

const NAMES = ["view", "q", "decision", "cause", "action", "model", "verdict", "alert"];
export const FILTERS = ["decision", "cause", "action", "model", "verdict"];

export function place() {
  const named = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries(NAMES.map((name) => [name, named.get(name) ?? ""]));
}

export function address(changes = {}) {
  const there = { ...place(), ...changes };
  return `#${new URLSearchParams(NAMES.filter((name) => there[name]).map((name) => [name, there[name]]))}`;
}

// Tells nobody: who changes the address shows what it names. `replace` leaves nothing to go back to.
export function go(changes, replace = false) {
  const to = address(changes);
  if (to === (location.hash || "#")) return;
  history[replace ? "replaceState" : "pushState"](null, "", to === "#" ? location.pathname + location.search : to);
}
