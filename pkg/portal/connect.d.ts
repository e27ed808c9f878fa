/** Types of connect.js, which sets `window.router`. It keeps nothing in the browser, and sends no cookies. */

/** A JSON Web Token that your server has signed, with the account as `sub`; or a function that gives a fresh one. It is called again when the one before has expired. */
export type Token = string | (() => string | Promise<string>);

export interface ConnectOptions {
  /** The app, as the router's configuration names it. */
  app: string;
  token: Token;
  /** Is told how the account stands, when the page is shown and whenever that changes. */
  onChange?: (connection: Connection) => void;
  /** In a dialog of this page (the default), or in a window. A window that the browser blocks is a dialog. */
  mode?: "modal" | "popup";
  /** The page's language; default: the browser's. */
  lang?: "en" | "de";
}

export interface Connection {
  status: "connected" | "reconnect_needed" | "not_connected";
  /** The HubSpot account; "" if there is none. */
  hub: string;
  /** What keeps events from HubSpot while it is connected; "" if nothing does. `refused`: an event was not taken, in the last day. */
  problem: "" | "permission" | "limit" | "unavailable" | "refused" | "other";
}

export interface Handle {
  /** Takes the page away. What its reader has done stays done. */
  close(): void;
}

export interface EventOptions {
  app: string;
  token: Token;
  /** The event, as `app_events` names it. */
  name: string;
  payload: object;
}

/** Why an event was not taken. */
export interface EventError extends Error {
  /** Of the answer, such as 400, 401, 429 or 503. */
  status: number;
  /** What is not as the app's events have it; empty if that is not the reason. */
  violations: Violation[];
}

export interface Violation {
  /** Where: a JSON Pointer, such as /payload/email. */
  path: string;
  /** The end of a sentence, such as "is missing". */
  problem: string;
}

export interface Router {
  /** Opens the page where an account is connected to HubSpot. Call it from a click, so that the browser allows a window. */
  connect(options: ConnectOptions): Handle;
  /** Posts an event of the account. Rejects with an EventError if the router does not take it, with a TypeError if it can not be reached. */
  event(options: EventOptions): Promise<unknown>;
}

declare global {
  const router: Router;
  interface Window {
    router: Router;
  }
}
