// Signing in: an admin key typed in, or OpenID Connect's authorization code flow with PKCE (RFC 7636) as a public client.

import { credential, request, sendable, Unreachable } from "./api.js";
import { field, h, setText } from "./dom.js";
import { failureText } from "./failures.js";
import { texts } from "./texts.js";

const FLOW = "relay.console.flow";
const RANDOM_BYTES = 32;

const redirectUri = () => new URL("./", location.href.split(/[?#]/, 1)[0]).href;

const base64url = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

const random = () => base64url(crypto.getRandomValues(new Uint8Array(RANDOM_BYTES)));

/** Something about the sign-in that a person must read; the message is for them. */
class SignInFailed extends Error {}

/** The code challenge of a verifier (RFC 7636 section 4.2). */
export async function challengeOf(verifier) {
  return base64url(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier)));
}

/** The payload of a JWT, unverified: the relay verifies it, this page only compares its nonce. */
function payloadOf(token) {
  const part = token.split(".")[1] ?? "";
  const bytes = Uint8Array.from(atob(part.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}

async function leaveForProvider(oidc) {
  const flow = { state: random(), nonce: random(), verifier: random(), back: location.hash };
  sessionStorage.setItem(FLOW, JSON.stringify(flow));
  const address = new URL(oidc.authorization_endpoint);
  const query = {
    response_type: "code",
    client_id: oidc.client_id,
    redirect_uri: redirectUri(),
    scope: oidc.scope ?? "openid profile",
    state: flow.state,
    nonce: flow.nonce,
    code_challenge: await challengeOf(flow.verifier),
    code_challenge_method: "S256",
  };
  for (const [name, value] of Object.entries(query)) address.searchParams.set(name, value);
  location.assign(address);
}

async function tokenFor(code, flow, oidc) {
  const form = new URLSearchParams({
    grant_type: "authorization_code",
    client_id: oidc.client_id,
    code,
    redirect_uri: redirectUri(),
    code_verifier: flow.verifier,
  });
  const answer = await fetch(oidc.token_endpoint, { method: "POST", body: form, credentials: "omit" }).catch(() => null);
  const body = await answer?.json().catch(() => null);
  if (!answer?.ok || typeof body?.id_token !== "string") throw new SignInFailed(texts.signIn.providerRefused);
  if (payloadOf(body.id_token).nonce !== flow.nonce) throw new SignInFailed(texts.signIn.flowMismatch);
  return body.id_token;
}

/** Take up what the provider sent us back with; true if this was such a return. Raises what a person must read. */
export async function finishReturn() {
  const query = new URLSearchParams(location.search);
  if (!query.has("code") && !query.has("error")) return false;
  const flow = JSON.parse(sessionStorage.getItem(FLOW) ?? "null");
  sessionStorage.removeItem(FLOW);
  history.replaceState(null, "", `${location.pathname}${flow?.back ?? ""}`);
  if (flow === null || query.get("state") !== flow.state) throw new SignInFailed(texts.signIn.flowMismatch);
  if (query.has("error")) throw new SignInFailed(texts.signIn.providerSaid(query.get("error")));
  const { oidc } = (await request("GET", "/sign-in", { anonymous: true })).body;
  // Whoever mixes up providers is caught by the issuer (RFC 9207).
  if (!oidc || (query.has("iss") && query.get("iss") !== oidc.issuer)) throw new SignInFailed(texts.signIn.flowMismatch);
  credential.keep(await tokenFor(query.get("code"), flow, oidc));
  return true;
}

/** What to show for anything that went wrong on the way in. */
export function signInText(error) {
  if (error instanceof SignInFailed) return error.message;
  if (error.status === 401) return texts.signIn.refused;
  return failureText(error);
}

/** Show the sign-in page; `done(me)` when somebody is in. `why`: what ended the sign-in before. */
export async function showSignIn(place, why, done) {
  const failure = h("p", { id: "sign-in-failure", class: "notice", role: "alert", data: { tone: "bad" }, hidden: !why }, why);
  const key = h("input", { type: "password", id: "key", autocomplete: "off", autocapitalize: "none", spellcheck: "false" });
  const enter = h("button", { type: "submit", class: "primary" }, texts.signIn.enter);
  const provider = h("div", { class: "provider", hidden: true });
  const form = h("form", { novalidate: true, autocomplete: "off", on: { submit: tryKey } }, field(texts.signIn.key, key, texts.signIn.keyHint), enter);

  function fail(text) {
    failure.hidden = false;
    setText(failure, text);
    key.setAttribute("aria-invalid", "true");
    key.focus();
  }

  async function tryKey(event) {
    event.preventDefault();
    const value = key.value.trim();
    if (value === "") return fail(texts.signIn.missing);
    if (!sendable(value)) return fail(texts.signIn.refused);
    enter.disabled = true;
    try {
      const { body } = await request("GET", "/me", { key: value });
      credential.keep(value);
      key.value = "";
      return done(body);
    } catch (error) {
      return fail(signInText(error));
    } finally {
      enter.disabled = false;
    }
  }

  place.replaceChildren(
    h("div", { class: "card sign-in-card" },
      h("h1", {}, h("span", { class: "mark", "aria-hidden": "true" }), texts.shell.title),
      h("p", { class: "soft" }, texts.signIn.lead), failure, provider, form),
  );
  if (!why) key.focus();
  await offerProvider(provider, fail);
}

async function offerProvider(place, fail) {
  const answer = await request("GET", "/sign-in", { anonymous: true }).catch((error) => {
    if (!(error instanceof Unreachable)) return null;
    fail(signInText(error));
    return null;
  });
  const oidc = answer?.body?.oidc;
  if (!oidc) return;
  const go = () => leaveForProvider(oidc).catch((error) => fail(signInText(error)));
  place.replaceChildren(
    globalThis.isSecureContext
      ? h("button", { type: "button", id: "provider", class: "primary", on: { click: go } }, texts.signIn.provider(new URL(oidc.issuer).host))
      : h("p", { class: "hint" }, texts.signIn.insecure),
    h("p", { class: "or" }, texts.signIn.or),
  );
  place.hidden = false;
}
