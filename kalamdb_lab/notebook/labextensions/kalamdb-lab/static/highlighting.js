// A cell whose first line begins with %%kalam is SQL to the editor; every other cell stays what it
// is. The lexical rules are those of kalamdb_lab/notebook/cell_text.py, which reads such cells.

const words = (text) => new Set(text.trim().toLowerCase().split(/\s+/));

const KEYWORDS = words(`
  add all alter analyze and anti any as asc asof backup begin between by cancel cascade case cast
  check collate column commit compact conflict constraint create cross cube database default delete
  desc describe distinct do drop else end escape except execute exists explain filter flush for from
  full group having if ilike in index inner insert intersect interval into is isnull join kill lateral
  left like limit manifest modify namespace namespaces natural not nothing notnull nulls offset on
  optimize options or order outer over partition password primary qualify recursive references
  register rename replace restore returning right rollback rollup select semi set show some start
  storage storages subscribe table tables tblproperties then to transaction union unique unnest
  unregister update use using vacuum values view when where window with
`);
// Words of statements that are good names of columns too: only those in capitals are coloured.
const NAMES_TOO = words(`
  access ann auto_increment backups character config count credentials current_date current_time
  current_timestamp current_user description email first following grouping history info internal
  job jobs key last level live oauth path preceding precision queries query range role row rows sets
  shared similar stats stream type unbounded user users varying vector
`);
const ATOMS = words("true false null");
const TYPES = words(`
  array bigint bigserial binary blob bool boolean bytea bytes char date datetime decimal double
  embedding float float4 float64 float8 int int2 int4 int8 integer json jsonb map mediumint numeric
  nvarchar real serial smallint string struct text time timestamp timestamptz tinyint ubigint
  uinteger usmallint utinyint uuid varbinary varchar
`);
// After these words a bracket opens a list; after other words it is a subscript.
const BEFORE_OPERAND = words(`
  all and any array as between by case distinct else from having in is like limit not offset on or
  qualify returning select set some then using values when where with
`);

