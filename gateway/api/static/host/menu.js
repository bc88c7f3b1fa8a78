// A menu beside the button that opened it: a modal dialog of the browser's, so that it lies above everything, Escape and a
// tap beside it close it, and the focus goes back to where it came from.

import { html, useEffect, useRef } from "../ui/ui.js";

const GAP_PX = 4;

/** `at`: the button it belongs to; `items`: {text, does, kind?} or {heading}. */
export function Menu({ at, label, items, onClose }) {
  const element = useRef(null);
  useEffect(() => {
    element.current.showModal();
    entries(element.current)[0]?.focus();
  }, []);
  const close = () => element.current?.close();
  const choose = (item) => {
    close();
    item.does();
  };
  return html`<dialog ref=${element} class="menu" aria-label=${label} style=${placeBeside(at)} onClose=${onClose}
      onKeyDown=${(event) => walk(event, element.current)} onClick=${(event) => { if (event.target === element.current) close(); }}>
    <div role="menu" aria-label=${label}>
      ${items.map((item) => item.heading
        ? html`<p key=${item.heading} class="menu-heading" role="presentation">${item.heading}</p>`
        : html`<button key=${item.text} type="button" role="menuitem" class=${`menu-item ${item.kind ?? ""}`}
            onClick=${() => choose(item)}>${item.text}</button>`)}
    </div>
  </dialog>`;
}

const entries = (menu) => [...menu.querySelectorAll('[role="menuitem"]')];

function walk(event, menu) {
  const all = entries(menu), at = all.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (to !== undefined) {
    event.preventDefault();
    all.at(to % all.length)?.focus();
  } else if (event.key === "Tab") {
    event.preventDefault();
    menu.close();
  }
}

/** Below the button or above it, wherever there is more room, and never outside the window. */
function placeBeside(button) {
  const place = button.getBoundingClientRect(), { innerWidth, innerHeight } = window;
  const isBelow = place.bottom < innerHeight / 2;
  const space = isBelow ? innerHeight - place.bottom : place.top;
  return {
    top: isBelow ? `${place.bottom + GAP_PX}px` : "auto",
    bottom: isBelow ? "auto" : `${innerHeight - place.top + GAP_PX}px`,
    right: `${Math.max(GAP_PX, innerWidth - place.right)}px`,
    maxHeight: `${Math.max(160, space - 3 * GAP_PX)}px`,
  };
}
