// Shows answers: what they are, how likely, and the facts behind them.

import { INVERSE } from "./api.js";
import { counted, make, percent, words } from "./dom.js";

const MOST_NAMES = 6;

/** A fact in words, with buttons that change it if `edit` is given. */
export function factLine(fact, edit) {
  const line = make(
    "span",
    { class: "fact" },
    words(fact.subject_name, "entity"),
    " ",
    words(fact.relation_name, "relation"),
    " ",
    words(fact.object_name, "entity"),
  );
  if (!edit || fact.relation.startsWith(INVERSE)) return line;
  const named = `${fact.subject_name} ${fact.relation_name} ${fact.object_name}`;
  const button = (text, act) =>
    make("button", { type: "button", class: "small", "aria-label": `${text}: ${named}`, onclick: act }, text);
  return make(
    "span",
    { class: "editable" },
    line,
    make(
      "span",
      { class: "buttons" },
      button("Correct", () => edit.correct(fact)),
      button("Remove", () => edit.remove(fact)),
    ),
  );
}

/** Everything that is said about one question. */
export function answered(result, edit) {
  const [best, ...others] = result.answers;
  const known = result.known !== false;
  const parts = [make("h2", {}, "Answer")];
  if (!best) {
    parts.push(make("p", { class: "verdict" }, "There is no answer."));
  } else if (known) {
    parts.push(
      make("p", { class: "answer" }, names(best)),
      likely(result.answers),
      make("h3", {}, best.chains.length ? "Because, step by step" : "Because the table says"),
      support(best, edit),
    );
  } else {
    parts.push(
      make("p", { class: "verdict" }, doubtful(result) ? "Perhaps in the table" : "Not in the table"),
      make("p", { class: "likely" }, chance(result)),
      support(best, edit),
    );
  }
  if (others.length) {
    parts.push(
      make(
        "details",
        { class: "others", open: !known },
        make("summary", {}, known ? "Other readings of the question" : "Further facts"),
        make("ol", {}, ...others.map((answer) => make("li", {}, reading(answer, known, edit)))),
      ),
    );
  }
  return parts;
}

const doubtful = (result) => result.known_probability >= 0.5;

/** Why an answer does not count as known. */
function chance(result) {
  const share = `The chance that the table has the answer is ${percent(result.known_probability)}`;
  return doubtful(result) ? `${share}: less than this model asks for. The nearest facts:` : `${share}. The nearest facts:`;
}

/** How likely the first answer is: readings of the question that give the same one count together. */
function likely(answers) {
  const same = answers.filter((answer) => JSON.stringify(answer.answers) === JSON.stringify(answers[0].answers));
  const share = Math.min(1, same.reduce((sum, answer) => sum + answer.probability, 0));
  const agree = same.length > 1 ? ` (${counted(same.length, "reading")} of the question agree)` : "";
  return make("p", { class: "likely" }, meter(share), `${percent(share)} likely to be right${agree}`);
}

function reading(answer, known, edit) {
  const head = known
    ? make("p", {}, names(answer), " ", make("span", { class: "share" }, percent(answer.probability)))
    : null;
  return make("div", {}, ...[head, support(answer, edit)].filter(Boolean));
}

/** The names of an answer, one after another; long lists end with their number. */
function names(answer) {
  const shown = [...new Set(answer.answers)].slice(0, MOST_NAMES);
  const parts = shown.flatMap((name, place) => (place ? [", ", words(name)] : [words(name)]));
  const left = answer.count - shown.length;
  return make("span", {}, ...parts, left > 0 && answer.answers.length > MOST_NAMES ? ` and ${counted(left, "other")}` : "");
}

function support(answer, edit) {
  if (answer.chains.length) {
    const chains = answer.chains.map((chain) =>
      make("li", {}, make("ol", { class: "chain" }, ...chain.map((fact) => make("li", {}, factLine(fact, edit))))),
    );
    return make("ul", { class: "facts" }, ...chains.slice(0, MOST_NAMES));
  }
  const lines = answer.facts.slice(0, MOST_NAMES).map((fact) => make("li", {}, factLine(fact, edit)));
  const left = answer.count - lines.length;
  if (left > 0) lines.push(make("li", { class: "hint" }, `and ${counted(left, "more fact")} like these`));
  return make("ul", { class: "facts" }, ...lines);
}

/** A bar as long as a share. */
export function meter(share) {
  const bar = make("span", { class: "bar" });
  bar.style.width = `${Math.max(1, 100 * Math.min(1, share))}%`;
  return make("span", { class: "meter", "aria-hidden": "true" }, bar);
}
