// Table of contents, made of the sections of the page; it stays at the top while the page is scrolled.

import { readState, writeState } from "./state.js";
import { element } from "./tooltip.js";

export function setUpContents() {
  const nav = document.getElementById("contents");
  const sections = [...document.querySelectorAll("main > section")].filter((section) => !section.hidden);
  if (!nav || sections.length < 3) return;
  nav.hidden = false;
  const links = new Map();
  for (const section of sections) {
    const link = element("a", "", section.querySelector("h2").firstChild.textContent);
    link.href = `#section=${section.id}`;
    link.addEventListener("click", (event) => {
      event.preventDefault();
      goTo(section.id);
      writeState({ section: section.id });
    });
    links.set(section, link);
    nav.append(link);
  }
  follow(nav, links);
  const wanted = readState().section;
  if (wanted && document.getElementById(wanted)) goTo(wanted);
}

// Scrolls to a section; the keyboard goes on from there.
export function goTo(name) {
  const section = document.getElementById(name);
  section.tabIndex = -1;
  section.focus({ preventScroll: true });
  section.scrollIntoView();
}

function follow(nav, links) {
  const inView = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) inView[isIntersecting ? "add" : "delete"](target);
    const first = [...links.keys()].find((section) => inView.has(section));
    for (const [section, link] of links) {
      if (section === first) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    const link = links.get(first);
    if (link) nav.scrollLeft = link.offsetLeft - nav.clientWidth / 2;
  }, { rootMargin: "-60px 0px -55% 0px" });
  for (const section of links.keys()) observer.observe(section);
}
