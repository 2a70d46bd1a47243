// What the scripts that look at pages in a browser share: the browser, counted checks, accessibility.
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

let failures = 0;
let checks = 0;

export function check(what, good, found = "") {
  checks += 1;
  if (good) return;
  failures += 1;
  console.error(`FAILED: ${what}${found === "" ? "" : `: ${typeof found === "string" ? found : JSON.stringify(found, null, 1)}`}`);
}

/// Prints the number of checks and ends the process. Without any check it fails.
export function finish(kind) {
  console.log(`${checks - failures} of ${checks} ${kind} checks passed`);
  process.exit(failures === 0 && checks > 0 ? 0 : 1);
}

/// Starts Chromium. `modules` is a directory with node_modules/playwright-core and axe-core.
export async function launch(modules) {
  const require = createRequire(join(resolve(modules), "package.json"));
  const { chromium } = require("playwright-core");
  const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync),
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  const accessibility = async (tab, what) => {
    await tab.evaluate(axe);
    const violations = await tab.evaluate(async () => {
      const found = await globalThis.axe.run(document, { iframes: false });
      return found.violations
        .filter((violation) => ["serious", "critical"].includes(violation.impact))
        .map((violation) => ({ id: violation.id, help: violation.help, nodes: violation.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)), count: violation.nodes.length }));
    });
    check(`${what}: no serious accessibility violations`, violations.length === 0, violations);
  };
  return { browser, accessibility };
}
