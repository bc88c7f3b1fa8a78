// For whom the room has no place (any more): why, and what can be done.

import { html, useEffect, useRef } from "../ui/ui.js";
import { mineOpen } from "./sheets.js";
import { t } from "./door-words.js";

const TOKEN_ENDED = 4401, BAD_TOKEN = 4500, BANNED = 4503, ENDED = 4504, NOT_ALLOWED = 4507;

function reason(show) {
  const code = show.linkCode.value, trouble = show.trouble.value;
  if (show.room.value?.state === "ended" || code === ENDED) return { title: "endedTitle", text: "endedText", ended: true };
  switch (trouble) {
    case null: break;
    case "not_found": return { title: "notFoundTitle", text: "notFoundText" };
    case "unauthorized": return { title: "tokenTitle", text: "tokenText" };
    case "forbidden": return { title: "notAllowedTitle", text: "notAllowedText" };
    default: return { title: "failedTitle", text: "failedText", again: true };
  }
  switch (code) {
    case TOKEN_ENDED: case BAD_TOKEN: return { title: "tokenTitle", text: "tokenText" };
    case BANNED: return { title: "bannedTitle", text: "bannedText" };
    case NOT_ALLOWED: return { title: "notAllowedTitle", text: "notAllowedText" };
    default: return { title: "awayTitle", text: "closedText", code, again: true };
  }
}

export function WayOut({ show }) {
  const way = reason(show), heading = useRef(null);
  useEffect(() => { heading.current.focus(); }, [way.title]);
  return html`<section class="way-out stack" aria-label=${t(way.title)}>
    <h2 ref=${heading} tabindex="-1">${t(way.title)}</h2>
    <p class="soft">${t(way.text, { code: way.code ?? "–" })}</p>
    ${way.again && html`<div><button class="button primary" type="button" onClick=${() => location.reload()}>${t("reload")}</button></div>`}
    ${way.ended && html`<div>
      <button class="button primary" type="button" onClick=${() => { mineOpen.value = true; }}>${t("mine")}</button></div>`}
  </section>`;
}
