// Two accounts in Chromium, third-party cookies blocked, on the team's page: they connect, post events, and one connects anew: connect_story.mjs CHROMIUM SITE
import { chromium } from "playwright-core";
import { steps } from "./steps.mjs";

const [executablePath, site] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--test-third-party-cookie-phaseout"],
});
const hubs = { a1: "1001", b1: "1002" };

async function open(account) {
  const page = await (await browser.newContext({ locale: "en-GB" })).newPage();
  await page.goto(`${site}/?account=${account}`);
  await page.getByRole("button").click();
  return page;
}

const portal = (page) => page.frameLocator("iframe");
const is = (page, text) => portal(page).locator("#status").filter({ hasText: text }).waitFor();

async function connect(page, hub, button) {
  const [window] = await Promise.all([page.context().waitForEvent("page"), portal(page).getByRole("button", { name: button, exact: true }).click()]);
  await window.getByLabel("HubSpot account").selectOption(hub);
  await window.getByRole("button", { name: "Connect app" }).click();
  await is(page, `Connected to HubSpot account hub-${hub}.example (${hub})`);
}

const post = (page, what) => page.evaluate((email) => router.event({ app: "crm", token, name: "Contact Created", payload: { email, first_name: "Ada", phone: "+49 1" } }),
  `${what}@example.com`);

try {
  const pages = { a1: await open("a1"), b1: await open("b1") };
  await steps(async (step) => {
    const each = (what) => Promise.all(Object.keys(hubs).map((account) => what(account, pages[account])));
    switch (step) {
      case "connect":
        await each((account, page) => connect(page, hubs[account], "Connect HubSpot"));
        break;
      case "choose":
        await portal(pages.a1).getByLabel("Marketing fields").uncheck();
        await portal(pages.a1).locator("#saved").filter({ hasText: "Saved" }).waitFor();
        break;
      case "wrong": {
        const refused = await pages.a1.evaluate(() => router.event({ app: "crm", token, name: "Contact Created", payload: { email: 7, first_name: "Ada", phone: "" } })
          .then(() => "", (e) => JSON.stringify([e.name, e.status, e.violations])));
        if (refused !== '["Error",400,[{"path":"/payload/email","problem":"is number, and must be string"}]]') throw new Error(`a wrong event: ${refused}`);
        break;
      }
      case "lost":
        await pages.a1.evaluate(() => handle.close());
        await pages.a1.getByRole("button").click();
        await is(pages.a1, "HubSpot has to be connected again");
        await portal(pages.a1).getByText("waits until you connect again").waitFor();
        break;
      case "reconnect":
        await connect(pages.a1, hubs.a1, "Connect HubSpot again");
        break;
      case "end":
        break;
      default:
        await each((account, page) => post(page, `${step}-${account}`));
    }
  });
} finally {
  await browser.close();
}
