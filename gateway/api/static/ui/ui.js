// What both pages are drawn with: Preact and htm in one word, signals and hooks, and the few parts that stand everywhere.

import { h, render, Fragment } from "preact";
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { batch, computed, effect, signal, untracked, useComputed, useSignal, useSignalEffect } from "@preact/signals";
import htm from "htm";

export const html = htm.bind(h);
export { h, render, Fragment, useCallback, useEffect, useMemo, useRef, useState };
export { batch, computed, effect, signal, untracked, useComputed, useSignal, useSignalEffect };

/** A button that cannot be pressed again while what it does is not done. `does` may return a promise. */
export function Button({ does, kind = "", busy = false, disabled = false, children, ...more }) {
  const doing = useSignal(false);
  const press = async (event) => {
    if (doing.value || busy) return;
    doing.value = true;
    try { await does(event); } finally { doing.value = false; }
  };
  const isBusy = doing.value || busy;
  return html`<button type="button" ...${more} class=${`button ${kind} ${more.class ?? ""}`} disabled=${disabled}
    aria-busy=${isBusy ? "true" : null} onClick=${press}>${children}</button>`;
}

/** A modal dialog of the browser's own: focus stays inside, Escape closes. `onClose` is told however it is closed. */
export function Dialog({ open, title, onClose, children, kind = "" }) {
  const element = useRef(null);
  useEffect(() => {
    const dialog = element.current;
    if (open && !dialog.open) dialog.showModal();
    else if (!open && dialog.open) dialog.close();
  }, [open]);
  const close = () => element.current?.close();
  return html`<dialog ref=${element} class=${`dialog ${kind}`} aria-label=${title} onClose=${onClose}
      onClick=${(event) => { if (event.target === element.current) close(); }}>
    ${open && html`<div class="dialog-body">
      <header class="dialog-head"><h2>${title}</h2>
        <button class="button quiet round" type="button" aria-label=${closeWord()} onClick=${close}>
          <${Icon} name="close" /></button></header>
      ${children}
    </div>`}
  </dialog>`;
}

const closeWord = () => (document.documentElement.lang.startsWith("zh") ? "关闭" : "Close");

// Toasts: short answers to what somebody just did. A few at once; each goes by itself.

const toasts = signal([]);
const MOST_TOASTS = 3, SHOWN_MS = 6_000;
let toastNo = 0;

/** `kind`: "good", "bad" or "". */
export function toast(text, kind = "") {
  const no = ++toastNo;
  toasts.value = [...toasts.value.filter((each) => each.text !== text), { no, text, kind }].slice(-MOST_TOASTS);
  setTimeout(() => dismiss(no), SHOWN_MS);
}

const dismiss = (no) => { toasts.value = toasts.value.filter((each) => each.no !== no); };

export function Toasts() {
  return html`<div class="toasts" role="status" aria-live="polite">
    ${toasts.value.map(({ no, text, kind }) => html`<div key=${no} class=${`toast ${kind}`}>
      <span>${text}</span>
      <button class="button quiet round" type="button" aria-label=${closeWord()} onClick=${() => dismiss(no)}>
        <${Icon} name="close" /></button>
    </div>`)}
  </div>`;
}

// Icons of 24 by 24, drawn as one path each, in the text's colour.
const PATHS = {
  close: "M6 6l12 12M18 6L6 18",
  heart: "M12 20s-7-4.6-9-9c-1.5-3.4.6-7 4-7 2.2 0 3.9 1.3 5 3 1.1-1.7 2.8-3 5-3 3.4 0 5.5 3.6 4 7-2 4.4-9 9-9 9z",
  bag: "M5 8h14l1 12H4L5 8zM8.5 8V7a3.5 3.5 0 0 1 7 0v1",
  eye: "M2 12s4-7 10-7 10 7 10 7-4 7-10 7S2 12 2 12zM12 15a3 3 0 1 0 0-6 3 3 0 0 0 0 6z",
  clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7v5l3 2",
  ticket: "M3 8a2 2 0 0 0 0 8v2h18v-2a2 2 0 0 1 0-8V6H3v2zM14 6v12",
  pin: "M12 21v-7M8 3h8l-1 6 3 3v2H6v-2l3-3-1-6z",
  send: "M4 12l16-8-5 16-4-6-7-2z",
  bell: "M6 16V11a6 6 0 0 1 12 0v5l2 2H4l2-2zM10 21h4",
  danmaku: "M4 6h9M16 6h4M4 12h4M11 12h9M4 18h12",
  check: "M4 12l5 5L20 6",
  warn: "M12 4l9 16H3L12 4zM12 10v4M12 17v.5",
  box: "M4 7l8-4 8 4v10l-8 4-8-4V7zM4 7l8 4 8-4M12 11v10",
  list: "M8 6h12M8 12h12M8 18h12M4 6h.5M4 12h.5M4 18h.5",
  sound: "M4 10v4h4l5 4V6L8 10H4zM16 9a4 4 0 0 1 0 6M18.5 6.5a8 8 0 0 1 0 11",
  mute: "M4 10v4h4l5 4V6L8 10H4zM16 10l5 5M21 10l-5 5",
  play: "M7 5l12 7-12 7V5z",
  pause: "M8 5v14M16 5v14",
  user: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4 21a8 8 0 0 1 16 0",
  plus: "M12 5v14M5 12h14",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM16 16l5 5",
  download: "M12 4v11M7 11l5 5 5-5M4 20h16",
  more: "M5 12h.5M12 12h.5M19 12h.5",
  chart: "M4 20V4M4 20h16M8 16l4-5 3 3 5-7",
};

export function Icon({ name, size = 20 }) {
  return html`<svg class="icon" width=${size} height=${size} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
    <path d=${PATHS[name]} /></svg>`;
}
