// Bar of the account, drawn from the rows below it. A click on a segment opens its row.

import { formatBytes, formatShare } from "./format.js";
import { setUpSwitch } from "./switch.js";
import { element } from "./tooltip.js";

export function setUpAccount() {
  for (const account of document.querySelectorAll(".account")) drawBar(account);
  const group = document.getElementById("account-time");
  if (!group) return;
  const show = (value) => {
    for (const account of document.querySelectorAll(".account")) account.hidden = account.dataset.account !== value;
  };
  setUpSwitch(group, show);
  show("peak");
}

function drawBar(account) {
  const bar = account.querySelector(".bar");
  const total = Number(account.dataset.total);
  for (const row of account.querySelectorAll("details[data-kind]")) {
    const bytes = Number(row.dataset.bytes);
    if (!(bytes > 0)) continue;
    const title = row.querySelector(".part > span:nth-of-type(2)").textContent;
    const segment = element("button", "segment");
    segment.type = "button";
    segment.dataset.kind = row.dataset.kind;
    segment.dataset.bytes = bytes;
    segment.style.flexGrow = bytes / total;
    const label = `${title}: ${formatBytes(bytes)}, ${formatShare(bytes, total)}`;
    segment.title = label;
    segment.setAttribute("aria-label", label);
    segment.append(element("span", "name", title), element("span", "share", formatShare(bytes, total)));
    segment.addEventListener("click", () => {
      row.open = !row.open;
      if (row.open) row.scrollIntoView({ block: "nearest" });
    });
    bar.append(segment);
  }
}
