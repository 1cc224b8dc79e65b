// A page's call to the relay, as small as it can be: window.call holds the only one.
window.call = {
  peer: null, channel: null, key: "", location: "", events: [], states: [], stream: null,

  async start(clientKey, configuration = {}) {
    const minted = await fetch("/v1/realtime/client_secrets", {
      method: "POST",
      headers: { Authorization: `Bearer ${clientKey}`, "Content-Type": "application/json" },
      body: JSON.stringify({ session: { type: "realtime", model: "gpt-realtime" } }),
    });
    if (!minted.ok) throw new Error(`mint: ${minted.status} ${await minted.text()}`);
    this.key = (await minted.json()).value;
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    await this.join("/v1/realtime/calls", configuration);
  },

  // After a reload of the page: the session that `key` opened is taken over.
  async resume(key, location) {
    this.key = key;
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    await this.join(location);
  },

  // A new peer connection, offered to `path`: the first one, or one that takes the session over.
  async join(path, configuration = {}) {
    const peer = new RTCPeerConnection(configuration);
    this.peer = peer;
    peer.onconnectionstatechange = () => this.states.push([performance.now(), peer.connectionState]);
    peer.ontrack = (event) => {
      const audio = document.createElement("audio");
      audio.autoplay = true;
      audio.srcObject = event.streams[0];
      document.body.append(audio);
    };
    peer.addTrack(this.stream.getAudioTracks()[0], this.stream);
    this.channel = peer.createDataChannel("oai-events");
    this.channel.onmessage = (message) => this.events.push(JSON.parse(message.data));
    await peer.setLocalDescription();
    await this.offer(path);
  },

  // Same peer connection, new ICE credentials, offered to the session's own address.
  async restart() {
    this.peer.restartIce();
    await this.peer.setLocalDescription();
    await this.offer(this.location);
  },

  async offer(path) {
    const request = {
      method: "POST",
      headers: { Authorization: `Bearer ${this.key}`, "Content-Type": "application/sdp" },
      body: this.peer.localDescription.sdp,
    };
    // A change of network cuts off requests that are under way; the same offer may be posted again.
    const response = await fetch(path, request).catch(() => fetch(path, request));
    const text = await response.text();
    if (!response.ok) throw new Error(`offer to ${path}: ${response.status} ${text}`);
    this.location = response.headers.get("Location") ?? path;
    await this.peer.setRemoteDescription({ type: "answer", sdp: text });
  },

  send(event) {
    this.channel.send(JSON.stringify(event));
  },

  async stats() {
    const report = [...(await this.peer.getStats()).values()];
    const transport = report.find((each) => each.type === "transport");
    const pair = report.find((each) => each.id === transport?.selectedCandidatePairId);
    return {
      state: this.peer.connectionState,
      channel: this.channel.readyState,
      inbound: report.find((each) => each.type === "inbound-rtp") ?? null,
      outbound: report.find((each) => each.type === "outbound-rtp") ?? null,
      pair: pair ?? null,
      local: report.find((each) => each.id === pair?.localCandidateId) ?? null,
      remote: report.find((each) => each.id === pair?.remoteCandidateId) ?? null,
    };
  },
};
