// Which of the shop's sheets is open. Whoever shows something of an order may lead there.

import { signal } from "../ui/ui.js";

export const bagOpen = signal(false);
export const mineOpen = signal(false);

const wide = globalThis.matchMedia?.("(min-width: 900px)");

/** Whether there is room for the bag beside the stage. */
export const isWide = signal(wide?.matches ?? false);
wide?.addEventListener("change", () => { isWide.value = wide.matches; });
