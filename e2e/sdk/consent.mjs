// A person in Chromium who connects an app on the sandbox's pages, by keyboard alone: consent.mjs LINK SANDBOX CHROMIUM
import { chromium } from "playwright-core";

const [link, sandbox, executablePath] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
try {
  const tab = await browser.newPage();
  const seen = {};
  tab.on("console", (m) => console.error("console:", m.text()));
  const focused = () => tab.evaluate(() => document.activeElement.labels?.[0]?.textContent ?? document.activeElement.textContent);

  await tab.goto(link);
  seen.heading = await tab.getByRole("heading", { level: 1 }).textContent();
  seen.order = [];
  for (const keys of ["Acme", "", ""]) { // the account, then the two buttons
    await tab.keyboard.press("Tab");
    seen.order.push((await focused()).trim());
    await tab.keyboard.type(keys);
  }
  await tab.getByRole("button", { name: "Connect app" }).focus();
  await Promise.all([tab.waitForURL(/code=/), tab.keyboard.press("Enter")]);
  seen.granted = tab.url();

  await tab.goto(link);
  await Promise.all([tab.waitForURL(/error=/), tab.getByRole("button", { name: "Cancel" }).click()]);
  seen.denied = tab.url();

  await tab.goto(link.replace("client_id=", "client_id=un"));
  seen.refused = await tab.getByRole("alert").textContent();

  await tab.goto(`${sandbox}/_sandbox/pages/hubs`);
  await tab.getByRole("button", { name: "Uninstall Shop from hub 1001" }).click();
  seen.after = await tab.getByRole("button").allTextContents();
  console.log(JSON.stringify(seen));
} finally {
  await browser.close();
}
