// Opens report pages in a real browser and checks layout, accessibility and interaction.
//
//   node tests/browser.mjs MODULES PAGE [COMPARED] [SCREENSHOTS]
//
// MODULES is a directory with node_modules/playwright-core and axe-core (created by tests/check.sh), PAGE a report, COMPARED a page of
// `hamflow compare`, SCREENSHOTS a directory for screenshots.
import { mkdirSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { join, resolve } from "node:path";
import { check, finish, launch } from "./browser_tools.mjs";

const [modules, page, compared, screenshots] = process.argv.slice(2);
const { browser, accessibility } = await launch(modules);

/// A tab that records error messages and network requests.
async function open(file, options) {
  const context = await browser.newContext(options);
  const tab = await context.newPage();
  const url = pathToFileURL(resolve(file)).href;
  const errors = [];
  const requests = [];
  tab.on("console", (message) => ["error", "warning"].includes(message.type()) && errors.push(message.text()));
  tab.on("pageerror", (error) => errors.push(String(error)));
  await context.route("**/*", (route) => {
    const target = route.request().url();
    if (target === url || target.startsWith("data:") || target.startsWith("about:")) return route.continue();
    requests.push(target);
    return route.abort();
  });
  await tab.goto(url, { waitUntil: "load" });
  return { tab, errors, requests, close: () => context.close() };
}

async function shoot(tab, name) {
  if (!screenshots) return;
  mkdirSync(screenshots, { recursive: true });
  await tab.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true });
}

/// The widths of page and window, and the elements that overflow.
const overflow = (tab) =>
  tab.evaluate(() => {
    const width = document.documentElement.clientWidth;
    const wide = [...document.querySelectorAll("body *")].filter((element) => element.getBoundingClientRect().right > width + 1 && !element.closest(".scroll"));
    return { width, scroll: document.documentElement.scrollWidth, wide: wide.slice(0, 3).map((element) => element.outerHTML.slice(0, 100)) };
  });

/// Figures without a size, clipped texts and overlapping texts.
const figures = (tab) =>
  tab.evaluate(() => {
    const problems = [];
    document.querySelectorAll("details").forEach((details) => (details.open = true));
    const all = [...document.querySelectorAll("figure")];
    for (const figure of all) {
      const picture = figure.querySelector("svg, img");
      const box = picture?.getBoundingClientRect();
      const name = figure.querySelector("title")?.textContent ?? figure.textContent.trim().slice(0, 40);
      if (!box || box.width < 60 || box.height < 40) problems.push(`${name}: has no size`);
      if (picture?.tagName !== "svg") continue;
      const texts = [...picture.querySelectorAll("text")].map((text) => ({ text: text.textContent, box: text.getBoundingClientRect() }));
      for (const [i, a] of texts.entries()) {
        if (a.box.left < box.left - 1 || a.box.right > box.right + 1 || a.box.top < box.top - 1 || a.box.bottom > box.bottom + 1) {
          problems.push(`${name}: "${a.text}" is cut off`);
        }
        for (const b of texts.slice(i + 1)) {
          const across = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
          const down = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
          // The bounding boxes of texts are a little higher than their letters.
          if (across > 2 && down > 4) problems.push(`${name}: "${a.text}" lies on "${b.text}"`);
        }
      }
    }
    return { count: all.length, problems };
  });

