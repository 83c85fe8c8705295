// Links to the user's editor. The choice is kept by the browser; the page's maker gives the first one.

import { element } from "./tooltip.js";

const KEY = "mematlas-editor";
export const EDITORS = [
  ["none", ""],
  ["VS Code", "vscode://file/{file}:{line}"],
  ["VSCodium", "vscodium://file/{file}:{line}"],
  ["Cursor", "cursor://file/{file}:{line}"],
  ["Zed", "zed://file/{file}:{line}"],
  ["JetBrains", "idea://open?file={file}&line={line}"],
  ["Sublime Text", "subl://open?url=file://{file}&line={line}"],
];

// A scheme that runs code or shows a page in place of this one is no editor.
export function isEditor(template) {
  return /^[a-z][a-z0-9+.-]*:/i.test(template) && !/^(javascript|data|vbscript|blob|file|about):/i.test(template);
}

export function editorAddress(template, file, line) {
  const path = encodeURI(file).replace(/[?#&=+]/g, encodeURIComponent); // absolute: it begins with "/"
  return template.replace(/\/?\{file\}/, () => path).replace("{line}", () => String(Math.max(1, line)));
}

let template = "";

export function setUpEditor() {
  const field = document.getElementById("editor");
  if (!field) return;
  const given = field.dataset.editor || "vscode://file/{file}:{line}";
  template = kept() ?? given;
  const choices = EDITORS.some(([, each]) => each === template) ? EDITORS : [...EDITORS, ["as given", template]];
  for (const [name, each] of choices) field.append(new Option(name, each, each === template, each === template));
  field.closest("label").hidden = false;
  field.addEventListener("change", () => {
    template = field.value;
    keep(template);
    for (const link of document.querySelectorAll("a.editor")) setAddress(link);
  });
}

// The browser may refuse storage to a file.
function kept() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function keep(value) {
  try {
    localStorage.setItem(KEY, value);
  } catch {
    // the choice lasts as long as the page
  }
}

// Link to the line of a frame, and a button that copies its path; nothing for a frame without a file.
export function sourceTools(frame) {
  if (!frame.file || !frame.file.startsWith("/")) return [];
  const link = element("a", "editor tool", "open in editor");
  link.dataset.file = frame.file;
  link.dataset.line = String(frame.line);
  setAddress(link);
  const place = frame.line > 0 ? `${frame.file}:${frame.line}` : frame.file;
  const copy = element("button", "tool", "copy path");
  copy.type = "button";
  copy.title = place;
  copy.addEventListener("click", () => copyText(copy, place));
  return [link, copy];
}

function setAddress(link) {
  link.hidden = !isEditor(template);
  if (link.hidden) return;
  link.href = editorAddress(template, link.dataset.file, Number(link.dataset.line));
  link.title = `${link.dataset.file}:${link.dataset.line}`;
}

async function copyText(button, text) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch {
    button.textContent = text; // no clipboard: the text can be selected
    return;
  }
  setTimeout(() => (button.textContent = before), 1500);
}

// The source text of a frame's line, or nothing.
export function sourceText(frame) {
  if (!frame.code) return [];
  const code = element("code", "source", frame.code);
  if (!frame.changed) return [code];
  return [code, element("span", "changed", "the file was changed after the run began: the line may be another")];
}
