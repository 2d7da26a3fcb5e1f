// The grid of live tables: rows by position, asked of the kernel as they come into sight.
// Texts come formatted; sorting and filtering happen in the kernel. No library, no build.
const ROW = 24; // px, as in grid.css
const TALLEST = 6e6; // px: browsers draw no taller element; beyond it the scrollbar is scaled
const SILENT = 6000; // ms: the kernel says something each second
const places = new Map(); // uid of a model -> the copies of its grid in this page
const make = (tag, className, parent, attributes = {}) => {
  const node = Object.assign(document.createElement(tag), { className });
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent?.append(node);
  return node;
};
const put = (node, text) => node.textContent === text || (node.textContent = text);
const number = (value) => value.toLocaleString("en-US");
const units = [[36e5, " h ago"], [6e4, " min ago"], [1e3, " s ago"], [0, "just now"]];
const ago = (ms, [unit, word] = units.find(([least]) => ms >= 1.5 * least)) => (unit ? Math.round(ms / unit) : "") + word;
class Place {
  id = `kg${Math.random().toString(36).slice(2)}`;
  rows = new Map(); // position -> {cells, name, mark}
  shown = new Map(); // name -> element
  columns = []; widths = []; state = null; total = 0; top = 0; at = -1; heard = Date.now(); lonely = 0; tries = 0;
  constructor(model) {
    this.model = model;
    this.root = make("div", "kalam-grid", null, { "data-lm-suppress-shortcuts": "true", "data-fading": model.get("fading") });
    const bar = make("div", "kg-bar", this.root);
    this.word = make("span", "kg-state", bar, { role: "status" });
    this.age = make("span", "kg-age", bar);
    bar.insertAdjacentHTML("beforeend", '<svg class="kg-spark" role="img" viewBox="0 0 120 18"><title/><path/></svg>');
    this.count = make("span", "kg-count", bar);
    this.note = make("span", "kg-note", bar, { role: "alert" });
    if (model.get("has_tools")) {
      const title = 'Words in any column; name:text; price>5; name=null; "two words"';
      this.filter = make("input", "kg-filter", bar, { type: "search", placeholder: "Filter", "aria-label": "Filter", title });
      const ask = () => model.send({ kind: "filter", text: this.filter.value });
      this.filter.oninput = () => (clearTimeout(this.typing), (this.typing = setTimeout(ask, 150)));
      this.button = make("button", "kg-pause", bar, { type: "button" });
      this.button.onclick = () => model.send({ kind: "pause", on: this.state?.word !== "paused" });
    }
    this.pane = make("div", "kg-pane", this.root, { role: "grid", tabindex: "0", "aria-label": model.get("label") });
    this.pane.style.maxHeight = `${(model.get("height") + 1) * ROW}px`;
    this.head = make("div", "kg-row kg-head", this.pane, { role: "row", "aria-rowindex": "1" });
    this.body = make("div", "kg-body", this.pane, { role: "rowgroup" });
    Object.assign(this.pane, { onscroll: () => this.scrolled(), onkeydown: (event) => this.key(event) });
    this.pane.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.root.addEventListener("keydown", (event) => event.stopPropagation());
    this.body.onclick = (event) => this.click(event);
    this.body.addEventListener("animationend", ({ target }) =>
      target.matches(".kg-del") ? target.remove() : target.classList.remove("kg-ins", "kg-upd", "kg-new"));
    this.root.addEventListener("focusin", ({ target }) => (this.focus = target));
    this.root.addEventListener("focusout", () => queueMicrotask(() => this.root.isConnected && (this.focus = null)));
    new ResizeObserver(() => this.settle()).observe(this.pane);
    this.clock = setInterval(() => (this.tell(), this.again()), 500);
  }
  // Outputs are drawn anew whenever what they save is renewed: the grid then moves over as it is.
  attach(holder) {
    const focus = this.focus; // which it loses on the way
    holder.append(this.root);
    this.set = 0; // out of the page it forgot how far it was scrolled
    const refocus = () => document.activeElement === document.body && focus?.focus({ preventScroll: true });
    for (const wait of [setTimeout, requestAnimationFrame]) wait(() => (this.settle(), refocus())); // holder is in the page
  }
  settle() {
    if (this.state && this.root.isConnected) this.move(this.top);
    this.ask(!this.columns.length); // beats of the kernel come unasked, and have no header
  }
  get isLoose() { return !this.root.isConnected && !this.root.closest(".jp-OutputArea-output"); }
  // --- what the kernel says
  take({ kind, columns, state, version, slices }) {
    Object.assign(this, { heard: Date.now(), lost: false });
    if (kind === "header" && JSON.stringify(columns) !== JSON.stringify(this.columns)) this.header(columns);
    if (state) this.told(state);
    if (slices?.[this.id] && this.columns.length) this.fill(version, slices[this.id]);
    if (state) this.tell();
  }
  header(columns) {
    this.widths = (this.columns = columns).map(({ name, look }) => Math.max({ bar: 20, button: 11 }[look] ?? 6, Math.min(44, name.length + 4)));
    for (const old of [this.rows, this.shown]) this.head.replaceChildren(), this.body.replaceChildren(), old.clear();
    columns.forEach(({ name, type, right, sorts }, at) => {
      const cell = make("div", `kg-cell${right ? " kg-right" : ""}`, this.head, { role: "columnheader", title: `${name} ${type}` });
      Object.assign(cell, { textContent: name, onclick: () => sorts && this.sort(at) });
      if (sorts) cell.tabIndex = 0;
      cell.onkeydown = (event) => {
        const next = { ArrowLeft: cell.previousSibling, ArrowRight: cell.nextSibling, ArrowDown: this.pane }[event.key];
        const isSort = event.key === "Enter" || event.key === " ";
        if (isSort || next) event.preventDefault();
        isSort ? this.sort(at) : next?.focus();
      };
    });
  }
  told(state) {
    const isFirst = !this.state;
    Object.assign(this, { state, total: state.shown, at: Math.min(this.at, state.shown - 1) });
    this.body.style.height = `${Math.min(this.total * ROW, TALLEST)}px`;
    this.pane.setAttribute("aria-rowcount", this.total + 1);
    if (isFirst || this.top > this.range) this.move(this.top);
    [...this.head.children].forEach((cell, at) => {
      const order = state.sort?.[0] !== at ? "none" : state.sort[1] ? "descending" : "ascending";
      if (this.columns[at].sorts) cell.setAttribute("aria-sort", order);
    });
    if (this.filter && document.activeElement !== this.filter) this.filter.value = state.filter;
    const svg = this.root.querySelector("svg"), most = Math.max(1, ...state.rate), first = 60 - state.rate.length;
    const dots = state.rate.map((rate, at) => `${(first + at) * 2 + 2},${(16.5 - (15 * rate) / most).toFixed(1)}`);
    put(svg.firstChild, `rows changed in each of the last ${state.rate.length} seconds, ${number(most)} at most`);
    svg.lastChild.setAttribute("d", `M${dots.join("L")}`);
  }
  fill(version, slice) {
    if (version !== this.version || this.rows.size > 3000) slice.more || this.rows.clear();
    this.version = version;
    slice.rows.forEach((cells, at) => {
      this.rows.set(slice.first + at, { cells, name: slice.names[at], mark: slice.marks[at] });
      cells.forEach((cell, place) => {
        const look = this.columns[place].look, text = Array.isArray(cell) ? cell[0] : cell ?? "NULL";
        if (look !== "bar") this.widths[place] = Math.max(this.widths[place], Math.min(44, text.length + (look === "state" ? 7 : 4)));
      });
    });
    this.pane.style.setProperty("--kg-tracks", this.widths.map((wide) => `minmax(${wide}ch, ${wide}fr)`).join(" "));
    this.pane.style.setProperty("--kg-wide", `${this.widths.reduce((sum, wide) => sum + wide, 0)}ch`);
    this.draw(new Set(slice.gone));
  }
  // --- drawing; `top` is where the sight begins in px of rows, and the scrollbar follows it
  get high() { return Math.max(this.pane.clientHeight - ROW, ROW); }
  get range() { return Math.max(this.total * ROW - this.high, 0); }
  get isScaled() { return this.total * ROW > TALLEST; }
  move(top) {
    this.top = Math.max(0, Math.min(top, this.range));
    this.pane.scrollTop = this.isScaled ? (this.top / this.range) * (TALLEST - this.high) : this.top;
    this.set = this.pane.scrollTop;
    this.draw();
  }
  scrolled() {
    if (this.pane.scrollTop === this.set || !this.root.isConnected) return; // we did it
    const top = (this.set = this.pane.scrollTop);
    this.top = this.isScaled ? Math.min(1, top / (TALLEST - this.high)) * this.range : top;
    this.draw();
  }
  draw(gone = new Set()) {
    const used = new Map(), start = Math.floor(this.top / ROW), end = start + Math.ceil(this.high / ROW) + 7;
    const shift = this.isScaled ? this.pane.scrollTop - this.top : 0;
    for (let at = Math.max(0, start - 6); at < Math.min(this.total, end); at++) {
      const row = this.rows.get(at);
      let key = row?.name;
      if (!row) continue;
      while (used.has(key)) key += "'"; // rows without a key may repeat
      const node = this.shown.get(key) ?? make("div", "kg-row", this.body, { role: "row", id: `${this.id}-${key}` });
      used.set(key, node);
      if (node.row !== row) this.write(node, row);
      node.style.transform = `translateY(${at * ROW + shift}px)`;
      node.classList.toggle("kg-odd", at % 2 === 1);
      node.classList.toggle("kg-at", at === this.at);
      node.setAttribute("aria-rowindex", at + 2);
      if (at === this.at) this.pane.setAttribute("aria-activedescendant", node.id);
    }
    const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    for (const [key, node] of [...this.shown].filter(([key]) => !used.has(key))) {
      if (isCalm || !gone.has(key.replace(/'+$/, ""))) node.remove();
      else node.replaceChildren(), (node.className = "kg-row kg-del"); // a flash behind the row that takes its place
    }
    this.shown = used;
    this.ask();
  }
  write(node, row) {
    this.columns.forEach(({ look, right }, place) => {
      const cell = node.children[place] ?? make("div", `kg-cell${right ? " kg-right" : ""}`, node, { role: "gridcell" });
      const value = row.cells[place], [text, tip] = Array.isArray(value) ? value : [value ?? "NULL", ""];
      if (cell.dataset.text === text && cell.title === tip && cell.classList.contains("kg-null") === (value === null)) return;
      if (node.row && row.mark === "u") cell.classList.add("kg-new"), (cell.dataset.flip = node.flip ^ 1);
      Object.assign(cell, { title: tip, textContent: "" }).dataset.text = text;
      cell.classList.toggle("kg-null", value === null);
      const share = Math.round(100 * text) || 0, meter = { role: "progressbar", "aria-valuenow": share, "aria-label": "progress" };
      if (look === "button" && text) make("button", "kg-press", cell, { type: "button", tabindex: "-1" }).textContent = text;
      if (look === "state") make("i", `kg-dot kg-is-${text.replace(/\W/g, "")}`, cell);
      if (look === "bar") make("i", "", make("div", "kg-meter", cell, meter)).style.width = `${share}%`;
      if (look !== "button") cell.append(look === "bar" ? `${share}%` : text);
    });
    node.row = row; // of two equal animations, changing to the other one begins anew
    if (row.mark !== " ") node.className = `kg-row kg-${row.mark === "i" ? "ins" : "upd"} kg-${(node.flip ^= 1)}`;
    row.mark = " ";
  }
  tell() {
    const state = this.state;
    if ((this.lonely = this.isLoose ? this.lonely + 1 : 0) > 60) this.leave(); // nobody moved it on
    if (!state) return;
    const isGone = state.word !== "ended" && (this.lost || Date.now() - this.heard > SILENT);
    const word = isGone ? "kernel gone" : state.word, ended = ` ${state.ended_at}${state.why && ` · ${state.why}`}`;
    this.root.dataset.state = word.replace(" ", "-");
    put(this.word, word + ({ ended, paused: ` · +${number(state.waiting)} waiting` }[word] ?? ""));
    put(this.age, state.age_ms === null ? "" : ago(Math.max(0, state.age_ms + Date.now() - this.heard)));
    put(this.note, state.note);
    put(this.count, state.count);
    if (this.button) (this.button.disabled = word === "ended" || isGone), put(this.button, state.word === "paused" ? "Resume" : "Pause");
  }
  // --- what the reader does
  ask(hello = false) {
    const count = Math.ceil(this.high / ROW) + 60, first = Math.max(0, Math.floor(this.top / ROW) - 30);
    const isNear = Math.abs(this.asked?.first - first) < 15 && this.asked.count === count;
    if (!this.root.isConnected || (isNear && !hello)) return;
    this.asked = { first, count };
    this.hello ||= hello;
    const send = (hello) => ((this.timer = this.hello = 0), this.model.send({ kind: "window", view: this.id, ...this.asked, hello }));
    this.timer ||= setTimeout(() => send(!!this.hello), 50); // no timer remains where sending throws
  }
  again() { // what was lost on the way is asked for until it comes: each second, later each ten
    const isBare = !this.columns.length || (this.total && !this.rows.has(Math.floor(this.top / ROW)));
    this.tries = isBare && !this.lost ? this.tries + 1 : 0;
    if (this.tries && this.tries % (this.tries < 40 ? 2 : 20) === 0) this.ask(true);
  }
  sort(at) {
    const [column, isDown] = this.state?.sort ?? [], isSame = column === at;
    this.model.send({ kind: "sort", column: isSame && isDown ? null : at, descending: isSame && !isDown });
  }
  wheel(event) {
    if (!this.isScaled || event.shiftKey || event.ctrlKey || !event.deltaY) return;
    event.preventDefault();
    this.move(this.top + event.deltaY * (event.deltaMode ? ROW : 1));
  }
  key(event) {
    const page = Math.max(1, Math.floor(this.high / ROW) - 1), end = this.total;
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -end, End: end }[event.key];
    if (!step || event.target !== this.pane || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const from = this.at < 0 ? Math.floor(this.top / ROW) - (step > 0) : this.at;
    this.at = Math.max(0, Math.min(this.total - 1, from + step));
    const upper = this.at * ROW;
    this.move(upper < this.top ? upper : Math.max(this.top, upper + ROW - this.high));
  }
  click({ target }) {
    const node = target.closest(".kg-row"), button = target.closest(".kg-press");
    if (!node?.row) return; // beside the rows
    if (button) this.model.send({ kind: "press", name: node.row.name }), (button.disabled = true), setTimeout(() => (button.disabled = false), 2000);
    this.at = Number(node.getAttribute("aria-rowindex")) - 2;
    this.draw();
  }
}

export default {
  initialize({ model }) {
    const all = new Set();
    places.set(model.get("uid"), all);
    model.on("msg:custom", (message) => all.forEach((place) => place.take(message)));
    model.on("comm_live_update", () => all.forEach((place) => ((place.lost = true), place.tell())));
    return () => places.delete(model.get("uid"));
  },
  render({ model, el }) {
    const all = places.get(model.get("uid"));
    const { top = 0, at = -1 } = [...all].at(-1) ?? {};
    const place = [...all].find(({ isLoose }) => isLoose) ?? Object.assign(new Place(model), { top, at });
    place.leave = () => (clearInterval(place.clock), all.delete(place) && model.send({ kind: "gone", view: place.id }));
    all.add(place) && place.attach(el);
  },
};
