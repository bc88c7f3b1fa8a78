// Hearts: the button with its number, the double tap on the stage, and the few that rise from either.

import { html, useEffect, useRef, Icon } from "../ui/ui.js";
import { compact } from "../ui/format.js";
import { isCalm } from "./moving.js";
import { t } from "./words.js";

const MOST_HEARTS = 16, RISE_MS = 1_100, RISE_PX = 150;
const TAP_AGAIN_WITHIN_MS = 320, TAP_NEAR_PX = 48;
const PATH = "M12 20s-7-4.6-9-9c-1.5-3.4.6-7 4-7 2.2 0 3.9 1.3 5 3 1.1-1.7 2.8-3 5-3 3.4 0 5.5 3.6 4 7-2 4.4-9 9-9 9z";
const SVG = "http://www.w3.org/2000/svg";

export function LikeButton({ show }) {
  const button = useRef(null), n = show.likes.value, shown = compact(n);
  const like = () => {
    show.like();
    const { left, top, width } = button.current.getBoundingClientRect();
    rise(left + width / 2, top);
  };
  return html`<button ref=${button} class="button glass like" type="button" aria-label=${`${t("like")} · ${t("likes", { n: shown })}`}
      onClick=${like}>
    <${Icon} name="heart" /><span class="number" aria-hidden="true">${shown}</span>
  </button>`;
}

/** Two taps at one place are a like, and so is each further one. */
export function useDoubleTap(element, show) {
  useEffect(() => {
    const stage = element.current;
    let last = { at: 0, x: 0, y: 0 };
    const tapped = (event) => {
      if (event.target.closest("button, a, input, label, form")) return;
      const at = event.timeStamp, { clientX: x, clientY: y } = event;
      if (at - last.at < TAP_AGAIN_WITHIN_MS && Math.hypot(x - last.x, y - last.y) < TAP_NEAR_PX) {
        show.like();
        rise(x, y);
      }
      last = { at, x, y };
    };
    stage.addEventListener("click", tapped);
    return () => stage.removeEventListener("click", tapped);
  }, [show]);
}

let layer = null, hearts = 0;

function rise(x, y) {
  if (isCalm.peek() || hearts >= MOST_HEARTS) return;
  if (!layer) {
    layer = document.createElement("div");
    layer.className = "hearts";
    layer.setAttribute("aria-hidden", "true");
    document.body.append(layer);
  }
  const heart = document.createElementNS(SVG, "svg"), path = document.createElementNS(SVG, "path");
  heart.setAttribute("viewBox", "0 0 24 24");
  heart.setAttribute("class", `heart hue-${Math.floor(Math.random() * 4)}`);
  path.setAttribute("d", PATH);
  heart.append(path);
  layer.append(heart);
  hearts += 1;
  const aside = (Math.random() - 0.5) * 80, turn = (Math.random() - 0.5) * 50;
  const at = (dx, dy, scale, turned) => `translate3d(${x - 16 + dx}px, ${y - 16 + dy}px, 0) scale(${scale}) rotate(${turned}deg)`;
  heart.animate([
    { transform: at(0, 0, 0.3, 0), opacity: 0 },
    { transform: at(aside * 0.2, -RISE_PX * 0.2, 1.1, turn * 0.3), opacity: 1, offset: 0.2 },
    { transform: at(aside, -RISE_PX, 0.9, turn), opacity: 0 },
  ], { duration: RISE_MS, easing: "ease-out" }).onfinish = () => {
    hearts -= 1;
    heart.remove();
  };
}
