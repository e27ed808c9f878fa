// The connect page: it shows how an account stands, and lets its people connect HubSpot, choose what is sent, and disconnect.
// The token comes with the address or from the page that this one belongs to (connect.js). It is kept in memory alone, but for the way to HubSpot and back in one and the
// same tab. Nothing here uses a cookie.
const { app, language, parents, words } = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const say = (text, value) => text.replace("%s", value);

const address = new URL(location.href);
const given = new URLSearchParams(address.hash.slice(1));
const stash = "connect-" + app;
let token = given.get("token") || address.searchParams.get("token") || unstash();
const host = window.parent === window ? window.opener : window.parent; // the page that this one belongs to; null: there is none
const hostOrigin = parents.includes(given.get("origin")) ? given.get("origin") : "";
if (given.has("origin") && !hostOrigin) console.warn(`connect page: ${given.get("origin")} is none of apps.${app}.portal.parents, and so is not asked for a token`);
const api = new URL(`../../api/v1/apps/${app}/connection?lang=${language}`, location.href);

const leftOf = new URLSearchParams();
if (address.searchParams.has("lang")) leftOf.set("lang", language);
history.replaceState(null, "", location.pathname + (leftOf.size ? "?" + leftOf : "")); // the token is nobody else's

let known; // what the router has told of the account
let link; // to connect by
let linked; // when it was made, by performance.now
let popup; // where HubSpot is open
let polling; // a timer, while it is
let renewal; // a timer for another link

// unstash takes what was left for the way back from HubSpot.
function unstash() {
  try {
    const text = sessionStorage.getItem(stash);
    sessionStorage.removeItem(stash);
    return text || "";
  } catch {
    return ""; // storage is blocked
  }
}

// tell says something to the page that this one belongs to, if that may embed it.
function tell(message) {
  if (host && hostOrigin) host.postMessage({ router: app, ...message }, hostOrigin);
}

let answerToken = () => {};
let asked; // a promise, while the page that this one belongs to is asked for a token

// renew asks the page that this one belongs to for a token, once for all calls that need one. It has none: the token stays empty.
function renew() {
  if (!host || !hostOrigin) return Promise.resolve();
  asked ??= new Promise((resolve) => {
    const timer = setTimeout(resolve, 15000);
    answerToken = (text) => {
      clearTimeout(timer);
      token = text;
      resolve();
    };
    tell({ type: "token" });
  }).finally(() => {
    asked = undefined;
    answerToken = () => {};
  });
  return asked;
}

addEventListener("message", (e) => {
  if (e.source === host && e.origin === hostOrigin && e.data?.router === app) answerToken(String(e.data.token ?? ""));
  else if (e.source && e.source === popup && e.origin === location.origin && e.data?.router === app) ended(e.data);
});

// Trouble is something to be said to people.
class Trouble extends Error {}

// call asks the router; when the token has expired, once more with a fresh one.
async function call(method, body) {
  for (const last of [false, true]) {
    if (!token) await renew();
    if (!token) break;
    const used = token;
    let res;
    try {
      res = await fetch(api, {
        method, cache: "no-store", credentials: "omit",
        headers: { Authorization: "Bearer " + used, ...(body && { "Content-Type": "application/json" }) },
        body: body && JSON.stringify(body),
      });
    } catch {
      throw new Trouble(words.Network);
    }
    if (res.ok) return res.json();
    if (res.status !== 401) throw new Trouble(words.Unavailable);
    if (token === used) token = ""; // else another call has brought a fresh one
    console.warn("connect page:", (await res.json().catch(() => ({}))).error); // is for who signs tokens, not for people
    if (last) break;
  }
  throw new Trouble(words.Gone);
}

// clear takes away what was said of what was done before.
function clear() {
  $("trouble").textContent = $("note").textContent = $("saved").textContent = "";
}

// attempt does something and says what goes wrong.
async function attempt(what) {
  try {
    await what();
    return true;
  } catch (err) {
    if (!(err instanceof Trouble)) console.error(err);
    $("trouble").textContent = err instanceof Trouble ? err.message : words.Unavailable;
    return false;
  }
}

