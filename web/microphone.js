// The person's microphone: asking for it, naming the choices, and saying why there is none.

import { Failure } from "./failures.js";

/** Why no microphone can be had on this page at all, or null. */
export function obstacle() {
  if (!isSecureContext) return new Failure("insecure_origin", { origin: location.origin });
  if (!navigator.mediaDevices?.getUserMedia || !globalThis.RTCPeerConnection) return new Failure("browser_unsupported");
  return null;
}

/** Open a microphone ("" is the browser's default) and return its track. Throws Failure. */
export async function openMicrophone(deviceId) {
  try {
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: {
        deviceId: deviceId === "" ? undefined : { exact: deviceId },
        echoCancellation: true,
        noiseSuppression: true,
        autoGainControl: true,
      },
    });
    return stream.getAudioTracks()[0];
  } catch (error) {
    throw await failureOf(error);
  }
}

/** The microphones as `{deviceId, label}`; unnamed ones (no permission yet) are left out. */
export async function microphones() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter(({ kind, deviceId }) => kind === "audioinput" && deviceId !== "" && deviceId !== "default");
}

// The names are those of Media Capture and Streams §10.2 (getUserMedia algorithm).
async function failureOf(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return new Failure("microphone_refused", { blocked: await isBlocked() });
    case "NotFoundError":
    case "OverconstrainedError":
      return new Failure("microphone_missing");
    case "NotReadableError":
    case "AbortError":
      return new Failure("microphone_busy");
    default:
      return new Failure("unexpected", { message: error.message });
  }
}

/** Whether the microphone opens without a question. */
export async function microphoneGranted() {
  try {
    return (await navigator.permissions.query({ name: "microphone" })).state === "granted";
  } catch {
    return false; // a browser that does not tell: the person decides
  }
}

// A dismissed question can be asked again; a stored "no" cannot.
async function isBlocked() {
  try {
    return (await navigator.permissions.query({ name: "microphone" })).state === "denied";
  } catch {
    return true; // a browser that does not tell: the words for a stored "no" help in both cases
  }
}
