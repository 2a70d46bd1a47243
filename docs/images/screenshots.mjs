// Makes report.png, live-view.png and run.svg from the demo.
//
//   node docs/images/screenshots.mjs MODULES HAMFLOW [FOLDER]
//
// MODULES is a directory with node_modules/playwright-core (created by tests/check.sh), HAMFLOW the program.
// The images are written to FOLDER, by default to this one.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import { launch } from "../../tests/browser_tools.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const [modules, hamflow, images = here] = process.argv.slice(2).map((path) => resolve(path));

const project = mkdtempSync(join(tmpdir(), "demo-"));
copyFileSync(join(here, "../../pipeline.toml"), join(project, "pipeline.toml"));
const server = spawn(hamflow, ["serve"], { cwd: project, stdio: ["ignore", "pipe", "inherit"] });
const site = await new Promise((done) => createInterface({ input: server.stdout }).once("line", done));
const { browser } = await launch(modules);
const tab = await browser.newPage({ viewport: { width: 1200, height: 900 }, colorScheme: "light" });
try {
  const run = spawn(hamflow, ["run", "--profile", "demo"], { cwd: project, stdio: "ignore" });
  const ended = new Promise((done) => run.once("exit", done));
  await tab.goto(site);
  await tab.locator('[data-part="runs"] tbody a').first().click({ timeout: 60000 });
  await tab.locator("text=/epoch 4\\/6/").waitFor({ timeout: 120000 });
  await tab.locator('[data-part="curves"] img').waitFor();
  await tab.waitForTimeout(1500);
  await tab.screenshot({ path: join(images, "live-view.png") });
  if ((await ended) !== 0) throw new Error("the demo failed");
  await tab.setViewportSize({ width: 1400, height: 1250 });
  await tab.goto(pathToFileURL(join(project, "out/report/index.html")).href);
  await tab.screenshot({ path: join(images, "report.png") });
  const commands = [
    "run --profile demo --set stages.gradcam.examples=3",
    "why train --profile demo --set stages.train.epochs=60",
    "run --profile demo --set stages.gradcam.examples=3",
  ];
  const shown = commands.map((command) => {
    const { stdout, stderr } = spawnSync(hamflow, command.split(" "), { cwd: project, encoding: "utf8" });
    return `$ hamflow ${command}\n${stderr}${stdout}`;
  });
  const text = shown.join("\n");
  writeFileSync(join(images, "run.svg"), execFileSync("python3", [join(here, "terminal.py")], { input: text }));
} finally {
  await browser.close();
  server.kill();
  rmSync(project, { recursive: true, force: true });
}
