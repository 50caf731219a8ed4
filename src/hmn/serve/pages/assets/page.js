// The page: asks, shows what comes back, and asks again when facts have changed.

import { answered } from "./answers.js";
import { hasToken, keepToken, send, wantsToken } from "./api.js";
import { byId, counted, make, show } from "./dom.js";
import { Facts } from "./facts.js";
import { picture } from "./picture.js";

const ANSWERS = 5;
const EXAMPLES = 4;
const TITLE = document.title;
const WRITES = {
  off: "Writes are off: start the server with --token-file or --allow-writes to change facts.",
  token: "To change facts, give the token that allows it.",
};

let model = null;
let running = null;
const list = new Facts(
  () => model?.writes === "on",
  onSaved,
  refused,
);

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = byId("question").value.trim();
  if (!question) return byId("question").focus();
  const link = `#q=${encodeURIComponent(question)}`;
  if (location.hash === link) ask(question);
  else location.hash = link; // asks, and makes the question part of the history
});
byId("access").addEventListener("submit", async (event) => {
  event.preventDefault();
  keepToken(byId("token").value.trim());
  await begin();
  if (byId("access").hidden) byId("question").focus();
});
addEventListener("hashchange", askLinked);
addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, dialog");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  byId("question").focus();
});
begin();

/** Find out what is served, and show it. */
async function begin() {
  byId("problem").hidden = true;
  try {
    await describe();
  } catch (error) {
    if (wantsToken(error)) refused();
    else show(byId("problem"), error.message);
    return;
  }
  list.list();
  if (location.hash) askLinked(); // else what was typed meanwhile stays
}

/** Show the size of the table, examples, and whether facts can be changed. */
async function describe() {
  model = await send("GET", "/v1/model");
  const hops = model.hops > 1 ? `, questions of up to ${model.hops} steps` : "";
  byId("about").textContent = `${counted(model.facts, "fact")}, version ${model.version}${hops}`;
  const examples = model.examples.slice(0, EXAMPLES).map((text) =>
    make("button", { type: "button", class: "example", dir: "auto", onclick: () => example(text) }, make("span", {}, text)),
  );
  byId("examples").replaceChildren(...examples);
  list.offer(model.relations);
  byId("add").hidden = list.edit === null;
  byId("writes").textContent = WRITES[model.writes] ?? "";
  byId("access").hidden = true;
  byId("ask").hidden = byId("facts").hidden = false;
  if (model.writes === "token") askForToken("This token allows questions alone. Another one allows changes.");
}

function askForToken(hint) {
  byId("access").hidden = false;
  byId("ask").hidden = byId("facts").hidden = model === null;
  byId("access-hint").textContent = hint;
}

/** The server has refused what this page knows of tokens. */
function refused() {
  askForToken(hasToken() ? "This token is not the server's." : "This server needs a token.");
}

function example(text) {
  byId("question").value = text;
  byId("ask").requestSubmit();
}

/** Ask what the address says. */
function askLinked() {
  const question = new URLSearchParams(location.hash.slice(1)).get("q");
  byId("saved").hidden = true;
  if (model === null) return;
  if (!question) return start();
  byId("question").value = question;
  ask(question);
}

/** The page as it is before a question. */
function start() {
  running?.abort();
  byId("question").value = "";
  byId("result").hidden = byId("read").hidden = byId("problem").hidden = true;
  document.title = TITLE;
}

async function ask(question) {
  running?.abort();
  const mine = (running = new AbortController());
  byId("problem").hidden = true;
  byId("ask").setAttribute("aria-busy", "true");
  try {
    const found = await send("POST", "/v1/ask", { question, k: ANSWERS, trace: true }, mine.signal);
    const [result] = found.results;
    document.title = `${question} – hmn`;
    show(byId("result"), ...answered(result, list.edit));
    show(byId("picture"), ...picture(result));
    byId("read").hidden = false;
  } catch (error) {
    if (error.name === "AbortError") return;
    byId("result").hidden = byId("read").hidden = true;
    show(byId("problem"), error.message);
    if (wantsToken(error)) refused();
  } finally {
    if (running === mine) byId("ask").removeAttribute("aria-busy");
  }
}

/** After a write: show the facts and the answer as they are now. Without one, others have written. */
async function onSaved(written) {
  const parts = [];
  if (written?.added) parts.push(`${counted(written.added, "fact")} added`);
  if (written?.removed) parts.push(`${counted(written.removed, "fact")} removed`);
  const question = byId("result").hidden ? "" : byId("question").value.trim();
  const again = question ? " The question was asked again." : "";
  await describe();
  await list.list();
  if (question) await ask(question);
  if (!written) return;
  show(byId("saved"), `Saved: ${parts.join(", ") || "nothing had to change"}.${again}`);
  if (document.activeElement === document.body) byId("saved").focus(); // the button that was pressed is gone
}
