// What a script finds in its global scope, made once per engine and then frozen: nothing that one event's run does can
// be seen by the next.
(function (host) {
  "use strict";

  const { apply, construct, defineProperty, getOwnPropertyDescriptor, getPrototypeOf, ownKeys } = Reflect;
  const { limit, checkDepth, formatTime, header, maxString, maxElements, print, kvGet, kvSet, kvDel } = host;
  const global = globalThis;

  // Code made from text could not be checked beforehand; buffers are of no use to a filter and can be huge.
  for (const name of ["eval", "Function", "GoError", "ArrayBuffer", "DataView", "Uint8Array", "Uint8ClampedArray", "Int8Array",
    "Uint16Array", "Int16Array", "Uint32Array", "Int32Array", "Float32Array", "Float64Array", "BigInt64Array", "BigUint64Array"]) {
    delete global[name];
  }
  const functionKinds = [function () {}, function* () {}, async function () {}];
  for (const f of functionKinds) {
    delete getPrototypeOf(f).constructor;
  }

  // Built-in functions run to their end whatever the time: these are kept from beginning what they could not end.
  const guard = (object, name, check) => {
    const property = getOwnPropertyDescriptor(object, name);
    const native = property.value;
    property.value = { [name](...args) { check(this, args); return apply(native, this, args); } }[name];
    defineProperty(object, name, property);
  };
  const size = (n) => { if (n > maxString) limit("a string is too long"); };
  const elements = (array) => { if (array?.length > maxElements) limit("an array is too long"); };
  const text = (v) => v === undefined || v === null ? "" : String(v);

  for (const name of ownKeys(Array.prototype)) {
    // Iterators run in the script's own loops, and wrapping them would make each loop slower.
    if (typeof Array.prototype[name] !== "function" || typeof name !== "string" ||
        ["constructor", "push", "pop", "at", "keys", "values", "entries", "join"].includes(name)) continue;
    guard(Array.prototype, name, elements);
  }
  guard(Array.prototype, "join", (array, [separator = ","]) => {
    elements(array);
    size(array?.length * text(separator).length);
    let total = 0;
    for (let i = 0; i < array?.length; i++) {
      if (typeof array[i] === "string") size(total += array[i].length);
    }
  });
  guard(Array, "from", (_, [source]) => elements(source));
  guard(getPrototypeOf(functionKinds[0]), "apply", (_, [, args]) => elements(args));
  guard(Reflect, "apply", (_, args) => elements(args[2]));
  guard(Reflect, "construct", (_, args) => elements(args[1]));

  guard(String.prototype, "repeat", (s, [n]) => size(text(s).length * n));
  guard(String.prototype, "padStart", (_, [n]) => size(n));
  guard(String.prototype, "padEnd", (_, [n]) => size(n));
  guard(String.prototype, "concat", (s, args) => {
    let total = text(s).length;
    for (const a of args) size(total += text(a).length);
  });
  const replacing = (s, [, by]) => {
    if (typeof by === "function") return;
    const subject = text(s).length, replacement = text(by);
    // $` and $' put in almost the whole subject for each match.
    const each = /\$[`']/.test(replacement) ? subject * replacement.length : replacement.length;
    if (subject * each > 16 * maxString) limit("a string is too long");
  };
  guard(String.prototype, "replace", replacing);
  guard(String.prototype, "replaceAll", replacing);
  guard(JSON, "parse", (_, [json]) => checkDepth(text(json)));

  // Objects that share parts are small in memory and without end as text, and deep ones are looked through again at each level. What calls a script's function for each
  // part can be stopped there.
  const stringify = JSON.stringify;
  const stringifyProperty = getOwnPropertyDescriptor(JSON, "stringify");
  const { isArray } = Array;
  const same = (_, value) => value;
  const only = (names) => (_, value) => {
    if (value === null || typeof value !== "object" || isArray(value) || value instanceof String || value instanceof Number || value instanceof Boolean) return value;
    const part = {};
    for (const name of names) defineProperty(part, name, { value: value[name], configurable: true, enumerable: true, writable: true });
    return part;
  };
  stringifyProperty.value = { stringify(value, replacer, space) {
    const by = typeof replacer === "function" ? replacer : isArray(replacer) ? only(replacer.filter((name) => typeof name === "string" || typeof name === "number")) : same;
    return stringify(value, by, space);
  } }.stringify;
  defineProperty(JSON, "stringify", stringifyProperty);
  const flatten = (into, array, depth) => {
    elements(array);
    for (let i = 0; i < array.length; i++) {
      if (!(i in array)) continue;
      if (depth > 0 && isArray(array[i])) flatten(into, array[i], depth - 1);
      else into.push(array[i]);
    }
    return into;
  };
  const flatProperty = getOwnPropertyDescriptor(Array.prototype, "flat");
  flatProperty.value = { flat(depth) { return flatten([], Object(this), depth === undefined ? 1 : Math.trunc(depth) || 0); } }.flat;
  defineProperty(Array.prototype, "flat", flatProperty);

  const NativeArray = Array;
  const checkLength = (args) => {
    if (args.length === 1 && args[0] > maxElements) limit("an array is too long");
  };
  const BoundedArray = function Array(...args) {
    checkLength(args);
    return new.target ? construct(NativeArray, args, new.target === BoundedArray ? NativeArray : new.target) : NativeArray(...args);
  };
  for (const name of ownKeys(NativeArray)) {
    if (name !== "length" && name !== "name") defineProperty(BoundedArray, name, getOwnPropertyDescriptor(NativeArray, name));
  }
  global.Array = BoundedArray;

  const hidden = (object, name, value) => defineProperty(object, name, { value, configurable: true, writable: true });

  // Jitsu's example `_._timestamp.Format("2006_01")` works, and _timestamp remains a string all the same.
  hidden(String.prototype, "Format", { Format(layout) { return formatTime(String(this), String(layout)); } }.Format);

  hidden(global, "TABLE_NAME", "JITSU_TABLE_NAME");
  hidden(global, "destinationId", host.destination);
  hidden(global, "destinationType", host.type);
  hidden(global, "$context", { header(name) { return header(String(name)); } });
  const printing = (level) => print ? (...values) => print(level, ...values) : () => {};
  hidden(global, "console", {
    log: printing("info"), info: printing("info"), warn: printing("warn"), error: printing("error"), debug: printing("debug"), trace: printing("debug"),
  });
  hidden(global, "json", (value) => JSON.stringify(value));
  hidden(global, "json_indent", (value) => JSON.stringify(value, null, 2));
  hidden(global, "json_indent_quote", (value) => JSON.stringify(JSON.stringify(value, null, 2) ?? "null").slice(1, -1));
  hidden(global, "get", (object, paths, fallback) => {
    for (const path of String(paths).split("||")) {
      let value = object;
      for (const part of path.trim().split("/")) {
        if (part !== "") value = value?.[part];
      }
      if (value !== undefined && value !== null) return value;
    }
    return fallback;
  });

  // What Jitsu's toSegment makes of an event: the name of each field and where its value is found, @ in the event or in its eventn_ctx. The first that is something counts.
  const segmentFields = [
    ["name", "/src_payload/name", "/src_payload/obj/traits/name"],
    ["title", "@/page_title", "/src_payload/obj/context/page/title"],
    ["url", "@/url", "/src_payload/obj/context/page/url"],
    ["user_id", "@/user/id", "@/user/internal_id", "/src_payload/obj/userId"],
    ["anonymous_id", "@/user/anonymous_id", "/src_payload/obj/anonymousId"],
    ["context_library_version", "/src_payload/obj/context/library/version"],
    ["context_page_referrer", "/src_payload/obj/context/page/referrer"],
    ["context_page_url", "/src_payload/obj/context/page/url"],
    ["context_user_agent", "@/user_agent", "/src_payload/obj/context/page/userAgent"],
    ["referrer", "@/referer", "/src_payload/obj/context/page/referrer"],
    ["context_page_search", "/src_payload/obj/context/page/search"],
    ["timestamp", "/src_payload/obj/timestamp"],
    ["context_ip", "/source_ip"],
    ["context_library_name", "/src_payload/obj/context/library/name"],
    ["id", "/src_payload/obj/messageId"],
    ["sent_at", "@/utc_time", "/src_payload/obj/sentAt"],
    ["context_locale", "@/user_language", "/src_payload/obj/context/locale"],
    ["context_page_path", "/src_payload/obj/context/page/path"],
    ["context_page_title", "/src_payload/obj/context/page/title"],
    ["email", "@/user/email", "/src_payload/obj/traits/email"],
    ["context_campaign_source", "@/utm/campaign"],
    ["app", "/app"],
    ["path", "@/doc_path"],
    ["search", "@/doc_search"],
    ["context_utm_source", "@/utm/source"],
  ];
  const segmentTables = { user_identify: "identifies", identify: "identifies", page: "pages", pageview: "pages" };
  hidden(global, "toSegment", (event) => {
    const context = event.eventn_ctx || event;
    const made = { JITSU_TABLE_NAME: Object.hasOwn(segmentTables, event.event_type) ? segmentTables[event.event_type] : event.event_type };
    for (const [name, ...paths] of segmentFields) {
      let value;
      for (const path of paths) {
        value = path.startsWith("@") ? global.get(context, path.slice(1)) : global.get(event, path);
        if (value) break;
      }
      made[name] = value && (name === "timestamp" || name === "sent_at") ? new Date(value) : value;
    }
    return made;
  });

  // On a frozen prototype a plain property would keep objects that inherit from it from having one of the same name by
  // assignment: `error.message = "…"`, `this.name = "…"`. An accessor lets them.
  const assignable = (prototype, names) => {
    for (const name of names) {
      const property = getOwnPropertyDescriptor(prototype, name);
      if (!property || !("value" in property)) continue;
      const { value } = property;
      defineProperty(prototype, name, {
        configurable: true,
        get() { return value; },
        set(v) {
          if (this !== prototype) defineProperty(this, name, { value: v, configurable: true, enumerable: true, writable: true });
        },
      });
    }
  };
  assignable(Object.prototype, ["constructor", "toString", "toLocaleString", "valueOf", "hasOwnProperty"]);
  for (const C of [BoundedArray, String, Number, Boolean, Date, RegExp, Map, Set]) {
    assignable(C.prototype, ["toString", "valueOf"]);
  }
  assignable(getPrototypeOf(functionKinds[0]), ["toString"]);
  for (const E of [Error, AggregateError, TypeError, ReferenceError, SyntaxError, RangeError, EvalError, URIError]) {
    assignable(E.prototype, ["constructor", "name", "message", "toString"]);
  }

  const frozen = new Set();
  const frozenOne = Object.freeze, functionPrototype = getPrototypeOf(functionKinds[0]);
  const freeze = (value) => {
    if (frozen.has(value)) return;
    frozen.add(value);
    frozenOne(value);
    const prototype = getPrototypeOf(value);
    if (prototype !== null) freeze(prototype);
    const keys = ownKeys(value);
    for (let i = 0; i < keys.length; i++) {
      const property = getOwnPropertyDescriptor(value, keys[i]);
      const v = property.value;
      if (v === undefined) {
        if (property.get !== undefined) freeze(property.get);
        if (property.set !== undefined) freeze(property.set);
      } else if (typeof v === "function") {
        if (getPrototypeOf(v) === functionPrototype && ownKeys(v).length === 2) frozenOne(v); // its length and its name
        else freeze(v);
      } else if (typeof v === "object" && v !== null) freeze(v);
    }
  };
  freeze(global);
  const kv = {
    async get(key) { return kvGet(key); },
    async set(key, value, options) { kvSet(key, value, options); },
    async del(key) { kvDel(key); },
  };
  freeze(kv);
  // Prototypes that no global name leads to.
  for (const value of [...functionKinds, [].values(), new Map().entries(), new Set().values(), ""[Symbol.iterator](),
    /a/[Symbol.matchAll]("a"), (function* () {})()]) {
    freeze(getPrototypeOf(value));
  }
  return kv; // no global: a script that does not name it does not have it
})
