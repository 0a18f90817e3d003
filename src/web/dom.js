// Pages as functions of state: `h` describes nodes, `render` makes the document look like it and touches only what differs, so
// that focus, text being typed and running transitions stay. Used by every page.

const SVG = new Set(['svg', 'path', 'circle', 'g']);
/** Set as properties: their attributes are only the value to begin with. */
const PROPERTIES = new Set(['value', 'checked', 'disabled', 'open', 'hidden', 'selected', 'indeterminate']);
const described = new WeakMap();

/**
 * @param {string} tag
 * @param {Record<string, any> | null} [props] attributes, `onclick` and the like, `style` as an object, `key` among siblings
 * @param {...any} children nodes, texts, lists; null, undefined and false are left out
 */
export const h = (tag, props, ...children) => ({ tag, props: props ?? {}, children: children.flat(9).filter(shown) });

const shown = (child) => child !== null && child !== undefined && child !== false;

/** Makes the children of `parent` those described. */
export function render(parent, ...nodes) {
  const wanted = nodes.flat(9).filter(shown);
  const keyed = new Map();
  const loose = [];
  for (const node of parent.childNodes) {
    const key = described.get(node)?.props?.key;
    if (key === undefined) loose.push(node);
    else keyed.set(key, node);
  }
  let place = parent.firstChild;
  for (const want of wanted) {
    const node = matching(want, keyed, loose) ?? make(want);
    update(node, want);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

/** An old node that can become the one that is wanted. */
function matching(want, keyed, loose) {
  const key = want.props?.key;
  if (key !== undefined) {
    const node = keyed.get(key);
    keyed.delete(key);
    return node?.nodeName.toLowerCase() === want.tag ? node : undefined;
  }
  const name = want.tag ?? '#text';
  const at = loose.findIndex((node) => node.nodeName.toLowerCase() === name);
  // What lies before the match has no successor and goes.
  return at < 0 ? undefined : loose.splice(0, at + 1).at(-1);
}

function make(want) {
  if (!want.tag) return document.createTextNode('');
  return SVG.has(want.tag)
    ? document.createElementNS('http://www.w3.org/2000/svg', want.tag)
    : document.createElement(want.tag);
}

function update(node, want) {
  if (!want.tag) {
    if (node.data !== String(want)) node.data = String(want);
    return;
  }
  const old = described.get(node)?.props ?? {};
  described.set(node, want);
  for (const name of Object.keys(old)) if (!(name in want.props)) apply(node, name, null);
  render(node, want.children);
  // After the children: a select takes its value only from options that are there.
  for (const [name, value] of Object.entries(want.props)) {
    if (PROPERTIES.has(name) || name === 'style' || old[name] !== value) apply(node, name, value);
  }
}

function apply(node, name, value) {
  if (name === 'key') return;
  if (name.startsWith('on')) node[name] = value;
  else if (PROPERTIES.has(name)) {
    if (node[name] !== (value ?? '')) node[name] = value ?? '';
  } else if (name === 'style') {
    for (const [property, text] of Object.entries(value ?? {})) node.style.setProperty(property, text);
  } else if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? '' : value);
}
