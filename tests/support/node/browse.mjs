// Opens a page in a headless browser and does as a JSON list of steps says; writes what it saw as JSON.
//   node browse.mjs ADDRESS STEPS.json
import { readFileSync } from "node:fs";
import puppeteer from "puppeteer-core";

const [address, steps] = process.argv.slice(2);
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM, headless: true, args: ["--no-sandbox", "--disable-gpu"], protocolTimeout: 170000,
});
const page = await browser.newPage(), seen = { console: [], requests: [], values: [] };
page.on("console", (message) => seen.console.push(`${message.type()}: ${message.text()}`));
page.on("pageerror", (error) => seen.console.push(`error: ${error.message}`));
page.on("request", (request) => seen.requests.push(request.url().slice(0, 200)));
page.setDefaultTimeout(40000);
try {
  await page.setViewport({ width: 1280, height: 900 });
  await page.goto(address);
  for (const step of JSON.parse(readFileSync(steps, "utf8"))) {
    if (step.media) await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: step.media }]);
    if (step.width) await page.setViewport({ width: step.width, height: 900 });
    if (step.upload) await (await page.$(step.to)).uploadFile(step.upload);
    for (const key of step.keys || []) await page.keyboard.press(key);
    if (step.type) await page.keyboard.type(step.type);
    if (step.wait)
      await page.waitForFunction(step.wait).catch(async (error) => {
        const said = await page.evaluate("document.querySelector('[role=status]')?.textContent + ' @' + document.activeElement.id");
        throw new Error(`${JSON.stringify(step)}: ${error.message}; ${said}; ${seen.console.join("; ")}`);
      });
    if (step.value) seen.values.push(await page.evaluate(step.value));
    if (step.tree) seen.values.push(await page.accessibility.snapshot());
    if (step.screenshot) await page.screenshot({ path: step.screenshot, fullPage: true });
  }
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
