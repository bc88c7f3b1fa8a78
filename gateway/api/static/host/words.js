// The texts of the console's frame, its rooms and its sales.

import { words } from "../ui/words.js";

export const t = words({
  en: {
    console: "Host console",
    // Sign-in
    signIn: "Sign in", signOut: "Sign out", signInAsk: "Open the console by the link from your shop.",
    signInLink: "Paste the link or the token", signInLinkHint: "It starts with https:// or with eyJ…",
    signInTake: "Use it", signInBad: "This is not a host's token.", signInOver: "This token has ended.",
    signInEnded: "Your sign-in has ended; what stands here is no longer current. Open the link from your shop again.",
    devSignIn: "Development sign-in", devSignInWhy: "This gateway lets anybody in by name. A real one does not.",
    devRibbon: "REHEARSAL · development gateway", devRibbonMore: ": anybody signs in by name, payments are a sandbox",
    shop: "Shop", name: "Your name",
    roleWrong: "This link is for the role “{role}”. The console is for hosts.",
    // Header
    rooms: "Rooms", allRooms: "All rooms", watching: "{n} watching", linkOpen: "Connected", linkConnecting: "Connecting…",
    linkWaiting: "Connection lost, reconnecting…", linkClosed: "Not connected", linkAway: "The gateway ended the connection ({code})",
    // Tabs
    tabSales: "Sales", tabComments: "Comments", tabOrders: "Orders", tabFigures: "Figures", tabMore: "More",
    tabCoupons: "Coupons", tabAnnounce: "Announce", tabPickup: "Pickup", tabChat: "Chat", tabActs: "Log", tabReport: "Report",
    panels: "Panels", cancel: "Cancel", typeWord: "Type “{word}” to go on", sure: "Are you sure?",
  },
  zh: {
    console: "主播控制台",
    signIn: "登录", signOut: "退出登录", signInAsk: "请通过店铺提供的链接打开控制台。",
    signInLink: "粘贴链接或令牌", signInLinkHint: "以 https:// 或 eyJ… 开头",
    signInTake: "使用", signInBad: "这不是主播令牌。", signInOver: "令牌已过期。",
    signInEnded: "登录已失效，页面数据不再更新。请从店铺后台重新打开链接。",
    devSignIn: "开发登录", devSignInWhy: "此网关允许任何人凭名字登录，正式网关不会。",
    devRibbon: "彩排 · 开发网关", devRibbonMore: "：任何人可凭名字登录，支付为沙箱",
    shop: "店铺", name: "你的名字",
    roleWrong: "此链接的身份是“{role}”，控制台仅供主播使用。",
    rooms: "直播间", allRooms: "全部直播间", watching: "{n} 人在线", linkOpen: "已连接", linkConnecting: "连接中…",
    linkWaiting: "连接已断开，正在重连…", linkClosed: "未连接", linkAway: "网关已关闭连接（{code}）",
    tabSales: "场次", tabComments: "评论", tabOrders: "订单", tabFigures: "数据", tabMore: "更多",
    tabCoupons: "优惠券", tabAnnounce: "公告", tabPickup: "核销", tabChat: "评论管理", tabActs: "操作记录", tabReport: "报告",
    panels: "面板", cancel: "取消", typeWord: "请输入“{word}”以继续", sure: "确定吗？",
  },
});
