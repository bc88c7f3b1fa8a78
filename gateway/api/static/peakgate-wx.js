// For WeChat mini-programs: `new Room({ url, token, ...forWeChat(wx) })`, then `wakeOnShow(wx, room)`.
//
// Text frames only, so no TextDecoder is needed, which many devices lack. A mini-program has few sockets (five at most): keep
// one a room. WeChat cuts what an app has open some five seconds after it went to the background, without a word; coming back
// is then the room's own work, by tick and by key.

/** How `Room` opens a socket and keeps keys inside a mini-program. */
export function forWeChat(wx) {
  return {
    connect(url) {
      const task = wx.connectSocket({ url, protocols: ["peakgate.v1.json"], tcpNoDelay: true });
      const socket = {
        onopen: null,
        onmessage: null,
        onclose: null,
        onerror: null,
        send: (data) => task.send({ data }),
        close: (code = 1000) => task.close({ code }),
      };
      let over = false;
      const closed = (code) => {
        if (over) return;
        over = true;
        socket.onclose?.({ code });
      };
      task.onOpen(() => socket.onopen?.());
      task.onMessage(({ data }) => socket.onmessage?.({ data }));
      task.onClose((event) => closed(event?.code ?? 1006));
      // A socket that could not be opened is told of as an error alone.
      task.onError(() => closed(1006));
      return socket;
    },
    storage: {
      getItem: (name) => wx.getStorageSync(name) || null,
      setItem: (name, value) => wx.setStorageSync(name, value),
    },
  };
}

/** Looks after the room's socket whenever the mini-program is seen again. Returns what ends that. */
export function wakeOnShow(wx, room) {
  const shown = () => room.wake();
  wx.onAppShow(shown);
  return () => wx.offAppShow(shown);
}
