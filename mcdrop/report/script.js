"use strict";
// Sorts a table when the button in one of its heads is pressed: first up, then down.
(function () {
  function key(cell) {
    var text = (cell.dataset.value || cell.textContent).trim();
    var number = text.replace(/\u2212/g, "-").match(/^[<+]? ?(-?[\d.]+(?:e[-+]?\d+)?)/i);
    return number ? parseFloat(number[1]) : text.toLowerCase();
  }
  function order(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number") return -1;
    if (typeof b === "number") return 1;
    return a < b ? -1 : a > b ? 1 : 0;
  }
  function sort(table, column, head) {
    var up = head.getAttribute("aria-sort") !== "ascending";
    var body = table.tBodies[0];
    var rows = Array.prototype.slice.call(body.rows);
    rows.sort(function (a, b) {
      var found = order(key(a.cells[column]), key(b.cells[column]));
      return up ? found : -found;
    });
    rows.forEach(function (row) { body.appendChild(row); });
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (other) {
      other.removeAttribute("aria-sort");
    });
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
  }
  document.querySelectorAll(".mcdrop-report table").forEach(function (table) {
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (head, column) {
      var button = document.createElement("button");
      button.type = "button";
      while (head.firstChild) button.appendChild(head.firstChild);
      head.appendChild(button);
      button.addEventListener("click", function () { sort(table, column, head); });
    });
  });
}());
