// Entry point of the report page.

import { setUpAccount } from "./account.js";
import { setUpContents } from "./contents.js";
import { readPayload, showFailure } from "./data.js";
import { setUpEditor } from "./editor.js";
import { findInStacks, setUpExplorer } from "./explorer.js";
import { setUpHolders } from "./holders.js";
import { goToLine, setUpLines } from "./lines.js";
import { setUpTheme } from "./theme.js";
import { setUpTimeline } from "./timeline.js";
import { setUpWindow } from "./window.js";

async function start() {
  setUpTheme();
  setUpAccount();
  setUpEditor();
  const began = performance.now();
  const data = await readPayload(document.getElementById("payload").textContent);
  const unpacked = performance.now();
  const view = setUpExplorer(data);
  const find = (frame) => findInStacks(view, frame.name);
  setUpTimeline(data.timelines, undefined, setUpWindow(data, find));
  const lines = setUpLines(data, find);
  for (const link of document.querySelectorAll("a.code")) {
    link.addEventListener("click", (event) => {
      if (goToLine(lines, link.textContent)) event.preventDefault();
    });
  }
  setUpHolders();
  setUpContents();
  const root = document.documentElement;
  root.dataset.unpackMs = (unpacked - began).toFixed(1);
  root.dataset.drawMs = (performance.now() - unpacked).toFixed(1);
  root.dataset.ready = "true";
}

start().catch(showFailure);