const MAGIC = /^[ \t]*%%kalam(?![^\s])/;
const WORD = /^[\p{L}_][\p{L}\p{N}_]*/u;
const NUMBER = /^(?:[0-9][0-9_]*(?:\.(?!\.)[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?/;
const OPERATOR = /^(?:<=>|->>|->|::|:=|\|\||<>|!=|<=|>=|==|<<|>>|\/\/|\*\*|[-+*/%<>=&^|~])/;
const CLOSERS = { "(": ")", "[": "]", "{": "}" };
const PARAMETER = "propertyName";

function isKalam(doc) {
  for (let number = 1; number <= doc.lines; number += 1) {
    const { text } = doc.line(number);
    if (text.trim()) return MAGIC.test(text);
  }
  return false;
}

// The state of the scanner at a place of the text.
//   part: "blank" before the first line, "line" within it, "sql" after its options
//   comments, quote, braces: the comments that are open, the quote, the braces of a {{ }}
//   open: the closers of the brackets that are open; with ":" where a colon belongs to the bracket
//   operand, adjoined: whether the last token is an operand, and whether it ends right here
const startState = () => ({
  part: "blank",
  takesValue: false,
  comments: 0,
  quote: "",
  style: null,
  braces: 0,
  open: [],
  operand: false,
  adjoined: false,
});

function token(stream, state) {
  if (stream.sol()) {
    state.adjoined = false;
    if (state.part === "line") state.part = "sql";
  }
  if (state.comments) return inComment(stream, state);
  if (state.quote) return inQuote(stream, state);
  if (state.braces) return inExpression(stream, state);
  if (stream.eatSpace()) {
    state.adjoined = false;
    return null;
  }
  if (state.part === "blank") {
    state.part = "line";
    if (stream.match("%%kalam")) return "meta";
  }
  return state.part === "line" ? onFirstLine(stream, state) : inSql(stream, state);
}

function onFirstLine(stream, state) {
  if (state.takesValue) {
    state.takesValue = false;
    if (stream.match(/^[^\s{'"-][^\s]*/)) return "string";
  }
  const option = stream.match(/^--(\w[\w-]*)/);
  if (option) {
    state.takesValue = ["as", "save"].includes(option[1]);
    return "meta";
  }
  if (stream.match(/^@[^\s{]*/)) return "meta";
  if (stream.match(/^[\p{L}_][\p{L}\p{N}_]*(?=\s*<<)/u)) return "variableName.definition";
  if (stream.match("<<")) return "operator";
  if (stream.match("{{", false)) return inSql(stream, state);
  state.part = "sql";
  return inSql(stream, state);
}

function inSql(stream, state) {
  const { operand, adjoined } = state;
  const ends = (isOperand, style) => {
    state.operand = isOperand;
    state.adjoined = true;
    return style;
  };
  if (stream.match("--")) {
    stream.skipToEnd();
    return "comment";
  }
  if (stream.match("/*")) {
    state.comments = 1;
    return inComment(stream, state);
  }
  if (stream.match("{{")) {
    state.braces = 2;
    return inExpression(stream, state);
  }
  if (stream.match(/^[xX]?'/)) return openQuote(stream, state, "'", "string");
  if (stream.match('"')) return openQuote(stream, state, '"', "string.special");
  if (stream.match(NUMBER)) return ends(true, "number");
  const word = stream.match(WORD);
  if (word) {
    const isName = stream.peek() === "." || stream.string[stream.start - 1] === ".";
    return ends(
      !BEFORE_OPERAND.has(word[0].toLowerCase()),
      isName ? null : styleOfWord(word[0], word[0].toLowerCase()),
    );
  }
  if (stream.peek() === ":") return colon(stream, state, operand && adjoined, ends);
  if (stream.match(OPERATOR)) return ends(false, "operator");
  return bracket(stream.next(), state, operand, ends);
}

function styleOfWord(word, lower) {
  if (ATOMS.has(lower)) return "atom";
  if (KEYWORDS.has(lower) || (NAMES_TOO.has(lower) && word === word.toUpperCase())) {
    return "keyword";
  }
  return TYPES.has(lower) ? "variableName.standard" : null;
}

function bracket(character, state, operand, ends) {
  const top = state.open[state.open.length - 1];
  const closer = CLOSERS[character];
  if (closer) {
    const ownsColons = closer === "}" || (closer === "]" && operand);
    state.open.push(ownsColons ? `${closer}:` : closer);
    return ends(false, null);
  }
  if (top && character === top[0]) state.open.pop();
  else if (character === "," && top === "}") state.open[state.open.length - 1] = "}:";
  return ends(")]}".includes(character), null);
}

function colon(stream, state, touches, ends) {
  if (stream.match("::") || stream.match(":=")) return ends(false, "operator");
  const top = state.open[state.open.length - 1] ?? "";
  const isSeparator = top.endsWith(":");
  if (top === "}:") state.open[state.open.length - 1] = "}";
  if (!isSeparator && !touches && stream.match(/^:[\p{L}_][\p{L}\p{N}_]*/u)) {
    return ends(true, PARAMETER);
  }
  stream.next();
  return ends(false, null);
}

function inComment(stream, state) {
  while (state.comments && !stream.eol()) {
    if (stream.match("/*")) state.comments += 1;
    else if (stream.match("*/")) state.comments -= 1;
    else stream.next();
  }
  state.adjoined = false;
  return "comment";
}

function openQuote(stream, state, quote, style) {
  state.quote = quote;
  state.style = style;
  return inQuote(stream, state);
}

function inQuote(stream, state) {
  const { quote, style } = state;
  while (!stream.eol()) {
    if (stream.next() === quote && !stream.eat(quote)) {
      state.quote = "";
      state.operand = state.adjoined = true;
      break;
    }
  }
  return style;
}

// Braces of Python dictionaries and sets within {{ }} are counted.
function inExpression(stream, state) {
  while (state.braces && !stream.eol()) {
    const character = stream.next();
    if (character === "{") state.braces += 1;
    else if (character === "}") state.braces -= 1;
  }
  state.operand = state.adjoined = !state.braces;
  return PARAMETER;
}

export function plugin({ StreamLanguage }, state, codemirror) {
  const { Compartment, EditorState, Prec, Text } = state;
  const sql = StreamLanguage.define({
    name: "kalam",
    startState,
    token,
    languageData: {
      commentTokens: { line: "--", block: { open: "/*", close: "*/" } },
      closeBrackets: { brackets: ["(", "[", "{", "'", '"'] },
    },
  });
  // The first language of an editor is the one that counts: ours comes and goes with the line.
  const place = new Compartment();
  const chosen = (doc) => (isKalam(doc) ? sql : []);
  const follow = EditorState.transactionExtender.of((transaction) => {
    if (!transaction.docChanged) return null;
    const next = chosen(transaction.newDoc);
    const isSame = (place.get(transaction.startState) === sql) === (next === sql);
    return isSame ? null : { effects: place.reconfigure(next) };
  });
  const extension = (source) => [
    Prec.highest(place.of(chosen(Text.of(source.split(/\r\n?|\n/))))),
    follow,
  ];
  return {
    id: "kalamdb-lab:highlighting",
    description: "Highlights SQL in cells that begin with %%kalam.",
    autoStart: true,
    requires: [codemirror.IEditorExtensionRegistry],
    activate: (app, registry) => {
      registry.addExtension({
        name: "kalamdb-lab:highlighting",
        factory: ({ model }) =>
          model?.type === "code"
            ? codemirror.EditorExtensionRegistry.createImmutableExtension(
                extension(model.sharedModel.getSource()),
              )
            : null,
      });
    },
  };
}
