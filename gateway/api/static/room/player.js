// The stream in a video element: by the browser itself where it can, else by hls.js, which is loaded only then. What fails is
// tried again for as long as somebody watches; a browser that says it can and twice cannot is helped as well.

const FIRST_WAIT_MS = 1_000, LAST_WAIT_MS = 30_000, STEADY_AFTER_MS = 10_000, BEHIND_S = 15, NATIVE_TRIES = 2, STALLED_AFTER_MS = 12_000;
const HLS = "application/vnd.apple.mpegurl";

const isHls = (url) => { try { return new URL(url, location.href).pathname.toLowerCase().endsWith(".m3u8"); } catch { return false; } };

/**
 * Plays `url` until `stop`. `tell` hears where it stands: `loading`, `playing`, `paused` (by hand, or since the browser plays
 * nothing by itself), `trouble` (tried again), `unsupported` or `moved` (the page's policy knows another place).
 */
export function playStream(video, url, tell, { failed = () => {} } = {}) {
  let hls = null, over = false, tries = 0, timer = null, stalled = null, playingSince = 0, wanted = true, cannot = 0;
  const listeners = [];
  const listen = (target, name, listener) => {
    target.addEventListener(name, listener);
    listeners.push(() => target.removeEventListener(name, listener));
  };

  const start = () => video.play().catch((error) => { if (!over && error?.name === "NotAllowedError") tell("paused"); });

  function again() {
    if (over) return;
    if (playingSince && Date.now() - playingSince > STEADY_AFTER_MS) tries = 0;
    playingSince = 0;
    clearTimeout(timer);
    clearTimeout(stalled);
    tell("trouble");
    failed();
    timer = setTimeout(load, Math.min(LAST_WAIT_MS, FIRST_WAIT_MS * 2 ** tries++) * (0.5 + Math.random() / 2));
  }

  async function load() {
    hls?.destroy();
    hls = null;
    if (!isHls(url) || (video.canPlayType(HLS) && cannot < NATIVE_TRIES)) {
      video.src = url;
      return void start();
    }
    let Hls;
    try { Hls = (await import("hls")).default; } catch { return again(); }
    if (over) return;
    if (!Hls.isSupported()) {
      if (!video.canPlayType(HLS)) return tell("unsupported");
      cannot = 0; // it is the stream's fault, then
      return again();
    }
    // The policy lets no worker in but files of ours; what was shown is kept for half a minute only.
    hls = new Hls({ enableWorker: false, backBufferLength: 30, maxBufferLength: 20 });
    let mended = false;
    hls.on(Hls.Events.ERROR, (_, error) => {
      if (!error.fatal || over) return;
      if (error.type === Hls.ErrorTypes.MEDIA_ERROR && !mended) {
        mended = true;
        hls.recoverMediaError();
      } else again();
    });
    hls.on(Hls.Events.MANIFEST_PARSED, start);
    hls.loadSource(url);
    hls.attachMedia(video);
  }

  listen(video, "playing", () => {
    playingSince ||= Date.now();
    wanted = true;
    clearTimeout(stalled);
    tell("playing");
  });
  listen(video, "pause", () => { if (!video.ended && !video.error) tell("paused"); });
  listen(video, "waiting", () => {
    if (!playingSince) return;
    tell("loading");
    clearTimeout(stalled);
    stalled = setTimeout(again, STALLED_AFTER_MS);
  });
  listen(video, "error", () => {
    if (hls) return;
    if (!playingSince) cannot += 1;
    again();
  });
  listen(video, "ended", again);
  listen(document, "visibilitychange", () => { if (!document.hidden && wanted) catchUp(); });
  listen(document, "securitypolicyviolation", (event) => {
    if (!/^(media|connect)-src/.test(event.effectiveDirective) || !event.blockedURI.startsWith(new URL(url, location.href).origin)) return;
    stop();
    tell("moved");
  });

  /** A page that was hidden goes on where the show is, not where it was. */
  function catchUp() {
    const { seekable } = video;
    const edge = hls?.liveSyncPosition ?? (seekable.length && video.duration === Infinity ? seekable.end(seekable.length - 1) : null);
    if (edge && edge - video.currentTime > BEHIND_S) video.currentTime = edge;
    if (video.paused) start();
  }

  function stop() {
    over = true;
    clearTimeout(timer);
    clearTimeout(stalled);
    for (const remove of listeners) remove();
    hls?.destroy();
    video.removeAttribute("src");
    video.load();
  }

  tell("loading");
  load();
  return {
    stop,
    pause() { wanted = false; video.pause(); },
    play() { wanted = true; catchUp(); },
  };
}
