// Tables whose rows stay the same elements while their numbers change, so that the keyboard keeps its place.

import { h } from "./parts.js";

// Rows whose order follows numbers that change do not change places more often.
const REST_MS = 10000;

// columns: {name, label, class, value(row): what is sorted by, make(row): a cell's content,
//           update(cell, row)}; key(row): its identity; sort: [column's name, 1 or -1]; limit: most rows.
// rows are drawn by `draw(rows)`; which of them were left out is returned.
export function table({ columns, key, sort = null, limit = 50, label, empty = "none" }) {
  const body = h("tbody");
  const heads = new Map();
  const known = new Map();
  let rows = [];
  let order = new Map(), orderedAt = 0;
  const row = h("tr", null, columns.map((column) => {
    const head = h("th", { scope: "col", class: column.class }, sort && column.value
      ? h("button", { type: "button", text: column.label, click: () => sorted(column) })
      : column.label);
    heads.set(column.name, head);
    return head;
  }));
  const element = h("div", { class: "scroll" }, h("table", { "aria-label": label }, h("thead", null, row), body));

  function sorted(column) {
    const first = rows.length && typeof column.value(rows[0]) === "string" ? 1 : -1;
    sort = [column.name, sort[0] === column.name ? -sort[1] : first];
    orderedAt = 0;
    draw(rows);
  }

  function ordered() {
    if (!sort) return rows;
    if (Date.now() - orderedAt < REST_MS && rows.length === order.size && rows.every((it) => order.has(key(it)))) {
      return [...rows].sort((a, b) => order.get(key(a)) - order.get(key(b)));
    }
    orderedAt = Date.now();
    const column = columns.find((it) => it.name === sort[0]);
    const compare = (a, b) => {
      const [one, other] = [column.value(a), column.value(b)];
      if (one === other) return 0;
      if (one === null || one === undefined) return 1; // what is not known comes last
      if (other === null || other === undefined) return -1;
      return (one < other ? -1 : 1) * sort[1];
    };
    const sorted = [...rows].sort((a, b) => compare(a, b) || (key(a) < key(b) ? -1 : 1));
    order = new Map(sorted.map((it, index) => [key(it), index]));
    return sorted;
  }

  function cells(each) {
    const cells = columns.map((column) => h("td", { class: column.class }));
    const line = { element: h("tr", null, cells), cells };
    columns.forEach((column, index) => {
      const content = column.make ? column.make(each) : null;
      if (content !== null && content !== undefined) cells[index].append(...[content].flat());
    });
    return line;
  }

  function draw(given) {
    rows = given;
    for (const [name, head] of heads) {
      const order = sort && sort[0] === name ? (sort[1] > 0 ? "ascending" : "descending") : null;
      if (order) head.setAttribute("aria-sort", order);
      else head.removeAttribute("aria-sort");
    }
    const shown = ordered().slice(0, limit);
    const lines = shown.map((each) => {
      const id = key(each);
      let line = known.get(id);
      if (!line) known.set(id, (line = cells(each)));
      columns.forEach((column, index) => column.update?.(line.cells[index], each));
      return line;
    });
    const kept = new Set(lines);
    for (const [id, line] of known) if (!kept.has(line)) known.delete(id);
    const elements = lines.map((it) => it.element);
    if (!elements.length) elements.push(h("tr", null, h("td", { colspan: columns.length, class: "soft", text: empty })));
    // Moved only where the order is another: a row that moves loses the focus.
    if (elements.length !== body.children.length || elements.some((it, index) => it !== body.children[index])) {
      const focused = document.activeElement;
      body.replaceChildren(...elements);
      if (body.contains(focused)) focused.focus({ preventScroll: true });
    }
    return rows.length - shown.length;
  }

  return { element, draw };
}
