// State of the view in the fragment of the address: #metric=live&zoom=1a.3, so that it outlives a reload
// and can be sent on. Names: metric, by, frames, roots, zoom, search, exact, window, process, without, section.

const stateListeners = [];
let written = null;

export function readState() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}

// Changes: name to text, "" removes a name. `push`: the browser's Back returns to the state before.
export function writeState(changes, push = false) {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const [name, text] of Object.entries(changes)) {
    if (text === "") state.delete(name);
    else state.set(name, text);
  }
  const fragment = String(state);
  if (fragment === location.hash.slice(1)) return;
  written = fragment;
  const address = fragment ? `#${fragment}` : location.pathname + location.search;
  try {
    history[push ? "pushState" : "replaceState"](null, "", address);
  } catch {
    location.hash = fragment; // a browser that refuses both for a file
  }
}

// Calls the listener when the user goes back, or edits the address.
export function onStateChange(listener) {
  stateListeners.push(listener);
}

addEventListener("popstate", () => {
  if (location.hash.slice(1) === written) return;
  written = location.hash.slice(1);
  for (const listener of stateListeners) listener(readState());
});
