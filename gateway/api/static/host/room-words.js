// The texts of rooms: their list, their form, what is done to them.

import { words } from "../ui/words.js";

export const t = words({
  en: {
    rooms: "Rooms", newRoom: "New room", noRooms: "There is no room yet. Make the first one.",
    loadFailed: "The rooms could not be read: {why}", again: "Try again",
    startsAt: "Starts {at}", made: "Made {at}", started: "Started {at}", endedAt: "Ended {at}", before: "Earlier",
    title: "Title", starts: "Planned start (optional)", startsHint: "Your time: {zone}", stream: "Stream address (optional)",
    streamHint: "HLS (.m3u8) plays in the viewers' page; without one it shows a still cover.",
    notice: "Notice for viewers (optional)", create: "Create room", save: "Save", edit: "Edit room",
    saved: "Saved.",
    needed: "This is needed.", noTime: "This is no time.",
    link: "Link for viewers", linkWhy: "Viewers open this page. Your shop adds who they are: …#token=…",
    linkDev: "On this development gateway viewers come in by a name.",
    copy: "Copy", copied: "Copied.", copyFailed: "Copying is not allowed here. Select the link and copy it by hand.", openIt: "Open",
    start: "Start show", startTitle: "Before the start", end: "End show", ended: "The show has ended.", startDone: "The room is live.",
    endTitle: "End “{title}” for good?", endText: "Ended is final. All viewers are shown that it is over, and nobody comes in any more.",
    endSales: ({ n }) => (n === 1 ? "One sale still sells. It goes on without the room until you close it."
      : `${n} sales still sell. They go on without the room until you close them.`),
    endWord: "end", cancelShow: "Call off", cancelTitle: "Call “{title}” off?",
    cancelText: "The room ends without having started. This is final; whoever booked is told nothing by it.",
    noSale: "This room has no sale. Viewers can watch and comment, but buy nothing.", noSaleSure: "Start without a sale",
    startNow: "Start the show now", room: "Room", more: "Room: link, edit, end",
    bookings: "{n} booked",
  },
  zh: {
    rooms: "直播间", newRoom: "新建直播间", noRooms: "还没有直播间，新建第一个吧。", loadFailed: "直播间列表读取失败：{why}", again: "重试",
    startsAt: "计划 {at} 开播", made: "{at} 创建", started: "{at} 开播", endedAt: "{at} 结束", before: "往期",
    title: "标题", starts: "计划开播时间（选填）", startsHint: "按本机时区：{zone}", stream: "直播流地址（选填）",
    streamHint: "HLS（.m3u8）可在观众页面直接播放；不填则显示静态封面。",
    notice: "观众公告（选填）", create: "创建直播间", save: "保存", edit: "编辑直播间", saved: "已保存。",
    needed: "必填。", noTime: "时间格式不对。",
    link: "观众链接", linkWhy: "观众打开此页面；身份由店铺附加：…#token=…", linkDev: "开发网关上，观众凭名字即可进入。",
    copy: "复制", copied: "已复制。", copyFailed: "此处不允许复制，请手动选中链接复制。", openIt: "打开",
    start: "开播", startTitle: "开播前检查", end: "结束直播", ended: "直播已结束。", startDone: "已开播。",
    endTitle: "确定结束“{title}”？", endText: "结束后不可恢复。所有观众会看到直播已结束，也无法再进入。",
    endSales: ({ n }) => `还有 ${n} 个场次在售，直播结束后仍会继续，直到手动关闭。`,
    endWord: "结束", cancelShow: "取消直播", cancelTitle: "确定取消“{title}”？",
    cancelText: "直播间将直接结束且不可恢复，已预约的观众不会收到通知。",
    noSale: "此直播间没有场次。观众可以观看和评论，但无法下单。", noSaleSure: "不带场次开播",
    startNow: "立即开播", room: "直播间", more: "直播间：链接、编辑、结束",
    bookings: "{n} 人已预约",
  },
});