async function explorer(tab) {
  if ((await tab.locator("#explorer").count()) === 0) return;
  const count = async () => Number((await tab.locator("#explorer-count").textContent()).split(" of ")[0].replaceAll(",", ""));
  const all = await count();
  check("the table of predictions has rows", all > 0);
  const first = await tab.locator("#explorer-table tbody th").first().textContent();
  await tab.fill("#filter-text", first);
  check("filtering by name shows only its rows", (await count()) >= 1 && (await count()) < all, `${await count()} of ${all}`);
  await tab.fill("#filter-text", "no such image");
  check("filtering by an unknown name shows no rows", (await count()) === 0);
  await tab.fill("#filter-text", "");
  await tab.selectOption("#filter-correct", "wrong");
  const wrong = await count();
  await tab.selectOption("#filter-correct", "right");
  check("right and wrong predictions add up to all", wrong + (await count()) === all, `${wrong} + ${await count()} of ${all}`);
  await tab.selectOption("#filter-correct", "");
  const label = await tab.locator("#filter-label option").nth(1).getAttribute("value");
  await tab.selectOption("#filter-label", label);
  const labels = await tab.locator("#explorer-table tbody tr td:nth-child(4)").allTextContents();
  check("filtering by class shows only its rows", labels.every((found) => found === label), labels);
  await tab.selectOption("#filter-label", "");
  for (const direction of ["ascending", "descending"]) {
    await tab.locator("#explorer-table th button").nth(0).focus();
    await tab.keyboard.press("Enter");
    const head = tab.locator("#explorer-table th").nth(0);
    const names = await tab.locator("#explorer-table tbody th").allTextContents();
    const sorted = [...names].sort();
    const expected = (await head.getAttribute("aria-sort")) === "ascending" ? sorted : sorted.reverse();
    check(`sorting by name, ${direction}`, JSON.stringify(names) === JSON.stringify(expected), names.slice(0, 4));
  }
  const before = await tab.locator("#explorer-table tbody th").first().textContent();
  if (await tab.locator("#page-next").isEnabled()) {
    await tab.locator("#page-next").click();
    check("the next page has other rows", (await tab.locator("#explorer-table tbody th").first().textContent()) !== before);
  }
}

/// The threshold explorer, by keyboard.
async function thresholds(tab) {
  if ((await tab.locator("#threshold").count()) === 0) return;
  const shown = async () => Promise.all(["value", "sensitivity", "specificity"].map((name) => tab.locator(`#threshold-${name}`).textContent()));
  await tab.locator("#threshold").focus();
  await tab.keyboard.press("ArrowLeft");
  check("an arrow key moves the threshold by a step", (await shown())[0] === "0.49", await shown());
  await tab.keyboard.press("Home");
  check("at 0 every image is flagged", JSON.stringify(await shown()) === '["0.00","100.0 %","0.0 %"]', await shown());
  for (let step = 0; step < 50; step += 1) await tab.keyboard.press("ArrowRight");
  const row = tab.locator("#certainty tbody tr", { has: tab.locator("th", { hasText: "0.50" }) });
  const listed = await row.locator("td").allTextContents();
  check("the slider and the table agree", JSON.stringify((await shown()).slice(1)) === JSON.stringify(listed.slice(0, 2)), { shown: await shown(), listed });
  const numbers = await Promise.all(["found", "missed", "false"].map((name) => tab.locator(`#threshold-${name}`).textContent()));
  check("the numbers per 100 images agree", JSON.stringify(numbers) === JSON.stringify(listed.slice(2)), { numbers, listed });
}

/// The contents beside the sections: in view wherever the page is, with the section that is read marked.
async function contents(tab) {
  for (const id of ["results", "training", "provenance"]) {
    await tab.locator(`#contents a[href="#${id}"]`).click();
    await tab.waitForFunction((id) => document.querySelector(`#contents a[href="#${id}"]`).hasAttribute("aria-current"), id, { timeout: 5000 }).catch(() => {});
    const marked = await tab.locator("#contents a[aria-current]").evaluateAll((links) => links.map((link) => link.getAttribute("href")));
    check(`the contents mark #${id}`, JSON.stringify(marked) === JSON.stringify([`#${id}`]), marked);
    const top = await tab.locator("#contents").evaluate((nav) => nav.getBoundingClientRect().top);
    check(`the contents stay in view at #${id}`, top >= -1 && top < 400, String(top));
  }
}

