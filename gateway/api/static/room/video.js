// The stream on the stage: silent until somebody wants it otherwise, calm about what goes wrong.

import { html, useEffect, useRef, useSignal, Icon } from "../ui/ui.js";
import { playStream } from "./player.js";
import { t } from "./words.js";

const LOOK_AGAIN_MS = 5_000;

export function Video({ show, url, seen }) {
  const video = useRef(null), player = useRef(null), state = useSignal("loading"), muted = useSignal(true), shape = useSignal("wide");
  useEffect(() => {
    let askedAt = 0;
    // Preact sets `muted` too late for a browser that plays only what is silent.
    video.current.muted = true;
    const failed = () => {
      // Perhaps the host moved it: no frame tells.
      if (Date.now() - askedAt < LOOK_AGAIN_MS) return;
      askedAt = Date.now();
      show.refreshRoom().catch(() => {});
    };
    player.current = playStream(video.current, url, (told) => {
      state.value = told;
      if (told === "playing") seen.value = url;
    }, { failed });
    return () => player.current.stop();
  }, [url]);
  const setMuted = (silent) => {
    muted.value = silent;
    video.current.muted = silent;
    if (!silent) player.current.play();
  };
  const measure = () => { shape.value = video.current.videoHeight > video.current.videoWidth ? "tall" : "wide"; };
  const standing = state.value, isShown = standing === "playing" || standing === "paused";
  const isPlaying = standing === "playing", press = () => (isPlaying ? player.current.pause() : player.current.play());
  return html`<video ref=${video} class=${`stage-video ${shape.value}`} playsinline autoplay aria-label=${show.room.value?.title ?? ""}
      onLoadedMetadata=${measure}></video>
    ${standing === "moved" && html`<div class="stage-note" role="status"><p>${t("moved")}</p>
      <button class="button" type="button" onClick=${() => location.reload()}>${t("reload")}</button></div>`}
    ${["loading", "trouble", "unsupported"].includes(standing) && html`<p class="stage-note" role="status">${t(standing)}</p>`}
    <div class="stage-tools">
      ${isShown && html`<button class="button round glass" type="button" onClick=${press}
          aria-label=${t(isPlaying ? "pauseVideo" : "playVideo")}>
        <${Icon} name=${isPlaying ? "pause" : "play"} /></button>
      <button class=${`button glass ${muted.value ? "" : "round"}`} type="button" onClick=${() => setMuted(!muted.value)}
          aria-label=${t(muted.value ? "soundOn" : "soundOff")}>
        <${Icon} name=${muted.value ? "mute" : "sound"} />
        ${muted.value && html`<span>${t("tapForSound")}</span>`}</button>`}
    </div>`;
}
