// As much of a browser as the status page needs: it reads the page and the script off a host, runs the script, and prints the
// tables that are to be seen whenever they are others, each picture after a form feed.
//
// node browser.mjs http://127.0.0.1:8080

const base = process.argv[2];
const page = await (await fetch(base + "/")).text();

class Element {
  constructor(tag, id) {
    Object.assign(this, { tag, id, children: [], text: "", className: "", hidden: false });
  }
  set textContent(text) {
    this.text = text;
  }
  add(tag) {
    const element = new Element(tag);
    this.children.push(element);
    return element;
  }
  append(element) {
    this.children.push(element);
  }
  replaceChildren() {
    this.children = [];
  }
  createTHead() {
    return this.add("thead");
  }
  createTBody() {
    return this.add("tbody");
  }
  insertRow() {
    return this.add("tr");
  }
  insertCell() {
    return this.add("td");
  }
  addEventListener() {}
  rows() {
    const own = this.tag === "tr" ? [(this.className + " " + this.children.map((cell) => cell.text).join(" | ")).trim()] : [];
    return own.concat(...this.children.map((child) => child.rows()));
  }
}

const elements = {};
for (const [, tag, id] of page.matchAll(/<(\w+)[^>]* id="([\w-]+)"/g)) elements[id] = new Element(tag, id);
for (const [, id] of page.matchAll(/ id="([\w-]+)"[^>]* hidden>/g)) elements[id].hidden = true;
const section = { pools: "pools-section", steps: "pools-section" };

globalThis.document = {
  getElementById: (id) => elements[id] ?? null,
  createElement: (tag) => new Element(tag),
};
globalThis.sessionStorage = { getItem: () => null, setItem: () => {} };
const reach = globalThis.fetch;
globalThis.fetch = (path, options) => reach(base + path, options);

let shown = "";
setInterval(() => {
  const seen = ([id, element]) => element.tag === "table" && !(elements[section[id]] ?? element).hidden;
  const tables = Object.entries(elements).filter(seen);
  const picture = tables.map(([id, table]) => table.rows().map((row) => id + ": " + row + "\n").join("")).join("");
  if (picture !== shown) process.stdout.write("\f" + elements.state.text + "\n" + picture);
  shown = picture;
}, 100);

new Function(await (await reach(base + "/panel.js")).text())();
