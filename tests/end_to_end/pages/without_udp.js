// A browser that is told none of the relay's UDP candidates, and keeps its peer connections in `window.peers`.
window.peers = [];
const Stock = RTCPeerConnection;
window.RTCPeerConnection = class extends Stock {
  constructor(...options) {
    super(...options);
    window.peers.push(this);
  }
  setRemoteDescription({ type, sdp }) {
    return super.setRemoteDescription({ type, sdp: sdp.replace(/^a=candidate:\S+ \d+ udp .*\r\n/gm, "") });
  }
};
window.pathInUse = async () => {
  const stats = [...(await window.peers[0].getStats()).values()];
  const { selectedCandidatePairId } = stats.find(({ type }) => type === "transport");
  const pair = stats.find(({ id }) => id === selectedCandidatePairId);
  const local = stats.find(({ id }) => id === pair.localCandidateId);
  const remote = stats.find(({ id }) => id === pair.remoteCandidateId);
  // Not its state: it is in progress again whenever consent is asked for.
  return { local: local.protocol, remote: remote.protocol, port: remote.port };
};
