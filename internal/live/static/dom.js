// Helpers for the page's elements. Text always goes through textContent, so
// nothing that came from the network can become markup.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

const SVG = "http://www.w3.org/2000/svg";

// el makes an HTML element, svgEl an SVG element; both set attributes and append.
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svgEl(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// set and say write an attribute or a text only when it differs: most frames
// change little, and an unchanged node costs the browser nothing.
export function set(node, name, value) {
  const known = (node.known ??= {});
  if (known[name] === value) return;
  known[name] = value;
  if (value === null || value === undefined) node.removeAttribute(name);
  else node.setAttribute(name, value);
}

export function say(node, text) {
  if (node.said === text) return;
  node.said = text;
  node.textContent = text;
}

// sayInOneLine tells the style how long the text is, which makes its letters fit.
export function sayInOneLine(node, text) {
  if (node.said === text) return;
  node.style.setProperty("--letters", text.length);
  say(node, text);
}

// pool lends the nodes below parent: at(i) returns the i-th, made when it is
// first wanted; hideFrom(n) hides it and all after it.
export function pool(parent, make) {
  const nodes = [];
  const show = (node, visible) => {
    node = node.root ?? node;
    if (node instanceof SVGElement) set(node, "display", visible ? null : "none");
    else set(node, "hidden", visible ? null : "");
  };
  return {
    at(i) {
      while (nodes.length <= i) {
        nodes.push(make());
        parent.append(nodes.at(-1).root ?? nodes.at(-1));
      }
      show(nodes[i], true);
      return nodes[i];
    },
    hideFrom(n) {
      for (let i = n; i < nodes.length; i++) show(nodes[i], false);
    },
  };
}

// micros returns microseconds for people: "850 µs", "12.3 ms", "2.50 s". Beside
// a like time it is given in the like's unit, which it leaves out.
export function micros(us, like = us) {
  const unit = us === like ? (name) => ` ${name}` : () => "";
  if (like < 1000) return Math.round(us) + unit("µs");
  if (like >= 1e6) return (us / 1e6).toFixed(2) + unit("s");
  return (us / 1000).toFixed(like < 10e3 ? 2 : like < 100e3 ? 1 : 0) + unit("ms");
}

// count returns a number for people: "12,345", "128k" from 100,000 on, and "1.23M"
// from a million on.
export function count(n) {
  if (n < 1e5) return n.toLocaleString("en-US");
  return n < 1e6 ? `${Math.floor(n / 1e3)}k` : `${(Math.floor(n / 1e4) / 100).toFixed(2)}M`;
}

export const plural = (n, word) => (n === 1 ? word : `${word}s`);

export function bytes(n) {
  if (n < 1000) return `${n} B`;
  if (n < 1e6) return `${(n / 1e3).toFixed(1)} kB`;
  return `${(n / 1e6).toFixed(1)} MB`;
}
