// A client that knows only the wire: it opens a session, restarts ICE, and comes back after a reload.
(() => {
  let peer = null;
  let channel = null;
  window.events = [];

  async function post(location, key) {
    await peer.setLocalDescription(await peer.createOffer());
    const answer = await fetch(location, {
      method: "POST",
      body: peer.localDescription.sdp,
      headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/sdp" },
    });
    const sdp = await answer.text();
    if (answer.ok) await peer.setRemoteDescription({ type: "answer", sdp });
    return { status: answer.status, sdp, location: answer.headers.get("Location") };
  }

  function opened() {
    return new Promise((resolve) => channel.addEventListener("open", resolve, { once: true }));
  }

  // Without a location this opens a session, with one it takes the session over; both are kept for after a reload.
  window.talk = async (key, location) => {
    peer = new RTCPeerConnection();
    const audio = document.createElement("audio");
    audio.autoplay = true;
    peer.ontrack = (event) => {
      audio.srcObject = event.streams[0];
    };
    const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
    peer.addTrack(microphone.getAudioTracks()[0], microphone);
    channel = peer.createDataChannel("oai-events");
    channel.addEventListener("message", (message) => events.push(JSON.parse(message.data)));
    const open = opened();
    const { status, location: made } = await post(location ?? "/v1/realtime/calls", key);
    if (status >= 300) return status;
    sessionStorage.setItem("session", JSON.stringify({ key, location: location ?? made }));
    await open;
    return status;
  };

  window.comeBack = async () => {
    const { key, location } = JSON.parse(sessionStorage.getItem("session"));
    return talk(key, location);
  };

  window.restart = async () => {
    const { key, location } = JSON.parse(sessionStorage.getItem("session"));
    peer.restartIce();
    return post(location, key);
  };

  window.hangUp = async () => {
    const { key, location } = JSON.parse(sessionStorage.getItem("session"));
    const answer = await fetch(`${location}/hangup`, { method: "POST", headers: { Authorization: `Bearer ${key}` } });
    return answer.status;
  };

  // How long the session takes to answer an event, in milliseconds.
  window.ask = () =>
    new Promise((resolve) => {
      const began = performance.now();
      const answered = (message) => {
        if (JSON.parse(message.data).type !== "input_audio_buffer.cleared") return;
        channel.removeEventListener("message", answered);
        resolve(performance.now() - began);
      };
      channel.addEventListener("message", answered);
      channel.send(JSON.stringify({ type: "input_audio_buffer.clear" }));
    });

  window.figures = async () => {
    const found = { state: peer.connectionState };
    for (const each of (await peer.getStats()).values()) {
      if (each.type === "inbound-rtp") {
        found.received = each.packetsReceived;
        found.lost = each.packetsLost;
      }
      if (each.type === "transport") {
        found.dtls = each.dtlsState;
        found.ufrag = each.iceLocalUsernameFragment;
        found.pairs = each.selectedCandidatePairChanges;
        found.certificate = each.localCertificateId;
      }
    }
    return found;
  };
})();
