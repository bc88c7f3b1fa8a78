// Where everything of the room stands. A phone has the stage in full height with the talk over its lower part; from 900 px on
// the stage is on the left, the bag and the talk are on the right.

import { html, Icon, useEffect } from "../ui/ui.js";
import { compact } from "../ui/format.js";
import { LanguageSwitch, language } from "../ui/words.js";
import { Bag, BagButton, OrderCards } from "./bag.js";
import { Comments, PinnedComment } from "./comments.js";
import { later } from "./later.js";
import { LikeButton } from "./likes.js";
import { MineButton } from "./mine-button.js";
import { Announcement, isOut, LinkStrip } from "./notices.js";
import { danmakuOn, isCalm, setDanmaku } from "./moving.js";
import { Say } from "./say.js";
import { mineOpen } from "./sheets.js";
import { Stage } from "./stage.js";
import { t } from "./words.js";

const CouponDrops = later("CouponDrops", () => import("./coupons.js"), ({ show }) => show.coupons.value.length > 0);
const Mine = later("Mine", () => import("./mine.js"), () => mineOpen.value);
const WayOut = later("WayOut", () => import("./way-out.js"));

export function Layout({ show, basket }) {
  const title = show.room.value?.title, out = isOut(show);
  useEffect(() => { document.title = title ?? t("room"); }, [title, language.value]);
  useSeenHeight();
  return html`<div class="room">
    <${Head} show=${show} basket=${basket} />
    <${Stage} show=${show} basket=${basket} />
    <${LinkStrip} show=${show} />
    <div class="side">
      <${Bag} show=${show} basket=${basket} />
      <section class="talk" aria-label=${t("comments")}>
        <${Announcement} show=${show} />
        <${CouponDrops} show=${show} basket=${basket} />
        <${OrderCards} show=${show} basket=${basket} />
        ${out ? html`<${WayOut} show=${show} />`
          : html`<${PinnedComment} show=${show} /><${Comments} show=${show} />`}
        <div class="bar">
          ${!out && html`<${Say} show=${show} />`}
          ${(!out || show.sales.value.length > 0) && html`<${BagButton} show=${show} basket=${basket} />`}
          ${!out && html`<${LikeButton} show=${show} />`}
        </div>
      </section>
    </div>
  </div>`;
}

function Head({ show, basket }) {
  const { title, state } = show.room.value ?? {};
  return html`<header class="room-head">
    <div class="head-words">
      <h1>${title ?? t("room")}</h1>
      <p class="head-facts">
        ${state === "live" && html`<span class="badge live">${t("live")}</span>`}
        ${state === "scheduled" && html`<span class="badge warn">${t("soon")}</span>`}
        ${state === "ended" && html`<span class="badge">${t("ended")}</span>`}
        ${state && state !== "ended" && html`<${Watching} show=${show} />`}
      </p>
    </div>
    <div class="head-tools">
      ${state !== "ended" && html`<${DanmakuSwitch} />`}
      <${MineButton} basket=${basket} />
      <${Mine} show=${show} basket=${basket} />
      <${LanguageSwitch} />
    </div>
  </header>`;
}

function Watching({ show }) {
  const n = compact(show.viewers.value);
  return html`<span class="watching number"><${Icon} name="eye" size=${16} /><span aria-hidden="true">${n}</span>
    <span class="visually-hidden">${t("viewers", { n })}</span></span>`;
}

function DanmakuSwitch() {
  if (isCalm.value) return null;
  const isOn = danmakuOn.value;
  return html`<button class=${`button quiet round danmaku-switch ${isOn ? "" : "off"}`} type="button" aria-label=${t("danmaku")}
      aria-pressed=${isOn ? "true" : "false"} title=${t(isOn ? "danmakuOff" : "danmakuOn")} onClick=${() => setDanmaku(!isOn)}>
    <${Icon} name="danmaku" /></button>`;
}

/** Over a keyboard on the screen the room is as high as what is seen of it, and where that is: some phones push the page up
 *  for a field. Who looks closer with two fingers changes nothing of the room. */
function useSeenHeight() {
  useEffect(() => {
    const seen = window.visualViewport, { style } = document.documentElement;
    if (!seen) return undefined;
    const fit = () => {
      if (Math.abs(seen.scale - 1) > 0.01) return;
      style.setProperty("--seen-height", `${Math.round(seen.height)}px`);
      style.setProperty("--seen-top", `${Math.round(seen.offsetTop)}px`);
    };
    fit();
    for (const moved of ["resize", "scroll"]) seen.addEventListener(moved, fit);
    return () => { for (const moved of ["resize", "scroll"]) seen.removeEventListener(moved, fit); };
  }, []);
}
