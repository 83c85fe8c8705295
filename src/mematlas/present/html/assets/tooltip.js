// Tooltip of all charts. It contains text only: no name can become markup.

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// rows: [label, value] pairs; more: elements below the subtitle.
export function showTooltip(event, title, subtitle, rows, more = []) {
  const box = document.getElementById("tooltip");
  box.replaceChildren(element("b", "", title));
  if (subtitle) box.append(element("div", "path", subtitle));
  box.append(...more);
  const table = element("dl");
  for (const [label, value] of rows) table.append(element("dt", "", label), element("dd", "", value));
  box.append(table);
  box.hidden = false;
  const margin = 14;
  const { width, height } = box.getBoundingClientRect();
  const page = document.documentElement;
  let x = event.clientX + margin;
  let y = event.clientY + margin;
  if (x + width > page.clientWidth - 8) x = event.clientX - width - margin;
  if (y + height > page.clientHeight - 8) y = event.clientY - height - margin;
  box.style.left = `${Math.max(8, x)}px`;
  box.style.top = `${Math.max(8, y)}px`;
}

export function hideTooltip() {
  document.getElementById("tooltip").hidden = true;
}
