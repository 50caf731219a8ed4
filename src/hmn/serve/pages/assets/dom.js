// Makes elements. Text always goes in as text, so nothing from a table can become markup.

const SVG = "http://www.w3.org/2000/svg";

/** The element of the page with an id. */
export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; a string among them becomes text. */
export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** As `make`, for parts of a picture. */
export function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** Put other children in the place of an element's own, and show it. */
export function show(element, ...children) {
  element.replaceChildren(...children.filter((child) => child != null));
  element.hidden = false;
}

/** Text of the table, in whatever direction it is written. */
export const words = (text, kind = "") => make("bdi", { class: kind }, text);

/** A number as people read it. */
export const number = (value) => Math.round(value).toLocaleString("en");

/** "1 cell", "2 cells". */
export const counted = (count, one, several = `${one}s`) => `${number(count)} ${count === 1 ? one : several}`;

/** A share as a percentage, with a decimal where it is small. */
export function percent(share) {
  const value = 100 * share;
  if (value > 0 && value < 0.1) return "below 0.1 %";
  if (value > 99.9 && value < 100) return "above 99.9 %";
  return `${value.toFixed(value < 10 || (value > 99 && value < 100) ? 1 : 0)} %`;
}
