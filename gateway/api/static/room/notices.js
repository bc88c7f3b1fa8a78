// How the room stands for this viewer: a strip while the connection is away, and what the host says to all.

import { html, Icon, useEffect, useRef, useSignal } from "../ui/ui.js";
import { t } from "./words.js";

const BACK_FOR_MS = 3_000, QUIET_FOR_MS = 1_500, ANNOUNCED_FOR_MS = 60_000;
const FULL = 4029, TOKEN_ENDED = 4401, ENDED = 4504;

/** Whether the room has no place for this viewer (any more); way-out.js says why. */
export const isOut = (show) => show.room.value?.state === "ended" || show.linkCode.value === ENDED || show.trouble.value !== null
  || show.link.value === "away";

/** A strip at the top; nothing while all is well, and nothing for a hiccup nobody would notice. */
export function LinkStrip({ show }) {
  const link = show.link.value, code = show.linkCode.value, isAway = link === "connecting" || link === "waiting";
  const shown = useSignal(null); // "away", "back" or null
  const cameBefore = useRef(false);
  useEffect(() => {
    if (isAway) {
      const timer = setTimeout(() => { shown.value = "away"; }, QUIET_FOR_MS);
      return () => clearTimeout(timer);
    }
    if (link !== "open" || shown.value !== "away") {
      shown.value = null;
      return undefined;
    }
    // Who was never in has come in, not back.
    shown.value = cameBefore.current ? "back" : null;
    const timer = setTimeout(() => { shown.value = null; }, BACK_FOR_MS);
    return () => clearTimeout(timer);
  }, [isAway]);
  useEffect(() => { if (link === "open") cameBefore.current = true; }, [link]);
  const away = code === FULL ? "full" : code === TOKEN_ENDED ? "token" : cameBefore.current ? "lost" : "connecting";
  const word = shown.value === "away" ? away : shown.value;
  return html`<div class="link-strip" role="status">
    ${word && html`<p class=${`strip ${word === "back" ? "good" : "warn"}`}>
      <${Icon} name=${word === "back" ? "check" : "warn"} size=${16} />
      ${t(word)}</p>`}
  </div>`;
}

/** What the host says to all; it goes by itself or when it was read. */
export function Announcement({ show }) {
  const told = show.announcement.value, read = useSignal(null);
  const isOver = !told || read.value === told || show.second.value - told.at_ms > ANNOUNCED_FOR_MS;
  return html`<div class="announcement-place" role="status">
    ${!isOver && html`<div class="announcement"><${Icon} name="bell" size=${18} />
      <p class="grow"><span class="visually-hidden">${t("announcement")}: </span>${told.text}</p>
      <button class="button quiet round" type="button" aria-label=${t("dismiss")} onClick=${() => { read.value = told; }}>
        <${Icon} name="close" size=${16} /></button></div>`}
  </div>`;
}
