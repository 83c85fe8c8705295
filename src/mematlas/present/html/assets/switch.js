// Row of buttons, one of them pressed.

export function setUpSwitch(group, onChange) {
  group.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) choose(group, button.dataset.value, onChange);
  });
}

export function press(group, value) {
  for (const button of group.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.value === value));
  }
}

export function choose(group, value, onChange) {
  press(group, value);
  onChange(value);
}
