// The stage: the stream or, honestly, a still cover; over it the comments that fly by and the hearts.

import { html, useRef, useSignal } from "../ui/ui.js";
import { countdown, dayTime } from "../ui/format.js";
import { later } from "./later.js";
import { useDoubleTap } from "./likes.js";
import { isOut } from "./notices.js";
import { t } from "./words.js";

const Booking = later("Booking", () => import("./booking.js"));
const Danmaku = later("Danmaku", () => import("./danmaku.js"));
const Video = later("Video", () => import("./video.js"));

export function Stage({ show, basket }) {
  const element = useRef(null), state = show.room.value?.state, url = show.room.value?.stream_url;
  const hasVideo = Boolean(url) && state === "live" && !isOut(show), seen = useSignal(null); // the stream of which something was seen
  useDoubleTap(element, show);
  return html`<section class="stage" ref=${element} aria-label=${t("stage")}>
    ${!(hasVideo && seen.value === url) && html`<${Cover} show=${show} basket=${basket} hasVideo=${hasVideo} />`}
    ${hasVideo && html`<${Video} key=${url} url=${url} show=${show} seen=${seen} />`}
    <${Danmaku} show=${show} />
  </section>`;
}

/** Where there is no video, or none yet: what the room is about, and what is explained just now. */
function Cover({ show, basket, hasVideo }) {
  const { title, state, notice } = show.room.value ?? {};
  const broken = useSignal(null);
  const first = show.sales.value.flatMap((sale) => (sale.state === "closed" ? [] : sale.items)).find((item) => item.image_url);
  const image = show.pinnedItem.value?.item.image_url ?? first?.image_url, isShown = image && broken.value !== image;
  return html`<div class="cover">
    ${isShown && html`<img class="cover-back" src=${image} alt="" />
      <img class="cover-image" src=${image} alt="" onError=${() => { broken.value = image; }} />`}
    ${title && html`<div class=${`cover-words ${isShown ? "" : "alone"}`}>
      <p class="cover-title">${title}</p>
      ${notice && html`<p class="cover-notice">${notice}</p>`}
      ${state === "scheduled" && html`<${Start} show=${show} /><${Booking} show=${show} basket=${basket} />`}
      ${state === "live" && !hasVideo && html`<p class="cover-note">${t(show.sales.value.length ? "noStream" : "noStreamTalk")}</p>`}
    </div>`}
  </div>`;
}

/** What is left until the start, by the gateway's clock. */
function Start({ show }) {
  const at = show.room.value.starts_at_ms;
  if (!at) return html`<p class="cover-note">${t("notAnnounced")}</p>`;
  const left = at - show.second.value;
  if (left <= 0) return html`<p class="cover-start">${t("startsAnyMoment")}</p>`;
  return html`<div class="cover-count" role="timer">
    <span class="soft">${t("startsIn")}</span>
    <strong class="number">${countdown(left)}</strong>
    <span class="soft small">${t("startsAt", { when: dayTime(at) })}</span>
  </div>`;
}