const locale = navigator.languages.find((l) => l.split("-")[0] === language) ?? language;
const date = (text) => new Intl.DateTimeFormat(locale, { dateStyle: "long", timeStyle: "short" }).format(new Date(text));

// named is a hub as people know it.
const named = ({ hub, hub_domain }) => (hub_domain ? `${hub_domain} (${hub})` : hub);

// show puts what is known on the page, and says to the page that this one belongs to what is new.
function show(next) {
  const before = known;
  known = next;
  const on = known.status === "connected";
  const broken = known.status === "reconnect_needed";
  $("status").textContent = on ? say(words.Connected, named(known)) : broken ? words.Broken : words.NotConnected;
  $("status").dataset.state = known.status;
  // Nothing else on a page of its own tells people that a link to it is somebody else's.
  $("whose").textContent = say(words.Whose, known.account);
  $("whose").hidden = !!(host && hostOrigin);
  const problem = on && known.problem && (words.Problems[known.problem] ?? words.Problems.other);
  $("reason").textContent = problem || (known.reason === "uninstalled" ? words.Uninstalled : words.Refused);
  $("reason").hidden = !broken && !problem;
  const facts = [...(broken ? [[words.Hub, named(known)]] : []), [words.Since, known.since && date(known.since)], [words.LastDelivery, known.last_delivery ? date(known.last_delivery) : words.Never], ...(problem ? [[words.Noticed, date(known.problem_at)]] : [])];
  $("facts").replaceChildren(...(on || broken ? facts : []).flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  const anew = broken || (on && known.problem === "permission"); // to be connected again
  $("invitation").hidden = anew;
  $("connect").textContent = anew ? words.Reconnect : words.Connect;
  $("offer").hidden = on && !anew;
  $("choices").hidden = !(on || broken) || !(known.options.length + known.app_events.length);
  boxes("options", known.options);
  boxes("events", known.app_events);
  $("leave").hidden = !(on || broken);
  $("account").hidden = false;
  if (before?.granted !== known.granted) link = undefined; // it is spent
  if (on && (!anew || before?.granted !== known.granted)) stopWaiting();
  if (!$("offer").hidden) prepare();
  const told = ({ status, hub, problem } = {}) => ({ status, hub, problem });
  if (JSON.stringify(told(before)) !== JSON.stringify(told(known))) tell({ type: "change", connection: told(known) });
}

function element(name, text) {
  const e = document.createElement(name);
  e.textContent = text;
  return e;
}

// boxes keeps those that are there: who stands on one stays there.
function boxes(id, list) {
  const set = $(id);
  set.hidden = !list.length;
  const there = new Map([...set.querySelectorAll("input")].map((box) => [box.name, box]));
  for (const { name, label, on } of list) {
    let box = there.get(name);
    if (!box) {
      box = element("input");
      box.type = "checkbox";
      box.name = name;
      box.addEventListener("change", () => choose(id === "options" ? "options" : "app_events", box));
      const line = element("label");
      line.append(box, element("span", label));
      set.append(line);
    }
    box.checked = on;
    there.delete(name);
  }
  for (const box of there.values()) box.closest("label").remove();
}

async function choose(kind, box) {
  clear();
  const on = box.checked;
  const done = await attempt(async () => show(await call("PATCH", { [kind]: { [box.name]: on } })));
  if (done) $("saved").textContent = words.Saved;
  else {
    box.checked = !on;
    look(); // it may be disconnected, in another tab
  }
}

// prepare gets a link before it is needed, since a browser opens a window only right after a click, and another one before that is too old.
async function prepare() {
  clearTimeout(renewal);
  if (document.hidden || $("offer").hidden) return;
  renewal = setTimeout(prepare, 30000);
  await attempt(async () => {
    const { url } = await call("POST", {});
    link = url;
    linked = performance.now();
  });
}

async function connect() {
  clear();
  if (!link || performance.now() - linked > 50000) { // a link is good for a minute at least
    link = undefined;
    await prepare();
    if (!link) return;
  }
  popup = window.open(link, "_blank", "popup,width=900,height=800");
  if (!popup && window.top === window && !host) {
    leave();
    return;
  }
  // No window: it is blocked, or the page that embeds this one has cut it off (Cross-Origin-Opener-Policy) and it is open all the same.
  $("link").href = link;
  $("blocked").hidden = !!popup;
  if (!popup) $("link").focus();
  wait();
}

// leave goes to HubSpot in this tab, and comes back.
async function leave() {
  await attempt(async () => {
    const { url } = await call("POST", { return_url: location.origin + location.pathname + location.search });
    try {
      sessionStorage.setItem(stash, token);
    } catch {
      // Without storage people come back to a page that asks them to open it anew.
    }
    location.assign(url);
  });
}

// wait asks again and again how the account stands: a window that HubSpot's pages have cut off from this one can not tell.
function wait() {
  clearInterval(polling);
  $("status").textContent = words.Waiting;
  const until = Date.now() + 15 * 60000;
  let open = !!popup;
  let asking = false;
  polling = setInterval(async () => {
    if (asking) return;
    asking = true;
    const closed = open && popup.closed;
    await look();
    if (closed && polling) { // or cut off: that looks the same
      open = false;
      show(known);
    }
    if (Date.now() > until) stopWaiting();
    asking = false;
  }, 2000);
}

function stopWaiting() {
  clearInterval(polling);
  polling = undefined;
  $("blocked").hidden = true;
}

// look shows the account if it is not as it was. What goes wrong for a while is not said: nobody has asked.
async function look() {
  let next;
  try {
    next = await call("GET");
  } catch (err) {
    if (err.message === words.Gone) {
      stopWaiting();
      $("trouble").textContent = words.Gone;
    }
    return;
  }
  if (JSON.stringify(next) !== JSON.stringify(known)) arrive(next);
}

// arrive shows the account. Whoever stood on what is gone now goes to its heading.
function arrive(next) {
  show(next);
  if (document.activeElement === document.body || !document.activeElement.checkVisibility()) $("connection").focus();
}

// ended is told by the window that came back from HubSpot.
async function ended({ outcome, detail }) {
  popup.close();
  popup = undefined;
  stopWaiting();
  let next;
  if (await attempt(async () => { next = await call("GET"); })) arrive(next);
  tellOutcome(outcome, detail);
}

function tellOutcome(outcome, detail) {
  if (outcome === "connected") return;
  $("trouble").textContent = (words.Outcomes[outcome] ?? words.Outcomes.other) + (detail ? " " + detail : "");
  $("connect").focus();
}

async function disconnect() {
  clear();
  $("disconnect").disabled = true;
  let gone;
  const done = await attempt(async () => {
    gone = await call("DELETE");
    show(await call("GET"));
  });
  $("disconnect").disabled = false;
  if (!done) {
    look();
    return;
  }
  $("note").textContent = gone.revoked ? words.Disconnected : words.NotRevoked;
  $("connect").focus();
}

async function begin() {
  clear();
  $("status").textContent = words.Loading;
  $("retry").hidden = true;
  const done = await attempt(async () => show(await call("GET")));
  if (!done) {
    $("status").textContent = "";
    delete $("status").dataset.state;
    $("retry").hidden = !token && !hostOrigin; // nobody has another one
  } else if (address.searchParams.has("connection")) {
    tellOutcome(address.searchParams.get("connection"));
  }
}

$("connect").addEventListener("click", connect);
$("link").addEventListener("click", wait);
$("retry").addEventListener("click", begin);
$("disconnect").addEventListener("click", () => $("confirm").showModal());
$("confirm").addEventListener("close", () => {
  if ($("confirm").returnValue === "yes") disconnect();
  $("confirm").returnValue = "no"; // what the key Escape leaves
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden || !known) return;
  prepare();
  if (!polling) look();
});
if (host && hostOrigin) {
  new ResizeObserver(() => tell({ type: "height", height: document.body.offsetHeight })).observe(document.body);
  $("close").hidden = false;
  $("close").addEventListener("click", () => tell({ type: "close" }));
  addEventListener("keydown", (e) => {
    if (e.key === "Escape" && !$("confirm").open && !e.defaultPrevented) tell({ type: "close" });
  });
}
begin();