/// At the width of A4 without margins, no figure is wider than the paper.
async function printed(file) {
  const { tab, close } = await open(file, { viewport: { width: 688, height: 1000 } });
  await tab.emulateMedia({ media: "print" });
  const { wide } = await overflow(tab);
  check("nothing is wider than the paper", wide.length === 0, wide);
  const cut = await tab.evaluate(() =>
    [...document.querySelectorAll("figure")]
      .filter((figure) => figure.querySelector("svg, img")?.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
      .map((figure) => figure.textContent.trim().slice(0, 60)),
  );
  check("no figure is cut in print", cut.length === 0, cut);
  await shoot(tab, "print");
  await close();
}

const paper = (tab) => tab.evaluate(() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector(".hf-paper") ?? document.body).fill]);

async function report(file) {
  const wide = await open(file, { viewport: { width: 1600, height: 900 } });
  const { tab } = wide;
  await tab.keyboard.press("Tab");
  const focused = await tab.evaluate(() => document.activeElement.className);
  check("the first tab stop is the skip link", focused === "skip", focused);
  await explorer(tab);
  await thresholds(tab);
  await contents(tab);
  const light = await paper(tab);
  const { count, problems } = await figures(tab);
  check("there are figures", count > 0);
  check("every figure has a size and no clipped or overlapping texts", problems.length === 0, problems.slice(0, 20));
  await accessibility(tab, "light, 1600 px");
  await shoot(tab, "light-1600");
  await tab.emulateMedia({ colorScheme: "dark" });
  const dark = await paper(tab);
  check("the page and its figures have a dark theme", light[0] !== dark[0] && light[1] !== dark[1], { light, dark });
  await accessibility(tab, "dark, 1600 px");
  await shoot(tab, "dark-1600");
  await tab.emulateMedia({ colorScheme: "light", media: "print" });
  check("the table of contents is hidden in print", !(await tab.locator("nav").isVisible()));
  await tab.emulateMedia({ media: "screen" });
  const links = await tab.locator("nav a").count();
  for (let i = 0; i < links; i += 1) {
    const target = await tab.locator("nav a").nth(i).getAttribute("href");
    check(`${target} exists`, (await tab.locator(target).count()) === 1);
  }
  check("no error messages", wide.errors.length === 0, wide.errors);
  check("no network requests", wide.requests.length === 0, wide.requests);
  await wide.close();

  for (const width of [1000, 375]) {
    const narrow = await open(file, { viewport: { width, height: 800 } });
    await narrow.tab.evaluate(() => document.querySelectorAll("details").forEach((details) => (details.open = true)));
    const found = await overflow(narrow.tab);
    check(`no horizontal scrolling at ${width} px`, found.scroll <= found.width, found);
    const cut = await narrow.tab.evaluate(() =>
      [...document.querySelectorAll("figure")]
        .filter((figure) => [...figure.querySelectorAll(".scroll")].some((box) => box.scrollWidth > box.clientWidth + 1))
        .map((figure) => figure.textContent.trim().slice(0, 60)),
    );
    check(`no figure scrolls at ${width} px`, cut.length === 0, cut);
    await accessibility(narrow.tab, `light, ${width} px`);
    await shoot(narrow.tab, `light-${width}`);
    check(`no error messages at ${width} px`, narrow.errors.length === 0, narrow.errors);
    await narrow.close();
  }
  await printed(file);
}

async function sideBySide(file) {
  for (const width of [1400, 375]) {
    const { tab, errors, requests, close } = await open(file, { viewport: { width, height: 900 } });
    const frames = tab.frames().filter((frame) => frame !== tab.mainFrame());
    check(`two pages side by side at ${width} px`, frames.length === 2, String(frames.length));
    for (const frame of frames) {
      check("both pages work in their frames", (await frame.locator("#explorer-table tbody tr").count()) > 0);
    }
    const found = await overflow(tab);
    check(`no horizontal scrolling at ${width} px`, found.scroll <= found.width, found);
    await accessibility(tab, `side by side, ${width} px`);
    await shoot(tab, `compared-${width}`);
    check("no error messages", errors.length === 0, errors);
    check("no network requests", requests.length === 0, requests);
    await close();
  }
}

await report(page);
if (compared) await sideBySide(compared);
await browser.close();
finish("page");
