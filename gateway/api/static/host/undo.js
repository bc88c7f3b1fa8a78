// Acts that cannot be taken back are sent three seconds after they were asked for, and until then they can be.
//
// What waits is the page's, not a panel's: a panel that is closed meanwhile keeps nothing from being sent. Of a page that is
// closed meanwhile nothing is sent.

import { html, signal, Button } from "../ui/ui.js";
import { t } from "./talk-words.js";

export const WAITS_MS = 3_000;

/** What waits, oldest first: {id, text, timer, does}. */
const waiting = signal([]);

/** Sends `does` later, once an id. `text` says what it will have done. */
export function later(id, text, does) {
  if (isWaiting(id)) return;
  const timer = setTimeout(() => {
    forget(id);
    does();
  }, WAITS_MS);
  waiting.value = [...waiting.value, { id, text, timer }];
}

/** Whoever reads it in a component is drawn anew when it changes. */
export const isWaiting = (id) => waiting.value.some((each) => each.id === id);
export const waitingIds = () => new Set(waiting.value.map((each) => each.id));

export function undo(id) {
  clearTimeout(waiting.value.find((each) => each.id === id)?.timer);
  forget(id);
}

const forget = (id) => { waiting.value = waiting.value.filter((each) => each.id !== id); };

/** What waits, each with its way back. `of` says whose ids to show by how they begin. */
export function Waiting({ of }) {
  const shown = waiting.value.filter((each) => each.id.startsWith(of));
  return html`<div class="waiting" role="status">
    ${shown.map(({ id, text }) => html`<div key=${id} class="note warn spread">
      <span>${text}</span><${Button} does=${() => undo(id)}>${t("undo")}<//>
      <span class="waiting-bar" aria-hidden="true"></span>
    </div>`)}
  </div>`;
}
