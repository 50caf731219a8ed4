// Draws what was read: the tiers of groups, what was entered, the cells that were scored, and their weights.

import { factLine, meter } from "./answers.js";
import { counted, draw, make, number, percent } from "./dom.js";

const WIDTH = 1000;
const BAND = 26;
const LEAST = 1.2; // width of the thinnest mark, so that it can be seen
const SMALL = 0.001; // weight below which a cell is not listed

/** The whole section: numbers in words, a picture per search, and the weights. */
export function picture(result) {
  const { searches, attended, index } = result.trace;
  const cells = Math.max(...searches.map((search) => search.cells), 0);
  const parts = [headline(result.reads ?? 0, cells, searches)];
  for (const [place, search] of searches.entries()) {
    if (searches.length > 1) parts.push(make("h3", {}, `Search ${place + 1}`));
    parts.push(make("p", { class: "told" }, told(search, place === 0)), ...drawn(search, attended, place));
  }
  parts.push(legend(searches));
  if (attended.length) parts.push(make("h3", {}, "What the answer was made from"), weights(attended));
  parts.push(make("p", { class: "hint" }, `Index: ${index}`));
  return parts;
}

function headline(reads, cells, searches) {
  const queries = searches.reduce((sum, search) => sum + search.queries, 0);
  const share = reads / Math.max(1, cells * queries);
  const all = searches.every((search) => !search.tiers.length && search.scored >= search.cells * search.queries);
  let text = `Read ${number(reads)} of ${number(cells)}: ${percent(share)} of the memory.`;
  if (queries > 1) text = `Read ${number(reads)} in ${number(queries)} searches of ${number(cells)} cells: ${percent(share)}.`;
  else if (all) text = `Read all ${number(cells)} cells of the memory.`;
  return make("p", { class: "headline" }, meter(share), text);
}

/** What a search did, in a few sentences. */
function told(search, first) {
  const one = search.queries === 1;
  const asked = one ? "The question" : `${counted(search.queries, "question")}, one for each entity that was reached,`;
  const was = one ? "was" : "were";
  const memory = first ? `The memory holds ${counted(search.cells, "cell")}: vectors that say what a fact answers. ` : "";
  const best = `and the best ${number(search.places.length)} were used`;
  if (!search.tiers.length) {
    const all = search.scored >= search.cells * search.queries;
    return `${memory}${asked} ${was} compared with ${all ? "all of them" : number(search.scored)}, ${best}.`;
  }
  const steps = search.tiers.map((tier, level) => {
    const what = level
      ? `with the ${counted(tier.scored, "smaller group")} in these, and entered ${number(tier.entered)}`
      : `with ${counted(tier.scored, "group")} of cells, and entered the ${number(tier.entered)} most like it`;
    return level ? `then ${what}` : what;
  });
  const inside = search.coded
    ? `The ${counted(search.coded, "cell")} in them were compared by short codes, ${number(search.scored)} of these in full,`
    : `The ${counted(search.scored, "cell")} in them were compared,`;
  const cost = `All this cost as much as comparing ${counted(search.reads, "cell")} in full.`;
  const none = `${asked} ${was} not compared with all of them, but ${steps.join("; ")}.`;
  return `${memory}${none} ${inside} ${best}. ${cost}`;
}

/** Rows from the top tier to the cells: what each holds, what of it was compared, and what was entered. */
function rows(search) {
  let compared = [[0, search.cells]];
  const tiers = search.tiers.map((tier, level) => {
    const row = {
      compared,
      entered: tier.spans,
      label: counted(tier.groups, level ? "smaller group" : "group"),
      text: `${number(tier.scored)} compared, ${number(tier.entered)} entered`,
    };
    compared = tier.spans;
    return row;
  });
  const ways = search.coded ? [`${number(search.coded)} compared by short codes`] : [];
  const all = !tiers.length && search.scored < search.cells ? [] : compared;
  ways.push(`${number(search.scored)} compared in full`, `${number(search.places.length)} used`);
  return [...tiers, { compared: all, entered: [], label: counted(search.cells, "cell"), text: ways.join(", ") }];
}

function drawn(search, attended, number) {
  const scale = WIDTH / Math.max(1, search.cells);
  const bars = (spans, kind) =>
    spans.map(([begin, count]) =>
      draw("rect", { class: kind, x: begin * scale, y: 0, width: Math.max(LEAST, count * scale), height: BAND }),
    );
  const parts = rows(search).map((row, place) => {
    const id = `row-${number}-${place}`;
    const picture = draw(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${BAND}`, preserveAspectRatio: "none", role: "img", "aria-labelledby": id, class: "band" },
      draw("rect", { class: "all", x: 0, y: 0, width: WIDTH, height: BAND }),
      ...bars(row.compared, "compared"),
      ...bars(row.entered, "entered"),
      ...(place === search.tiers.length ? marks(search, scale) : []),
    );
    const label = make("p", { id }, make("strong", {}, row.label), make("span", {}, `: ${row.text}`));
    return make("div", { class: "tier" }, label, picture);
  });
  if (attended.length && number === 0) parts.push(lines(search, attended, scale));
  return parts;
}

function legend(searches) {
  const tiers = searches.some((search) => search.tiers.length);
  const kinds = [tiers && ["all", "passed over"], ["compared", "compared"], tiers && ["entered", "entered"], ["found", "used"]];
  const sample = (kind) =>
    draw("svg", { viewBox: "0 0 10 10", class: "sample", "aria-hidden": "true" }, draw("rect", { class: kind, width: 10, height: 10 }));
  const items = kinds.filter(Boolean).map(([kind, text]) => make("li", {}, sample(kind), text));
  return make("ul", { class: "legend", "aria-label": "Colours" }, ...items);
}

/** Marks of the cells that were used. */
function marks(search, scale) {
  return search.places.map((place) =>
    draw("rect", { class: "found", x: place * scale - 1, y: 0, width: 3, height: BAND }),
  );
}

/** The weights of the cells that were used, below their places. */
function lines(search, attended, scale) {
  const height = 60;
  const bars = attended.map((one, place) => {
    const tall = Math.max(1.5, one.weight * (height - 4));
    return draw("rect", { class: "weight", x: search.places[place] * scale - 3, y: 0, width: 7, height: tall });
  });
  const label = `Weights of the ${counted(attended.length, "cell")} that were used, where they lie in the memory`;
  return make(
    "div",
    { class: "tier" },
    draw(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label, class: "weights" },
      ...bars,
    ),
    make("p", { class: "hint", "aria-hidden": "true" }, "weight of each cell that was used"),
  );
}

/** The cells that were used, as a table. */
function weights(attended) {
  const shown = attended.filter((one) => one.weight >= SMALL);
  const rows = shown.map((one) =>
    make(
      "tr",
      {},
      make("td", { class: "number" }, percent(one.weight), meter(one.weight)),
      make("td", {}, factLine(one.fact), one.facts > 1 ? ` and ${counted(one.facts - 1, "fact that reads", "facts that read")} the same` : ""),
    ),
  );
  const left = attended.length - shown.length;
  return make(
    "div",
    {},
    make(
      "table",
      {},
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Weight"), make("th", { scope: "col" }, "Cell"))),
      make("tbody", {}, ...rows),
    ),
    left > 0 ? make("p", { class: "hint" }, `${counted(left, "further cell")} of less than 0.1 % each`) : "",
  );
}
