(function () {
  "use strict";
  var links = Array.prototype.slice.call(document.querySelectorAll("#contents a"));
  var sections = links.map(function (link) { return document.getElementById(link.getAttribute("href").slice(1)); });
  var waiting = false;
  function mark() {
    waiting = false;
    var current = 0;
    sections.forEach(function (section, i) { if (section.getBoundingClientRect().top < 120) current = i; });
    if (window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 2) current = sections.length - 1;
    links.forEach(function (link, i) {
      if (i === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
  }
  window.addEventListener("scroll", function () {
    if (!waiting) { waiting = true; window.requestAnimationFrame(mark); }
  }, { passive: true });
  mark();
})();
(function () {
  "use strict";
  var source = document.getElementById("threshold-data");
  if (!source) return;
  var byId = function (id) { return document.getElementById(id); };
  var sides = JSON.parse(source.textContent);
  var slider = byId("threshold"), line = byId("threshold-line");
  var left = Number(line.dataset.left), width = Number(line.dataset.width);
  var all = sides[0].length + sides[1].length;
  function flagged(side, threshold) {
    return side.filter(function (value) { return value >= threshold; }).length;
  }
  // One decimal, ties upwards, as in the table.
  function tenths(value) { return (Math.round(10 * value) / 10).toFixed(1); }
  function update() {
    var threshold = Number(slider.value);
    var found = flagged(sides[0], threshold), falsely = flagged(sides[1], threshold);
    byId("threshold-value").textContent = threshold.toFixed(2);
    byId("threshold-sensitivity").textContent = tenths(100 * (found / sides[0].length)) + " %";
    byId("threshold-specificity").textContent = tenths(100 * ((sides[1].length - falsely) / sides[1].length)) + " %";
    byId("threshold-found").textContent = tenths(100 * found / all);
    byId("threshold-missed").textContent = tenths(100 * (sides[0].length - found) / all);
    byId("threshold-false").textContent = tenths(100 * falsely / all);
    line.setAttribute("x1", left + width * threshold);
    line.setAttribute("x2", left + width * threshold);
  }
  slider.addEventListener("input", update);
  byId("thresholds").hidden = false;
  update();
})();
(function () {
  "use strict";
  var source = document.getElementById("explorer-data");
  if (!source) return;
  var rows = JSON.parse(source.textContent);
  var box = document.getElementById("explorer");
  var body = document.querySelector("#explorer-table tbody");
  var heads = Array.prototype.slice.call(document.querySelectorAll("#explorer-table th"));
  var byId = function (id) { return document.getElementById(id); };
  var text = byId("filter-text");
  var choices = [[2, byId("filter-split")], [3, byId("filter-label")], [4, byId("filter-predicted")]];
  var correct = byId("filter-correct");
  var size = 25, page = 0, column = 5, rising = false, shown = rows;

  function matches(row) {
    var needle = text.value.trim().toLowerCase();
    if (needle && (row[0] + " " + row[1]).toLowerCase().indexOf(needle) < 0) return false;
    for (var i = 0; i < choices.length; i++) {
      var value = choices[i][1].value;
      if (value && row[choices[i][0]] !== value) return false;
    }
    return !correct.value || (row[3] === row[4]) === (correct.value === "right");
  }
  function compare(a, b) {
    var order = a[column] < b[column] ? -1 : a[column] > b[column] ? 1 : 0;
    if (order === 0) return a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0;
    return rising ? order : -order;
  }
  function draw() {
    var pages = Math.max(1, Math.ceil(shown.length / size));
    page = Math.min(page, pages - 1);
    body.textContent = "";
    shown.slice(page * size, page * size + size).forEach(function (row) {
      var line = document.createElement("tr");
      if (row[3] !== row[4]) line.className = "wrong";
      row.forEach(function (value, i) {
        var cell = document.createElement(i === 0 ? "th" : "td");
        if (i === 0) cell.scope = "row";
        if (i === 5) { cell.className = "number"; value = value.toFixed(3); }
        cell.textContent = value;
        line.appendChild(cell);
      });
      body.appendChild(line);
    });
    byId("explorer-count").textContent = shown.length.toLocaleString("en") + " of " + rows.length.toLocaleString("en") + " predictions";
    byId("page-number").textContent = "Page " + (page + 1) + " of " + pages;
    byId("page-previous").disabled = page === 0;
    byId("page-next").disabled = page >= pages - 1;
  }
  function update() {
    heads.forEach(function (head, i) {
      if (i === column) head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    shown = rows.filter(matches).sort(compare);
    page = 0;
    draw();
  }
  heads.forEach(function (head, i) {
    head.querySelector("button").addEventListener("click", function () {
      rising = i === column ? !rising : i !== 5;
      column = i;
      update();
    });
  });
  text.addEventListener("input", update);
  choices.forEach(function (choice) { choice[1].addEventListener("change", update); });
  correct.addEventListener("change", update);
  byId("page-previous").addEventListener("click", function () { page--; draw(); });
  byId("page-next").addEventListener("click", function () { page++; draw(); });
  box.hidden = false;
  update();
})();
