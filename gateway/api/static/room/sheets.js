// Which of the shop's sheets is open. Whoever shows something of an order may lead there.

import { effect, signal } from "../ui/ui.js";

export const bagOpen = signal(false);
export const mineOpen = signal(false);

const wide = globalThis.matchMedia?.("(min-width: 900px)");

/** Whether there is room for the bag beside the stage. */
export const isWide = signal(wide?.matches ?? false);
wide?.addEventListener("change", () => { isWide.value = wide.matches; });

// On a phone the way back leads out of what lies over the room, and not out of the room: an entry of the history stands for it.

let stands = false, leaving = false; // whether there is one; whether it is being taken back, which takes a moment

effect(() => {
  const isOpen = bagOpen.value || mineOpen.value;
  if (leaving || isOpen === stands) return;
  if (isOpen) stand();
  else {
    leaving = true;
    history.back();
  }
});

addEventListener("popstate", () => {
  const byUs = leaving;
  stands = leaving = false;
  if (!byUs) bagOpen.value = mineOpen.value = false;
  else if (bagOpen.peek() || mineOpen.peek()) stand(); // opened again meanwhile
});

function stand() {
  stands = true;
  history.pushState(null, "");
}
