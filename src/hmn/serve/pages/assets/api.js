// Talks to the server.

const KEPT = "hmn-token";

/** Begins relations that the table made itself; they follow their own ones. */
export const INVERSE = "~";

/** What went wrong, in the server's words. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Keep a token until the browser's tab is closed. */
export function keepToken(token) {
  if (token) sessionStorage.setItem(KEPT, token);
  else sessionStorage.removeItem(KEPT);
}

export const hasToken = () => sessionStorage.getItem(KEPT) !== null;

/** Letters as bytes of UTF-8, since browsers refuse others in a header. */
const bytes = (text) => String.fromCharCode(...new TextEncoder().encode(text));

/** Send a request; returns the JSON of the response. */
export async function send(method, path, body, signal) {
  const headers = {};
  const token = sessionStorage.getItem(KEPT);
  if (token) headers.Authorization = `Bearer ${bytes(token)}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer. See whether it still runs.", 0);
  }
  const found = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(found.detail ?? `The server answered with ${response.status}.`, response.status);
  return found;
}

/** Whether the server wants another token. */
export const wantsToken = (error) => error.status === 401;

/** Facts that fit what is wanted, a page of them. */
export function facts(wanted) {
  const given = Object.entries(wanted).filter(([, value]) => value !== undefined && value !== "");
  return send("GET", `/v1/facts?${new URLSearchParams(given)}`);
}
