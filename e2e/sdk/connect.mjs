// People in Chromium, with third-party cookies blocked, who connect their HubSpot accounts on the connect page: connect.mjs CHROMIUM SITE OTHER ROUTER DIRECT EXPIRED
import { chromium } from "playwright-core";
import { readFile } from "node:fs/promises";

const [executablePath, site, other, router, direct, expired] = process.argv.slice(2);
const axe = await readFile(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const browser = await chromium.launch({
  executablePath,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--test-third-party-cookie-phaseout"],
});

// person is a browser of its own, which notes what its pages complain of.
async function person(options = {}) {
  const context = await browser.newContext({ locale: "en-GB", ...options });
  context.setDefaultTimeout(30000);
  const said = [];
  context.on("console", (m) => { if (["error", "warning"].includes(m.type())) said.push(m.text()); });
  context.on("weberror", (e) => said.push(e.error().message));
  return { context, said };
}

// accessible are the ids of the rules of WCAG that a page breaks.
async function accessible(frame) {
  await frame.evaluate(axe);
  const found = await frame.evaluate(() => axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  return found.violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(" ")}`);
}

const focused = (frame) => frame.evaluate(() => document.activeElement.labels?.[0]?.textContent ?? document.activeElement.textContent.trim());
const status = (frame) => frame.locator("#status");
const is = (frame, text) => status(frame).filter({ hasText: text }).waitFor();

// embedded is the connect page in the dialog of a site's page.
async function embedded(page) {
  const element = await page.waitForSelector("dialog iframe");
  const frame = await element.contentFrame();
  await frame.waitForFunction(() => document.getElementById("status")?.textContent && !document.getElementById("account").hidden);
  return frame;
}

// consent is what a person does on HubSpot's page.
async function consent(window, hub, button = "Connect app") {
  await window.waitForURL(/oauth\/authorize/);
  await window.getByLabel("HubSpot account").selectOption(hub);
  await window.getByRole("button", { name: button }).click();
}

const scenes = {
  // By keyboard alone, in the dialog of another site's page.
  async keyboard(seen) {
    const { context, said } = await person({ viewport: { width: 320, height: 640 } });
    const page = await context.newPage();
    await page.goto(`${site}/?account=a1`);
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    const frame = await embedded(page);
    seen.first = await status(frame).textContent();
    seen.address = frame.url();
    seen.title = await frame.locator("h1").textContent();
    seen.axe = [await accessible(frame)];
    await page.keyboard.press("Tab");
    seen.order = [await focused(frame)];
    await page.keyboard.press("Tab");
    seen.order.push(await focused(frame));
    const [window] = await Promise.all([context.waitForEvent("page"), page.keyboard.press("Enter")]);
    await is(frame, "Waiting");
    await consent(window, "1001");
    await is(frame, "Connected to HubSpot account hub-1001.example (1001)");
    if (!window.isClosed()) await window.waitForEvent("close");
    seen.focus = await focused(frame);
    seen.facts = await frame.locator("dt").allTextContents();
    seen.axe.push(await accessible(frame));
    await page.keyboard.press("Tab");
    seen.option = await focused(frame);
    seen.checked = await frame.getByRole("checkbox").evaluateAll((all) => all.map((box) => box.checked));
    await page.keyboard.press("Space");
    await frame.locator("#saved").filter({ hasText: "Saved" }).waitFor();
    seen.wide = await frame.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    for (let i = 0; i < 3; i++) await page.keyboard.press("Tab");
    seen.leave = await focused(frame);
    await page.keyboard.press("Enter");
    seen.ask = await focused(frame);
    seen.axe.push(await accessible(frame));
    await page.keyboard.press("Escape");
    seen.asked = await focused(frame);
    await page.keyboard.press("Escape");
    await page.waitForSelector("dialog", { state: "detached" });
    seen.back = await focused(page);
    seen.changes = await page.evaluate(() => changes);
    seen.cookies = (await context.cookies()).map((c) => c.name);

    await page.keyboard.press("Enter"); // once more: what was chosen is there
    seen.again = await (await embedded(page)).getByRole("checkbox").evaluateAll((all) => all.map((box) => box.checked));
    seen.said = said;
  },

  // In a window and in German: denied, then granted, then disconnected.
  async german(seen) {
    const { context, said } = await person();
    const page = await context.newPage();
    await page.goto(`${site}/?account=a2&mode=popup&lang=de`);
    const [portal] = await Promise.all([context.waitForEvent("page"), page.getByRole("button").click()]);
    await is(portal, "Nicht mit HubSpot verbunden");
    seen.lang = await portal.locator("html").getAttribute("lang");
    seen.title = await portal.title();
    let [window] = await Promise.all([context.waitForEvent("page"), portal.getByRole("button", { name: "HubSpot verbinden" }).click()]);
    await consent(window, "1002", "Cancel");
    await portal.getByRole("alert").filter({ hasText: "nicht erlaubt" }).waitFor();
    seen.denied = await portal.getByRole("alert").textContent();
    seen.denial = await status(portal).textContent();
    [window] = await Promise.all([context.waitForEvent("page"), portal.getByRole("button", { name: "HubSpot verbinden" }).click()]);
    await consent(window, "1002");
    await is(portal, "Verbunden mit dem HubSpot-Konto hub-1002.example (1002)");
    seen.labels = await portal.locator("label").allTextContents();
    // What goes wrong is said in words, with what to do; TestProblemOfAnAccount has what the router answers.
    let problem = "limit";
    await portal.route("**/api/v1/apps/crm/connection*", async (route) => {
      if (route.request().method() !== "GET") return route.continue();
      const answer = await route.fetch();
      return route.fulfill({ response: answer, json: { ...(await answer.json()), problem, problem_at: "2026-11-22T12:00:00Z" } });
    });
    const goesWrong = async (word, text) => {
      problem = word;
      await portal.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
      await portal.locator("#reason").filter({ hasText: text }).waitFor();
      return [await portal.locator("dt").last().textContent(), await portal.getByRole("button", { name: "HubSpot neu verbinden" }).count()];
    };
    seen.limit = await goesWrong("limit", "Sie müssen nichts tun");
    seen.permission = await goesWrong("permission", "HubSpot erlaubt Shop & Söhne nicht alles");
    seen.axe = await accessible(portal);
    await portal.unroute("**/api/v1/apps/crm/connection*");
    await portal.getByRole("button", { name: "Trennen" }).click();
    await portal.getByRole("dialog").getByRole("button", { name: "Trennen" }).click();
    await portal.locator("#note").filter({ hasText: "getrennt" }).waitFor();
    seen.end = [await status(portal).textContent(), await portal.locator("#note").textContent(), await focused(portal)];
    await Promise.all([portal.waitForEvent("close"), portal.getByRole("button", { name: "Schließen" }).click().catch(() => {})]); // the click may end with the window
    seen.changes = await page.evaluate(() => changes);
    seen.said = said;
  },

  // A token that has expired: connect.js is asked for another one; without connect.js people are told.
  async expired(seen) {
    const { context } = await person();
    const page = await context.newPage();
    await page.goto(`${site}/?account=a3&old`);
    await page.getByRole("button").click();
    seen.status = await status(await embedded(page)).textContent();
    seen.tokens = await page.evaluate(() => tokens);
    // Who comes back to the page after a while: two calls meet the end of the token together, and one other is asked for.
    let refusals = 2;
    const answers = [];
    await page.route("**/api/v1/apps/crm/connection*", async (route) => {
      if (refusals-- > 0) return route.fulfill({ status: 401, json: {} });
      answers.push(route.request().method());
      return route.continue();
    });
    const frame = await embedded(page);
    await frame.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
    for (const end = Date.now() + 10000; new Set(answers).size < 2 && Date.now() < end;) await page.waitForTimeout(50);
    seen.together = [...new Set(answers)].sort();
    seen.once = await page.evaluate(() => tokens);
    seen.trouble = await frame.getByRole("alert").textContent();
    await page.evaluate(() => handle.close());
    seen.closed = await page.locator("dialog").count();
    await page.goto(expired);
    await page.getByRole("alert").filter({ hasText: "open" }).waitFor();
    seen.alone = await page.getByRole("alert").textContent();
    seen.address = page.url();
  },

  // A page on its own, in a browser that opens no windows: HubSpot comes in the same tab. Then HubSpot takes back what it granted.
  async blocked(seen) {
    const { context, said } = await person();
    await context.addInitScript(() => { window.open = () => null; });
    const page = await context.newPage();
    await page.goto(direct);
    await is(page, "Not connected");
    seen.address = page.url();
    seen.whose = await page.getByText("For the account").textContent();
    await page.getByRole("button", { name: "Connect HubSpot" }).click();
    await consent(page, "1003", "Cancel");
    await page.getByRole("alert").filter({ hasText: "not allow" }).waitFor();
    seen.denied = page.url();
    await page.getByRole("button", { name: "Connect HubSpot" }).click();
    await consent(page, "1003");
    await is(page, "Connected to HubSpot account hub-1003.example (1003)");
    seen.back = page.url();
    seen.stash = await page.evaluate(() => sessionStorage.length + localStorage.length + document.cookie.length);
    seen.said = said;
  },

  // An embedded page in a browser that opens no windows has a link instead.
  async link() {
    const { context, said } = await person();
    await context.addInitScript(() => { window.open = () => null; });
    const page = await context.newPage();
    await page.goto(`${site}/?account=a6`);
    await page.getByRole("button").click();
    const frame = await embedded(page);
    await frame.getByRole("button", { name: "Connect HubSpot" }).click();
    const [window] = await Promise.all([context.waitForEvent("page"), frame.getByRole("link", { name: "Open HubSpot in a new tab" }).click()]);
    await consent(window, "1003");
    await is(frame, "Connected to HubSpot account hub-1003.example (1003)");
    return { tab: await window.getByRole("heading").textContent(), said };
  },

  // HubSpot's pages cut the window off from the page that opened it.
  async severed() {
    const { context } = await person();
    const page = await context.newPage();
    await page.goto(`${site}/?account=a7&app=severed`);
    await page.getByRole("button").click();
    const frame = await embedded(page);
    const [window] = await Promise.all([context.waitForEvent("page"), frame.getByRole("button", { name: "Connect HubSpot" }).click()]);
    await consent(window, "1003");
    await is(frame, "Connected to HubSpot account hub-1003.example (1003)");
    return { opener: await window.evaluate(() => String(window.opener)) };
  },

  // Somebody else's page gets neither the page in a frame nor, in a window, a word from it.
  async stranger(seen) {
    const { context, said } = await person();
    const page = await context.newPage();
    await page.goto(`${other}/?account=a1`);
    const hint = page.waitForEvent("console", (m) => m.text().includes("in portal.parents?"));
    await page.getByRole("button").click();
    const frame = await (await page.waitForSelector("dialog iframe")).contentFrame();
    await frame.waitForURL(/chrome-error/);
    seen.frame = await frame.locator("#main").count();
    seen.said = said.filter((text) => text.includes("frame-ancestors")).length > 0;
    seen.hint = (await hint).text().includes(new URL(other).origin);
    await page.goto(`${other}/?account=a1&mode=popup`);
    const [portal] = await Promise.all([context.waitForEvent("page"), page.getByRole("button").click()]);
    await portal.getByRole("alert").filter({ hasText: "open" }).waitFor();
    seen.tokens = await page.evaluate(() => tokens + changes.length);
  },

  // That third-party cookies are blocked at all: a frame of another site sets one that a page of that site itself would get.
  async cookies() {
    const { context } = await person();
    const page = await context.newPage();
    await page.route(`${router}/framed`, (route) => route.fulfill({ contentType: "text/html", body: `<iframe src="${other}/cookie"></iframe>` }));
    await page.goto(`${router}/framed`);
    await page.frameLocator("iframe").locator("body").waitFor({ state: "attached" });
    const framed = (await context.cookies()).length;
    await page.goto(`${other}/cookie`);
    return { framed, own: (await context.cookies()).length };
  },
};

const all = {};
try {
  await Promise.all(Object.entries(scenes).filter(([n]) => !process.env.SCENE || process.env.SCENE === n).map(async ([name, scene]) => {
    const began = performance.now();
    all[name] = {};
    try {
      Object.assign(all[name], await scene(all[name]));
    } catch (err) {
      all[name].error = err.stack;
    }
    all[name].seconds = Math.round((performance.now() - began) / 100) / 10;
  }));
  console.log(JSON.stringify(all));
} finally {
  await browser.close();
}
