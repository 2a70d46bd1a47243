// Watches a run of the demo in `hamflow serve` with a real browser.
//
//   node tests/live.mjs MODULES HAMFLOW FOLDER [SCREENSHOTS]
//
// MODULES is a directory with node_modules/playwright-core and axe-core (created by tests/check.sh), HAMFLOW the program, FOLDER an empty
// directory for the project, SCREENSHOTS a directory for screenshots.
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { check, finish, launch } from "./browser_tools.mjs";

const [modules, hamflow, folder, screenshots] = process.argv.slice(2).map((path) => resolve(path));
const RUN = ["run", "--profile", "demo", "--set", "stages.train.epochs=2"];

const server = spawn(hamflow, ["serve"], { cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
const site = await new Promise((done) => createInterface({ input: server.stdout }).once("line", done));
const { browser, accessibility } = await launch(modules);
const context = await browser.newContext({ viewport: { width: 1600, height: 900 } });
const tab = await context.newPage();
const errors = [];
const elsewhere = [];
tab.on("console", (message) => ["error", "warning"].includes(message.type()) && errors.push(message.text()));
tab.on("pageerror", (error) => errors.push(String(error)));
context.on("request", (request) => !request.url().startsWith(site) && !/^(data|about):/.test(request.url()) && elsewhere.push(request.url()));

async function shoot(name) {
  if (!screenshots) return;
  mkdirSync(screenshots, { recursive: true });
  await tab.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true });
}

/// Accessibility and layout at every width, light and dark.
async function look(name) {
  for (const width of [1600, 1000, 375]) {
    await tab.setViewportSize({ width, height: 900 });
    const found = await tab.evaluate(() => ({ width: document.documentElement.clientWidth, scroll: document.documentElement.scrollWidth }));
    check(`${name}: no horizontal scrolling at ${width} px`, found.scroll <= found.width, found);
    await shoot(`${name}-${width}`);
  }
  await tab.setViewportSize({ width: 1600, height: 900 });
  for (const colorScheme of ["light", "dark"]) {
    await tab.emulateMedia({ colorScheme });
    await accessibility(tab, `${name}, ${colorScheme}`);
    if (colorScheme === "dark") await shoot(`${name}-dark`);
  }
  await tab.emulateMedia({ colorScheme: "light" });
}

/// Whether something appears on the page without a reload.
const appears = (selector, timeout = 120000) => tab.locator(selector).first().waitFor({ timeout }).then(() => true, () => false);

async function liveRun() {
  await tab.goto(site);
  check("an empty list says so", await appears("text=No runs."));
  const run = spawn(hamflow, RUN, { cwd: folder, stdio: "ignore" });
  const ended = new Promise((done) => run.once("exit", done));
  check("a run that starts appears in the list", await appears('[data-part="runs"] [data-state="running"]'));
  await look("runs");
  await tab.locator('[data-part="runs"] tbody a').first().click();
  check("the run is running", await appears('[data-part="state"] [data-state="running"]'));
  check("the training shows its epoch and images", await appears("text=/epoch 1\\/2 · \\d+\\/\\d+ images/"));
  check("stages to come are pending", (await tab.locator('[data-part="stages"] [data-state="pending"]').count()) > 0);
  const shown = tab.locator('[data-part="stages"] progress');
  check("progress has a bar", (await shown.count()) > 0);
  check("curves appear after the first epoch", await appears('[data-part="curves"] img'));
  await shoot("live");
  await tab.locator('a[aria-label="Log of train"]').click();
  check("the log grows while the page is open", await appears("text=/epoch 2\\/2, loss/"));
  await tab.goBack();
  check("the page sees the end of the run", await appears('[data-part="state"] [data-state="done"]'));
  check("the run succeeded", (await ended) === 0);
  await tab.waitForFunction(() => [...document.querySelectorAll("main img")].every((image) => image.complete));
  const pictures = await tab.locator("main img").evaluateAll((images) => images.map((image) => image.complete && image.naturalWidth > 0));
  check("curves and graph are drawn", pictures.length === 2 && pictures.every(Boolean), pictures);
  await look("run");
}

async function results() {
  const run = tab.url();
  await tab.locator('[data-part="pages"] a.button').click();
  check("the report opens", await appears("#contents"));
  await tab.goto(run);
  await tab.locator('a[href="artifact/evaluate/metrics/"]').click();
  check("a metrics file is shown", (await tab.locator("body").textContent()).includes("balanced_accuracy"));
  await tab.goto(run);
  await tab.locator('a[href="artifact/eda/figures/"]').click();
  check("a folder of figures shows them", (await tab.locator(".pictures img").count()) > 2);
  await look("artifact");
}

async function comparison() {
  const again = spawnSync(hamflow, [...RUN, "--set", "stages.train.learning_rate=0.0005"], { cwd: folder, stdio: "ignore" });
  check("a second run succeeds", again.status === 0);
  await tab.goto(site);
  const button = tab.locator("#compare button");
  check("nothing can be compared yet", await button.isDisabled());
  await tab.locator('#compare input[type="checkbox"]').nth(0).check();
  await tab.locator('#compare input[type="checkbox"]').nth(1).check();
  check("two chosen runs can be compared", await button.isEnabled());
  // Two more answers: the list was replaced in between.
  for (let i = 0; i < 2; i += 1) await tab.waitForResponse((response) => response.url() === site);
  check("the choice survives an update of the list", await button.isEnabled());
  await button.click();
  check("the comparison opens", await appears("h1:has-text('Run comparison')"));
  const frames = tab.frames().filter((frame) => frame !== tab.mainFrame());
  check("both reports are beside each other", frames.length === 2, String(frames.length));
  for (const frame of frames) {
    check("a report works in its frame", await frame.locator("#explorer-table tbody tr").first().waitFor({ state: "attached" }).then(() => true, () => false));
  }
  await shoot("comparison");
}

/// A list of ten thousand runs.
async function manyRuns() {
  const runs = join(folder, "cache", "runs");
  const first = readdirSync(runs).filter((name) => /^\d/.test(name)).sort()[0];
  const record = readFileSync(join(runs, first, "record.json"), "utf8");
  for (let i = 0; i < 10000; i += 1) {
    const name = `20200101-${String(Math.floor(i / 3600) + 10)}${String(Math.floor(i / 60) % 60).padStart(2, "0")}${String(i % 60).padStart(2, "0")}-000`;
    mkdirSync(join(runs, name));
    writeFileSync(join(runs, name, "record.json"), record.replace(first, name));
  }
  const timed = async (action) => {
    const before = performance.now();
    await action();
    return Math.round(performance.now() - before);
  };
  const times = {
    list: await timed(() => tab.goto(site)),
    again: await timed(() => tab.reload()),
    next: await timed(() => tab.locator("text=Older runs").click()),
    filter: await timed(() => tab.goto(`${site}?q=20200101-1245`)),
    "filter again": await timed(() => tab.goto(`${site}?q=20200101-1244`)),
  };
  console.log(`10,000 runs, milliseconds until the page is loaded: ${JSON.stringify(times)}`);
  check("a page has 60 of the filtered runs", (await tab.locator('[data-part="runs"] tbody tr').count()) === 60);
  check("all runs are counted", (await tab.locator('[data-part="count"]').textContent()).includes("10002"), await tab.locator('[data-part="count"]').textContent());
}

try {
  await liveRun();
  await results();
  await comparison();
  await manyRuns();
  check("no error messages", errors.length === 0, errors);
  check("no request elsewhere", elsewhere.length === 0, elsewhere);
} finally {
  await browser.close();
  server.kill();
}
finish("live");
