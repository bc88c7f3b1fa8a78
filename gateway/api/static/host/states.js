// How rooms and sales stand, in words, colours and times.

import { html } from "../ui/ui.js";
import { countdown, dayTime, duration } from "../ui/format.js";
import { words } from "../ui/words.js";

export const t = words({
  en: {
    scheduled: "Scheduled", live: "Live", ended: "Ended", open: "Open", paused: "Paused", closed: "Closed",
    roomStartsIn: "starts in {time}", roomLate: "{time} late", roomNoStart: "no start time", roomLive: "live for {time}",
    roomEnded: "ended {at} after {time}", roomCancelled: "ended {at} without a show",
    saleOpensIn: "opens in {time}", saleClosesIn: "closes in {time}", saleClosed: "closed", saleOver: "time is up",
  },
  zh: {
    scheduled: "待开播", live: "直播中", ended: "已结束", open: "售卖中", paused: "已暂停", closed: "已关闭",
    roomStartsIn: "{time} 后开播", roomLate: "已超时 {time}", roomNoStart: "未定开播时间", roomLive: "已直播 {time}",
    roomEnded: "{at} 结束，共 {time}", roomCancelled: "{at} 结束，未开播",
    saleOpensIn: "{time} 后开售", saleClosesIn: "{time} 后结束", saleClosed: "已关闭", saleOver: "时间已到",
  },
});

const LOOKS = { live: "live", open: "live", paused: "warn", scheduled: "", ended: "", closed: "" };

/** Of a sale `scheduled` is said in its own words: nothing is broadcast by it. */
export const StateBadge = ({ state, of = "room" }) =>
  html`<span class=${`badge ${LOOKS[state] ?? ""}`}>${of === "sale" && state === "scheduled" ? saleScheduled() : t(state)}</span>`;

const saleScheduled = () => (document.documentElement.lang.startsWith("zh") ? "待开售" : t("scheduled"));

/** `{text, late}` of a room at an instant. */
export function roomTimer(room, now) {
  if (room.state === "ended") {
    const at = dayTime(room.ended_at);
    if (!room.started_at) return { text: t("roomCancelled", { at }) };
    return { text: t("roomEnded", { at, time: duration(Date.parse(room.ended_at) - Date.parse(room.started_at)) }) };
  }
  if (room.state === "live") {
    const seconds = Math.floor((now - Date.parse(room.started_at)) / 1_000);
    return { text: t("roomLive", { time: countdown(seconds * 1_000) }) };
  }
  if (!room.starts_at) return { text: t("roomNoStart") };
  const ahead = Date.parse(room.starts_at) - now;
  return ahead > 0 ? { text: t("roomStartsIn", { time: countdown(ahead) }) }
    : { text: t("roomLate", { time: countdown(-ahead) }), late: true };
}

/** What is left of a sale's window, in words. */
export function saleTimer(sale, now) {
  const opens = Date.parse(sale.opens_at) - now, closes = Date.parse(sale.closes_at) - now;
  if (sale.state === "closed") return t("saleClosed");
  if (closes <= 0) return t("saleOver");
  return opens > 0 ? t("saleOpensIn", { time: countdown(opens) }) : t("saleClosesIn", { time: countdown(closes) });
}
