// Something said to everybody in the room, above the comments; and what was said so far.

import { effect, html, useEffect, useSignal, Button } from "../ui/ui.js";
import { clockTime, count } from "../ui/format.js";
import { t } from "./talk-words.js";

const LONGEST = 200, MOST_SHOWN = 8;
const SAME_WITHIN_MS = 15_000; // the report and the socket tell of the same announcement by different clocks

export function Announce({ desk }) {
  const text = useSignal(""), said = useSaid(desk);
  const room = desk.room.value, hasEnded = room?.state === "ended", isLive = room?.state === "live";
  const send = async () => {
    const wanted = text.value.trim();
    const answer = wanted && await desk.act("POST", `/v1/rooms/${encodeURIComponent(room.room)}/announcements`,
      { text: wanted }, { done: t("announced") });
    if (answer && text.value.trim() === wanted) text.value = "";
  };
  return html`<section class="card panel stack" aria-label=${t("announce")}>
    <h2>${t("announce")}</h2>
    <form class="stack tight" onSubmit=${(event) => { event.preventDefault(); void send(); }}>
      <div class="field"><label for="announce-text">${t("announceAsk")}</label>
        <input id="announce-text" class="input" maxlength=${LONGEST} disabled=${hasEnded} autocomplete="off"
          value=${text.value} onInput=${(event) => { text.value = event.target.value; }} /></div>
      <div class="spread"><span class="soft small number">${count([...text.value].length)} / ${LONGEST}</span>
        <${Button} kind="primary" does=${send} disabled=${hasEnded || !text.value.trim()}>${t("announceSend")}<//></div>
    </form>
    ${!isLive && html`<p class="soft small">${t(hasEnded ? "announceEnded" : "announceEarly")}</p>`}
    ${said.value.length > 0 && html`<h3>${t("announcedSoFar")}</h3><ul class="said">
      ${said.value.map((each) => html`<li key=${each.at_ms} class="spread">
        <span class="grow"><time class="soft small number">${clockTime(each.at_ms)}</time> ${each.text}</span>
        <${Button} kind="quiet" disabled=${hasEnded}
          does=${() => { text.value = each.text; document.getElementById("announce-text").focus(); }}
          aria-label=${t("announceAgainOf", { text: each.text })}>${t("announceAgain")}<//>
      </li>`)}</ul>`}
  </section>`;
}

/** Newest first: the marks of the report, and what was heard since. */
function useSaid(desk) {
  const said = useSignal([]);
  useEffect(() => {
    let room = null, heard = [];
    return effect(() => {
      const last = desk.announcement.value, report = desk.report.value;
      if (desk.room.value?.room !== room) {
        room = desk.room.value?.room;
        heard = [];
      }
      if (last && heard.at(-1) !== last) heard = [...heard, last].slice(-MOST_SHOWN);
      const marks = report?.room === room ? report.marks : [];
      const noted = marks.filter(({ kind }) => kind === "announce").map(({ at, label }) => ({ at_ms: Date.parse(at), text: label }));
      const since = heard.filter(({ text, at_ms }) => !noted.some((each) => each.text === text &&
        Math.abs(each.at_ms - at_ms) < SAME_WITHIN_MS));
      said.value = [...noted, ...since].sort((one, other) => other.at_ms - one.at_ms).slice(0, MOST_SHOWN);
    });
  }, [desk]);
  return said;
}
