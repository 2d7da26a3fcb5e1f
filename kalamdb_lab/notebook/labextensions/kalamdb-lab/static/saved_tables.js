// A notebook is saved with a table beside each widget of ours, as HTML. The application prefers
// the widget, even where no kernel has it any more: then the table is shown in its place.

const WIDGET = "application/vnd.jupyter.widget-view+json";
const HTML = "text/html";
const OUTPUT = "jp-OutputArea-output";
const NOTE = "last state saved; run the cell to go on";
// The words of the widgets' own extension; it shows them as the only text of an output.
const LOST = /^Error displaying widget/;
const LOADING = /^Loading widget/;

const textOf = (node) =>
  node.childNodes.length === 1 && node.firstChild.nodeType === Node.TEXT_NODE
    ? node.firstChild.data
    : "";

// Without a kernel nothing is ever loaded; before the session is ready there may still be one.
const hasNoKernel = ({ isReady, session }) => isReady && !session?.kernel;

function isOurs({ data }) {
  const html = data[HTML];
  if (!data[WIDGET] || typeof html !== "string") return false;
  const { body } = new DOMParser().parseFromString(html, HTML);
  return !!body.querySelector(':scope > [class^="kalam"]');
}

class SavedTables {
  constructor(panel) {
    this.panel = panel;
    this.tables = new WeakMap(); // the table in place of a widget, by the node of the widget
    const root = panel.content.node;
    const observer = new MutationObserver((records) => this.follow(records));
    observer.observe(root, { childList: true, subtree: true });
    const lookAtAll = () => this.lookWithin(root);
    panel.sessionContext.kernelChanged.connect(lookAtAll);
    panel.sessionContext.ready.then(lookAtAll, () => {});
    panel.disposed.connect(() => {
      observer.disconnect();
      panel.sessionContext.kernelChanged.disconnect(lookAtAll);
    });
    lookAtAll();
  }

  follow(records) {
    for (const { target, addedNodes } of records) {
      if (target.classList?.contains(OUTPUT)) this.look(target);
      else if (addedNodes.length && !target.closest?.(`.${OUTPUT}`)) {
        addedNodes.forEach((node) => node.nodeType === Node.ELEMENT_NODE && this.lookWithin(node));
      }
    }
  }

  lookWithin(root) {
    if (root.classList.contains(OUTPUT)) this.look(root);
    else root.querySelectorAll(`.${OUTPUT}`).forEach((node) => this.look(node));
  }

  look(node) {
    const text = textOf(node);
    if (LOST.test(text) || (LOADING.test(text) && hasNoKernel(this.panel.sessionContext))) {
      this.replace(node);
    } else if (node.firstElementChild && this.tables.has(node)) this.giveBack(node);
  }

  // The outputs of an area and their models stand in one order.
  find(node) {
    const area = this.panel.content.widgets.find((cell) => cell.node.contains(node))?.outputArea;
    const index = area?.widgets.findIndex((output) => output.node.contains(node)) ?? -1;
    if (index < 0 || index >= area.model.length) return null;
    const output = area.widgets[index];
    const widget = output.layout?.widgets?.find((part) => part.node === node);
    return widget ? { output, widget, area, model: area.model.get(index) } : null;
  }

  replace(node) {
    const found = this.find(node);
    if (!found || !isOurs(found.model)) return;
    const { output, widget, area, model } = found;
    let table = this.tables.get(node)?.table;
    if (!table || table.isDisposed) {
      table = area.rendermime.createRenderer(HTML);
      table.addClass(OUTPUT);
      // Before the widget: the application renews the last part of an output.
      output.layout.insertWidget(output.layout.widgets.indexOf(widget), table);
      this.tables.set(node, { table, widget });
    }
    node.textContent = "";
    widget.hide();
    table.renderModel(model).then(
      () => {
        const note = document.createElement("div");
        note.className = "kalam-saved";
        note.style.cssText = "font-size: 85%; opacity: 0.75; padding-bottom: 4px";
        note.textContent = NOTE;
        table.node.querySelectorAll(":scope > .kalam-saved").forEach((old) => old.remove());
        table.node.prepend(note);
      },
      (error) => console.error(error),
    );
  }

  giveBack(node) {
    const { table, widget } = this.tables.get(node);
    this.tables.delete(node);
    table.dispose();
    widget.show();
  }
}

export function plugin({ INotebookTracker }) {
  return {
    id: "kalamdb-lab:saved-tables",
    description: "Shows the saved state of live tables whose kernel is gone.",
    autoStart: true,
    // Pages without notebooks, such as Notebook 7's list of files, have no tracker.
    optional: [INotebookTracker],
    activate: (app, tracker) => {
      tracker?.forEach((panel) => new SavedTables(panel));
      tracker?.widgetAdded.connect((_, panel) => new SavedTables(panel));
    },
  };
}
