// People in Firefox, by WebDriver BiDi, who connect their HubSpot accounts on the connect page: connect.mjs FIREFOX SITE
import puppeteer from "puppeteer-core";

const [executablePath, site] = process.argv.slice(2);
const browser = await puppeteer.launch({ browser: "firefox", executablePath, headless: true });
const said = [];

// until waits for what f gives; while a page loads it may fail.
async function until(what, f) {
  for (const end = Date.now() + 30000; ;) {
    const got = await f().catch(() => undefined);
    if (got) return got;
    if (Date.now() > end) throw new Error(`no ${what} after 30 seconds`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const text = (frame, selector) => frame.$eval(selector, (e) => e.textContent);
const is = (frame, selector, want) => until(`${want} in ${selector}`, async () => (await text(frame, selector)).includes(want));
const press = (frame, selector) => frame.$eval(selector, (e) => e.click()); // where it does not matter that a person does
const changes = (page) => page.evaluate(() => changes);

// opened is the window that opens when something is done.
async function opened(act) {
  const before = new Set(await browser.pages());
  await act();
  return until("window", async () => (await browser.pages()).find((p) => !before.has(p)));
}

async function consent(window, hub, answer) {
  await until("consent page", async () => (await window.$("select")) && window.url().includes("oauth/authorize"));
  await window.select("select", hub);
  await window.evaluate((answer) => [...document.querySelectorAll("button")].find((b) => b.textContent.includes(answer)).click(), answer);
  await until("end of HubSpot's window", async () => !(await browser.pages()).includes(window));
}

async function visit(query) {
  const page = await browser.newPage();
  page.on("pageerror", (e) => e.message.includes("favicon.ico") || said.push(e.message)); // of the site itself, which has none
  await page.goto(`${site}/?${query}`);
  return page;
}

// framed: in the dialog of another site's page, connected, chosen, disconnected and closed.
async function framed(seen) {
  const page = await visit("account=a1");
  await page.click("#hubspot");
  const frame = await until("frame", async () => page.frames().find((f) => f.url().includes("/portal")));
  await is(frame, "#status", "Not connected to HubSpot");
  await is(frame, "#connect", "Connect HubSpot");
  await consent(await opened(() => frame.click("#connect")), "1001", "Connect app");
  await is(frame, "#status", "Connected to HubSpot account hub-1001.example (1001)");
  seen.focus = await frame.evaluate(() => document.activeElement.id);
  await frame.click("input[type=checkbox]");
  await is(frame, "#saved", "Saved");
  seen.checked = await frame.$$eval("input[type=checkbox]", (all) => all.map((box) => box.checked));
  await press(frame, "#disconnect");
  await press(frame, "#confirm button[value=yes]");
  await is(frame, "#note", "HubSpot is disconnected");
  await until("dialog as high as its page", async () => await page.$eval("dialog", (d) => d.offsetHeight) === await frame.evaluate(() => document.body.offsetHeight));
  seen.changes = await changes(page);
  await page.keyboard.press("Escape");
  await until("end of the dialog", async () => !(await page.$("dialog")));
}

// inWindow: in a window, in German, denied and then connected.
async function inWindow(seen) {
  const page = await visit("account=a2&mode=popup&lang=de");
  const portal = await opened(() => page.click("#hubspot"));
  await is(portal, "#status", "Nicht mit HubSpot verbunden");
  await is(portal, "#connect", "HubSpot verbinden");
  await consent(await opened(() => portal.click("#connect")), "1002", "Cancel");
  await is(portal, "#trouble", "nicht erlaubt");
  await consent(await opened(() => portal.click("#connect")), "1002", "Connect app");
  await is(portal, "#status", "Verbunden mit dem HubSpot-Konto hub-1002.example (1002)");
  await press(portal, "#close").catch(() => {}); // it may end with the window
  await until("end of the window", async () => !(await browser.pages()).includes(portal));
  seen.changes = await changes(page);
}

const seen = { framed: {}, window: {}, said };
try {
  await framed(seen.framed);
  await inWindow(seen.window);
  console.log(JSON.stringify(seen));
} finally {
  await browser.close();
}
