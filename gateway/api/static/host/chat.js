// The rules of the room's chat: how often one may speak, whether at all, what may not be said, and who may not.

import { html, useComputed, useEffect, useSignal, Button, Icon } from "../ui/ui.js";
import { clockTime, countdown, count, dayTime } from "../ui/format.js";
import { mayChangeShop } from "./comment-acts.js";
import { ListFoot } from "./list-foot.js";
import { peopleOf, shortViewer, shownName } from "./people.js";
import { t } from "./talk-words.js";
import { later, Waiting, waitingIds } from "./undo.js";

const SLOW_MODES_S = [0, 3, 5, 10, 30, 60, 120, 300];
const LISTS_EVERY_MS = 20_000;
const LONGEST_WORD = 50;
const DAY_MS = 86_400_000;

export function Chat({ desk }) {
  const people = peopleOf(desk);
  useEffect(() => {
    const timer = setInterval(() => document.visibilityState === "visible" && people.refresh(), LISTS_EVERY_MS);
    return () => clearInterval(timer);
  }, [people]);
  return html`<section class="card panel stack" aria-label=${t("chat")}>
    <h2>${t("chat")}</h2>
    <${Rules} desk=${desk} />
    <${Words} people=${people} />
    <${Muted} desk=${desk} people=${people} />
    <${Banned} people=${people} />
    <${Waiting} of="chat/" />
  </section>`;
}

function Rules({ desk }) {
  const { slow_mode_s, comments } = desk.chat.value, isOn = comments === "on";
  const change = (body, done) => desk.act("PATCH", `/v1/rooms/${encodeURIComponent(desk.room.value.room)}/chat`, body, { done });
  const hasEnded = desk.room.value?.state === "ended";
  const modes = SLOW_MODES_S.includes(slow_mode_s) ? SLOW_MODES_S : [...SLOW_MODES_S, slow_mode_s].sort((one, other) => one - other);
  return html`<div class="row rules">
    <div class="field grow"><label for="slow-mode">${t("slowMode")}</label>
      <select id="slow-mode" class="input" disabled=${hasEnded} value=${String(slow_mode_s)}
        onChange=${(event) => change({ slow_mode_s: Number(event.target.value) }, t("ruleSaved"))}>
        ${modes.map((each) => html`<option key=${each} value=${String(each)}
          selected=${each === slow_mode_s}>${slowModeName(each)}</option>`)}
      </select></div>
    <div class="field grow"><span class="label" id="comments-on">${t("commentsRule")}</span>
      <button type="button" role="switch" aria-checked=${isOn ? "true" : "false"} aria-labelledby="comments-on"
        class="switch" disabled=${hasEnded}
        onClick=${() => change({ comments: isOn ? "off" : "on" }, t("ruleSaved"))}>
        <span class="switch-knob" aria-hidden="true"></span><span>${t(isOn ? "commentsOn" : "commentsOff")}</span></button></div>
  </div>`;
}

function slowModeName(seconds) {
  if (seconds === 0) return t("slowOff");
  return seconds % 60 ? t("slowSeconds", { n: seconds }) : t("slowMinutes", { n: seconds / 60 });
}

function Words({ people }) {
  const word = useSignal(""), isShopWide = useSignal(false);
  const asked = waitingIds(), words = people.words.items.value;
  const add = async () => {
    const text = word.value.trim();
    if (text && await people.banWord(text, isShopWide.value)) word.value = "";
  };
  const idOf = (each) => `chat/word/${each.word}`;
  const allow = (each) => {
    const where = people.address("words", each.word);
    later(idOf(each), t("allowing", { word: each.word }), () => people.allowWord(where, each));
  };
  return html`<${Part} title=${t("words")} count=${words.length} isMore=${people.words.next.value} open>
    <form class="stack tight" onSubmit=${(event) => { event.preventDefault(); void add(); }}>
      <div class="row"><input class="input grow word-input" maxlength=${LONGEST_WORD}
        placeholder=${t("wordHint")} aria-label=${t("wordHint")}
          value=${word.value} onInput=${(event) => { word.value = event.target.value; }} />
        <${Button} does=${add} disabled=${!word.value.trim()}>${t("addWord")}<//></div>
      ${mayChangeShop() && html`<label class="row small check"><input type="checkbox" checked=${isShopWide.value}
        onChange=${(event) => { isShopWide.value = event.target.checked; }} /> ${t("shopWide")}</label>`}
    </form>
    <ul class="chips">${words.map((each) => html`<li key=${`${each.shop_wide}/${each.word}`}
      class=${`chip ${asked.has(idOf(each)) ? "gone" : ""}`}>
      <span>${each.word}</span>${each.shop_wide && html`<span class="badge">${t("wholeShop")}</span>`}
      ${(!each.shop_wide || mayChangeShop()) && html`<button type="button" class="button quiet round" disabled=${asked.has(idOf(each))}
        aria-label=${t("allowWord", { word: each.word })} title=${t("allowWord", { word: each.word })} onClick=${() => allow(each)}>
        <${Icon} name="close" size=${14} /></button>`}
    </li>`)}</ul>
    <${ListFoot} pages=${people.words} empty=${t("noWords")} />
  <//>`;
}

function Muted({ desk, people }) {
  const muted = people.mutes.items.value;
  return html`<${Part} title=${t("mutedPeople")} count=${muted.length} isMore=${people.mutes.next.value}>
    <ul class="people">${muted.map((each) => html`<li key=${each.viewer} class="spread">
      <span class="grow"><b>${shownName(each)}</b> <span class="soft small">${each.name && shortViewer(each.viewer)}</span><br />
        <span class="soft small"><${Until} desk=${desk} at=${Date.parse(each.until)} /></span></span>
      <${Button} does=${() => people.unmute(each)} aria-label=${t("unmuteOf", { name: shownName(each) })}>${t("unmute")}<//>
    </li>`)}</ul>
    <${ListFoot} pages=${people.mutes} empty=${t("noMutes")} />
  <//>`;
}

function Until({ desk, at }) {
  const left = useComputed(() => at - desk.second.value).value;
  if (left <= 0) return t("muteOver");
  return left > DAY_MS / 2 ? t("untilDay", { time: dayTime(at) }) : t("until", { time: clockTime(at), left: countdown(left) });
}

function Banned({ people }) {
  const banned = people.bans.items.value;
  return html`<${Part} title=${t("bannedPeople")} count=${banned.length} isMore=${people.bans.next.value}>
    <ul class="people">${banned.map((each) => html`<li key=${each.viewer} class="spread">
      <span class="grow"><b>${shownName(each)}</b> <span class="soft small">${each.name && shortViewer(each.viewer)}</span><br />
        <span class="soft small">${t(each.shop_wide ? "fromShop" : "fromRoom")}</span></span>
      ${(!each.shop_wide || mayChangeShop()) && html`<${Button} does=${() => people.unban(each)}
        aria-label=${t("unbanOf", { name: shownName(each) })}>${t("unban")}<//>`}
    </li>`)}</ul>
    <${ListFoot} pages=${people.bans} empty=${t("noBans")} />
  <//>`;
}

const Part = ({ title, count: n, isMore, open = false, children }) => html`<details class="part" open=${open}>
  <summary><h3>${title}</h3><span class="badge">${count(n)}${isMore ? "+" : ""}</span></summary>
  <div class="stack tight">${children}</div>
</details>`;
