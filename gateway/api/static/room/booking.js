// Before the show: who wants to be told of its start says so here.

import { html, useSignal, Button, Icon } from "../ui/ui.js";
import { count } from "../ui/format.js";
import { troubleWords } from "./shop-parts.js";
import { t } from "./mine-words.js";

export function Booking({ show }) {
  const room = show.room.value, told = useSignal(null), trouble = useSignal(null);
  if (room?.state !== "scheduled") return null;
  // What HTTP said after the press is newer than what the room's own description says, until that is asked for again.
  const seen = told.value?.before === room ? told.value : room;
  const act = async (does) => {
    trouble.value = null;
    const path = `/v1/rooms/${encodeURIComponent(room.room)}`;
    try {
      await does(`${path}/bookings`);
      const { bookings, booked } = await show.http.get(path);
      told.value = { before: show.room.peek(), bookings, booked };
    } catch (error) { trouble.value = error.code === "conflict" ? "late" : error.code; }
  };
  return html`<div class="booking">
    ${seen.booked
      ? html`<p class="booking-done"><${Icon} name="check" size=${18} /> <strong>${t("booked")}</strong></p>
          <${Button} kind="quiet" does=${() => act((path) => show.http.del(`${path}/mine`))}>${t("unbook")}<//>`
      : html`<${Button} kind="primary large" does=${() => act((path) => show.http.post(path))}><${Icon} name="bell" /> ${t("book")}<//>`}
    <p class="small booking-note" role="status">
      ${trouble.value ? (trouble.value === "late" ? t("book_late") : troubleWords(trouble.value))
        : [seen.booked && t("booked_note"), seen.bookings > 0 && t("bookings", { n: count(seen.bookings) })].filter(Boolean).join(" ")}</p>
  </div>`;
}
