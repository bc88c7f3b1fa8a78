// The texts of the log.

import { words } from "../ui/words.js";

export const t = words({
  en: {
    acts: "Log", noActs: "Nothing was done yet.", because: "“{reason}”", before: "before:", after: "now:", nothing: "nothing",
    noEffect: "had no effect",
    act_open: "Opened the sale", act_pause: "Paused the sale", act_resume: "Resumed the sale", act_close: "Closed the sale",
    act_stock: "Changed stock", act_price: "Changed a price",
    act_plan: "Planned prices", act_window: "Moved the times", act_drop: "Dropped a coupon", act_start: "Started the show",
    act_end: "Ended the show", act_change: "Changed facts",
    act_announce: "Announced", act_pin: "Pinned", act_unpin: "Took the pin away", act_mute: "Muted", act_unmute: "Unmuted",
    act_ban: "Banned", act_unban: "Lifted a ban",
    act_chat: "Changed chat rules", act_ban_word: "Banned a word", act_allow_word: "Allowed a word", act_retract: "Deleted a comment",
    act_retract_all: "Deleted all of a viewer",
    act_link: "Made a link", act_redeem: "Handed an order over",
    state: "state", state_scheduled: "scheduled", state_live: "live", state_ended: "ended", hold_active: "active", hold_paused: "paused",
    hold_closed: "closed",
    slow_mode_s: "slow mode", slowOff: "off", seconds: "{n} s", comments: "comments", on: "on", off: "off", title: "title",
    starts_at: "start", stream_url: "stream", notice: "notice",
    stock_display: "stock display", exact: "exact", low: "only when low", hidden: "hidden", stock: "stock", price: "price",
    until: "until {time}", fromRoom: "from the room", fromShop: "from the whole shop", ofShop: "{word} (whole shop)",
    claimable: "claimed until", heldFrom: "{hold}, opens {time}", named: "{name}:", noPlan: "no plan", step: "from {time} {price}",
    commentBy: "{name}: {text}", unpinned: "the pin went with it", order: "order", source: "source", guide: "guide", referrer: "referrer",
    opensAt: "opens {time}", closesAt: "closes {time}",
  },
  zh: {
    acts: "操作记录", noActs: "还没有操作。", because: "“{reason}”", before: "原值：", after: "现值：", nothing: "无", noEffect: "未生效",
    act_open: "开售", act_pause: "暂停销售", act_resume: "恢复销售", act_close: "结束销售", act_stock: "调整库存", act_price: "修改价格",
    act_plan: "设置价格计划", act_window: "调整时间", act_drop: "发券", act_start: "开播", act_end: "下播", act_change: "修改信息",
    act_announce: "发布公告", act_pin: "置顶", act_unpin: "取消置顶", act_mute: "禁言", act_unmute: "解除禁言", act_ban: "拉黑", act_unban: "解除拉黑",
    act_chat: "修改评论规则", act_ban_word: "添加违禁词", act_allow_word: "移除违禁词", act_retract: "删除评论", act_retract_all: "删除某观众全部评论",
    act_link: "生成链接", act_redeem: "核销订单",
    state: "状态", state_scheduled: "未开播", state_live: "直播中", state_ended: "已结束", hold_active: "正常", hold_paused: "已暂停", hold_closed: "已结束",
    slow_mode_s: "慢速模式", slowOff: "关闭", seconds: "{n} 秒", comments: "评论", on: "开启", off: "关闭", title: "名称", starts_at: "开播时间",
    stream_url: "直播流", notice: "公告栏",
    stock_display: "库存展示", exact: "显示数量", low: "仅紧张时提示", hidden: "隐藏", stock: "库存", price: "价格",
    until: "至 {time}", fromRoom: "本直播间", fromShop: "全店", ofShop: "{word}（全店）", claimable: "领取至", heldFrom: "{hold}，{time} 开售",
    named: "{name}：", noPlan: "无计划", step: "{time} 起 {price}",
    commentBy: "{name}：{text}", unpinned: "同时取消置顶", order: "订单", source: "来源", guide: "导购", referrer: "推荐人", opensAt: "{time} 开售",
    closesAt: "{time} 结束",
  },
});
