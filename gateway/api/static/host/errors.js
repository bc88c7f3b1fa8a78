// Why something was not done, in plain words. The gateway's own sentence stands where there is no better one.

import { language, words } from "../ui/words.js";
import { told } from "./told.js";

export const t = words({
  en: {
    offline: "There is no answer from the gateway. Trying the same again does nothing twice.",
    no_answer: "There is no answer from the gateway. Look whether it was said before you repeat it.",
    away: "This page is not connected to the room.",
    unauthorized: "Your sign-in has ended. Open the link from your shop again.",
    forbidden: "Your sign-in may not do this.",
    not_found: "It is not there any more.", no_room: "There is no such room in this shop.",
    conflict: "It cannot be done now: {detail}",
    stock_in_use: "These units are already held or sold. Take away fewer.",
    key_reused: "The same act was sent with other content. Try it once more.",
    rate_limited: "Too many in a short time. Wait a moment.",
    overloaded: "The gateway has too much to do at once. Nothing happened; try again in a moment.",
    unavailable: "The gateway cannot do it just now. Nothing happened; try again in a moment.",
    outcome_unknown: "It is not known whether it was done. Trying the same again does nothing twice.",
    internal: "Something went wrong at the gateway. Look at the state before you repeat it.",
    too_large: "This is too long.",
    invalid: "A value is not allowed: {detail}",
    invalid_at: "{param} is not allowed: {detail}",
    already_redeemed: "This code was redeemed before.",
    not_confirmed: "The order is not confirmed yet. Try again in a moment.",
  },
  zh: {
    offline: "网关没有应答。可以再试一次，同一操作不会重复执行。",
    no_answer: "网关没有应答。重新发送前，请先确认是否已经发出。",
    away: "本页未连接到直播间。",
    unauthorized: "登录已失效，请从店铺后台重新打开链接。",
    forbidden: "当前身份没有这个权限。",
    not_found: "对象已不存在。", no_room: "本店没有这个直播间。",
    conflict: "当前状态不能这样操作：{detail}",
    stock_in_use: "这些库存已被锁定或已售出，请减少扣减的数量。",
    key_reused: "同一个操作的内容发生了变化，请再试一次。",
    rate_limited: "操作太频繁，请稍等片刻。",
    overloaded: "网关繁忙，操作没有生效，请稍后再试。",
    unavailable: "网关暂时无法处理，操作没有生效，请稍后再试。",
    outcome_unknown: "无法确定操作是否成功。可以再试一次，同一操作不会重复执行。",
    internal: "网关出错，请先查看当前状态再重试。",
    too_large: "内容过长。",
    invalid: "填写有误：{detail}",
    invalid_at: "{param} 填写有误：{detail}",
    already_redeemed: "该核销码已使用过。",
    not_confirmed: "订单尚未确认，请稍后再试。",
  },
});

/** What of a value is wrong, as its field says it. */
export const whatIsWrong = (error) => told(error.message, language.value).text;

/** A sentence for an HttpError; of others what they say themselves. */
export function explain(error) {
  const code = error.code;
  if (!code || !(code in t.tables.en)) return error.message || t("internal");
  const facts = { detail: whatIsWrong(error), param: error.param ?? "" };
  return t(code === "invalid" && error.param ? "invalid_at" : code, facts);
}
