// Where an SDP answer says media must go (RFC 8839 §5.1).

const MOST_TARGETS = 4;

/** The `address:port` of the candidates of one transport, `udp` or `tcp`; at most four. */
export function targetsOf(sdp, transport) {
  const found = [...sdp.matchAll(/^a=candidate:\S+ 1 (\S+) \d+ (\S+) (\d+) /gim)]
    .filter(([, carrier]) => carrier.toLowerCase() === transport)
    .map(([, , address, port]) => (address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`));
  return [...new Set(found)].slice(0, MOST_TARGETS);
}

/** The same answer with the candidates of one transport only. */
export function withOnly(sdp, transport) {
  return sdp.replace(/^a=candidate:\S+ \d+ (\S+) .*(?:\r\n|\n)/gim, (line, carrier) =>
    carrier.toLowerCase() === transport ? line : "",
  );
}
