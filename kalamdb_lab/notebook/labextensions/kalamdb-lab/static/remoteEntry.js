// The container that JupyterLab and Notebook 7 load a prebuilt extension from. It is written by
// hand and needs no build: it brings no modules of its own and uses the application's.
(() => {
  "use strict";
  // The files of the plugins, and the packages of the application that each is given.
  const PLUGINS = {
    highlighting: ["@codemirror/language", "@codemirror/state", "@jupyterlab/codemirror"],
    saved_tables: ["@jupyterlab/notebook"],
  };
  // Browsers keep these files for a year. Their address in package.json ends in a hash of all.
  const { search } = new URL(document.currentScript.src);
  let shared;

  const isLower = (left, right) => {
    const numbers = (version) => version.split(/[.+-]/, 3).map((part) => parseInt(part, 10) || 0);
    const [a, b] = [numbers(left), numbers(right)];
    const at = a.findIndex((number, index) => number !== b[index]);
    return at >= 0 && a[at] < b[at];
  };

  // These packages work once in a page only, so the copy that is in use goes before newer ones.
  const load = async (name) => {
    const copies = Object.entries(shared[name] ?? {});
    if (!copies.length) throw new Error(`kalamdb-lab: the application does not share ${name}`);
    const best = copies.reduce((best, copy) => {
      if (!best[1].loaded !== !copy[1].loaded) return copy[1].loaded ? copy : best;
      return isLower(best[0], copy[0]) ? copy : best;
    });
    const module = await best[1].get();
    return module();
  };

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB["kalamdb-lab"] = {
    init(scope) {
      shared = scope;
    },
    async get(module) {
      if (module !== "./extension") throw new Error(`kalamdb-lab has no ${module}`);
      const plugins = await Promise.all(
        Object.entries(PLUGINS).map(async ([file, names]) => {
          const [script, ...packages] = await Promise.all([
            import(`./${file}.js${search}`),
            ...names.map(load),
          ]);
          return script.plugin(...packages);
        }),
      );
      return () => ({ __esModule: true, default: plugins });
    },
  };
})();
