// Where a viewer writes. What was not posted stays in the field, and the answer says why in plain words.

import { html, Icon, useComputed, useEffect, useRef, useSignal } from "../ui/ui.js";
import { countdown, duration } from "../ui/format.js";
import { freshKey } from "peakgate";
import { t } from "./words.js";

const MOST_CHARS = 200, COUNTED_FROM = 160;
const clean = (text) => text.normalize("NFC").trim();
const charsOf = (text) => [...clean(text)].length;

export function Say({ show }) {
  const field = useRef(null), text = useSignal(""), sending = useSignal(false);
  const answer = useSignal(null); // {word, until_ms?}
  const tried = useRef(null); // {text, id} of a comment without an answer: asked again it is the same one
  const long = useComputed(() => charsOf(text.value));
  // The room's clock moves by seconds: what is left is never more than it was.
  const left = answer.value?.until_ms ? Math.min(answer.value.wait_ms, answer.value.until_ms - show.second.value) : null;
  const isLong = long.value > MOST_CHARS, isOpen = show.link.value === "open";
  const { comments, slow_mode_s: slow_s } = show.chat.value, isOff = comments === "off";
  useEffect(() => { if (!slow_s && answer.peek()?.word === "slow") answer.value = null; }, [slow_s]);

  const send = async (event) => {
    event.preventDefault();
    const said = clean(text.value);
    if (!said || sending.value) return;
    if (isLong) {
      answer.value = { word: "tooLong" };
      return;
    }
    if (!isOpen) {
      answer.value = { word: "sayAway" };
      return;
    }
    const id = tried.current?.text === said ? tried.current.id : freshKey();
    tried.current = { text: said, id };
    sending.value = true;
    try {
      const told = await show.say(said, { id });
      if (told.outcome === "posted") {
        // What was written meanwhile stays.
        if (clean(text.value) === said) text.value = "";
        const slow = show.chat.peek().slow_mode_s;
        answer.value = slow ? { word: "slow", quiet: true, until_ms: show.now() + slow * 1_000, wait_ms: slow * 1_000 } : null;
      } else answer.value = refusal(told, show.now());
      tried.current = null;
    } catch (error) {
      answer.value = { word: error.code === "no_answer" ? "noAnswer" : "notPosted" };
      if (error.code !== "no_answer") tried.current = null;
    } finally { sending.value = false; }
    field.current?.focus();
  };

  const hint = isOff ? t("sayOff") : slow_s ? t("saySlow", { s: duration(slow_s * 1_000) }) : t("say");
  return html`<form class="say" onSubmit=${send} novalidate>
    <${Answer} answer=${answer.value} left=${left} long=${long.value} />
    <label class="visually-hidden" for="say-text">${t("say")}</label>
    <div class="say-row">
      <input id="say-text" ref=${field} class="input say-text" value=${text} placeholder=${hint} disabled=${isOff} autocomplete="off"
        enterkeyhint="send" aria-invalid=${isLong ? "true" : null} aria-describedby="say-answer"
        onInput=${(event) => { text.value = event.target.value; if (!answer.value?.until_ms) answer.value = null; }} />
      ${long.value > COUNTED_FROM && html`<span class=${`say-count number small ${isLong ? "over" : ""}`}>
        ${long.value}/${MOST_CHARS}</span>`}
      ${(long.value > 0 || sending.value) && html`<button class="button primary round say-send" type="submit" aria-label=${t("send")}
        aria-busy=${sending.value ? "true" : null} disabled=${isOff || isLong}><${Icon} name="send" /></button>`}
    </div>
  </form>`;
}

function refusal({ outcome, retry_after_ms }, now) {
  const wait = retry_after_ms ? { until_ms: now + retry_after_ms, wait_ms: retry_after_ms } : {};
  switch (outcome) {
    case "muted": return { word: wait.until_ms ? "muted" : "mutedOn", ...wait };
    case "slow_mode": return { word: "slow", ...wait };
    case "comments_off": return { word: "off" };
    case "rejected": return { word: "rejected" };
    case "too_fast": return { word: wait.until_ms ? "tooFast" : "tooFastNow", ...wait };
    default: return { word: "notPosted" };
  }
}

/** The seconds run for who sees it; who hears the page is told once. */
function Answer({ answer, left, long }) {
  const isOver = Boolean(answer?.until_ms) && left <= 0, isQuiet = Boolean(answer?.quiet);
  const inWords = (time) => {
    if (!answer) return long > MOST_CHARS ? t("tooLong", { n: long }) : "";
    if (isOver) return isQuiet ? "" : t("sayAgain");
    return t(answer.word, { n: long, left: time });
  };
  const text = inWords(countdown(left ?? 0));
  const kind = isQuiet || isOver ? "quiet" : "";
  return html`<p id="say-answer" class=${`say-answer small ${kind}`} hidden=${!text} aria-hidden="true">${text}</p>
    <p class="visually-hidden" role="status">${isQuiet ? "" : inWords(countdown(answer?.wait_ms ?? 0))}</p>`;
}
