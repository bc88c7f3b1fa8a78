// What a host may do about a comment and about who said it.

import { session } from "../ui/session.js";
import { peopleOf, shownName } from "./people.js";
import { t } from "./talk-words.js";
import { later } from "./undo.js";

const MUTES_S = [60, 600, 3_600, 86_400];

const addressOf = (desk, rest) => `/v1/rooms/${encodeURIComponent(desk.room.value.room)}/${rest}`;

/** A token for single rooms changes nothing of the whole shop. */
export const mayChangeShop = () => !session.value?.claims.rooms;

export function retract(desk, { comment, text }) {
  const address = addressOf(desk, `comments/${encodeURIComponent(comment)}`);
  later(`comment/${comment}`, t("deleting", { text: shortened(text) }), () => desk.act("DELETE", address));
}

/** The menu of a comment. */
export function actsOn(desk, comment) {
  const people = peopleOf(desk), name = shownName(comment), standing = people.standing.value.get(comment.viewer);
  const isPinned = desk.pin.value?.comment === comment.comment;
  const all = addressOf(desk, `viewers/${encodeURIComponent(comment.viewer)}/comments`);
  const whereBanned = people.address("bans", comment.viewer);
  const ban = (shop_wide) => later(`comment/ban/${comment.viewer}`, t(shop_wide ? "banningShop" : "banning", { name }),
    () => people.ban(whereBanned, shop_wide, t("wasBanned", { name })));
  return [
    isPinned ? { text: t("unpin"), does: () => desk.act("DELETE", addressOf(desk, "pin")) }
      : !comment.gone && { text: t("pin"),
        does: () => desk.act("PUT", addressOf(desk, "pin"), { comment: comment.comment }, { done: t("wasPinned") }) },
    !comment.gone && { text: t("delete"), kind: "bad", does: () => retract(desk, comment) },
    { text: t("deleteAll", { name }), kind: "bad",
      does: () => later(`comment/all/${comment.viewer}`, t("deletingAll", { name }), () => desk.act("DELETE", all)) },
    { heading: t("mute", { name }) },
    standing === "muted" && { text: t("unmute"), does: () => people.unmute(comment) },
    ...MUTES_S.map((for_s) => ({ text: t(`mute_${for_s}`),
      does: () => people.mute(comment, for_s, t("wasMuted", { name, time: t(`mute_${for_s}`) })) })),
    { heading: t("ban", { name }) },
    standing === "banned" && { text: t("unban"), does: () => people.unban(comment) },
    { text: t("banRoom"), kind: "bad", does: () => ban(false) },
    mayChangeShop() && { text: t("banShop"), kind: "bad", does: () => ban(true) },
  ].filter(Boolean);
}

const shortened = (text) => (text.length > 40 ? `${text.slice(0, 39)}…` : text);
