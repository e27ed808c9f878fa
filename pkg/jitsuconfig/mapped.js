// Rules read the event as it came, in their order; what they set is put into it together, and what they remove goes last.
function mapped(event, {keepUnmapped}, rules) {
  const isObject = (v) => typeof v === "object" && v !== null && !Array.isArray(v);
  const has = (v, name) => isObject(v) && Object.prototype.hasOwnProperty.call(v, name);
  const names = (path) => path === "/" ? [] : path.slice(1).split("/");
  const copy = (v) => isObject(v) ? Object.fromEntries(Object.entries(v).map(([k, w]) => [k, copy(w)])) : v;

  // What holds the value at the first of the paths that leads to one, and its name there; "/" is the event itself.
  const find = (root, paths) => {
    for (const path of paths.split("||")) {
      let holder = {event: root}, name = "event";
      for (const next of names(path)) {
        holder = has(holder, name) ? holder[name] : undefined;
        name = next;
      }
      if (has(holder, name)) return {path, value: holder[name], remove: () => delete holder[name]};
    }
  };

  const out = {};
  const made = new Set(); // objects that are there only to hold what a rule sets
  const set = (path, value) => {
    if (path === "/") {
      if (!isObject(value)) throw new Error("only an object can be moved to /");
      Object.assign(out, value);
      return;
    }
    let holder = out;
    const all = names(path), last = all.pop();
    for (const name of all) {
      if (!has(holder, name)) made.add(holder[name] = {});
      if (!isObject(holder[name])) throw new Error(`${path} can not be set: ${name} is no object`);
      holder = holder[name];
    }
    holder[last] = value;
  };

  const moved = [];
  for (const rule of rules) {
    if ("set" in rule) set(rule.to, rule.set);
    const found = rule.move && find(event, rule.move);
    if (found) {
      set(rule.to, found.path === "/" ? copy(event) : found.value);
      moved.push(rule.move);
    }
  }
  const remove = (root, paths) => {
    const found = find(root, paths);
    if (found?.path === "/") return {};
    found?.remove();
    return root;
  };
  for (const paths of moved) event = remove(event, paths);

  // An object that was made is put into the one that the event has there, so that its other members stay.
  const put = (into, from) => {
    for (const [name, value] of Object.entries(from)) {
      into[name] = made.has(value) && isObject(into[name]) ? put(into[name], value) : value;
    }
    return into;
  };
  let result = keepUnmapped ? put(event, out) : out;
  for (const rule of rules) {
    if (rule.remove) result = remove(result, rule.remove);
  }
  return result;
}
