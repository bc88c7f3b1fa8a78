// Whether things move here: by the device's wish, and comments over the stage by the viewer's.

import { signal } from "../ui/ui.js";

const KEPT_AS = "peakgate:danmaku";
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Whether this device moves nothing that is not asked for. */
export const isCalm = signal(calm.matches);
calm.addEventListener("change", () => { isCalm.value = calm.matches; });

const readKept = () => { try { return localStorage.getItem(KEPT_AS) !== "off"; } catch { return true; } };
export const danmakuOn = signal(readKept());

export function setDanmaku(on) {
  danmakuOn.value = on;
  try { localStorage.setItem(KEPT_AS, on ? "on" : "off"); } catch { /* full or forbidden */ }
}
