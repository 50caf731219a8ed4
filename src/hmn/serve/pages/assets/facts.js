// Lists facts, and changes them.

import { facts, INVERSE, Refused, send, wantsToken } from "./api.js";
import { byId, make, show } from "./dom.js";
import { factLine } from "./answers.js";

const PAGE = 10;
const MOST = 1000; // facts of a page, when all are looked through
const GONE = "The table no longer has this fact: somebody else has changed it. The list is up to date again.";

/** The list of facts and the dialog that changes them. */
export class Facts {
  /**
   * @param mayEdit says whether there can be writes now
   * @param onSaved called with what was written, when it is durable; with nothing, when others have written
   * @param onRefused called when the server wants another token
   */
  constructor(mayEdit, onSaved, onRefused) {
    this.mayEdit = mayEdit;
    this.onSaved = onSaved;
    this.onRefused = onRefused;
    this.next = null;
    this.asked = 0;
    this.save = async () => {};
    byId("find").addEventListener("submit", (event) => {
      event.preventDefault();
      this.list();
    });
    byId("more").addEventListener("click", () => this.list(this.next));
    byId("add").addEventListener("click", () => this.add());
    byId("edit-cancel").addEventListener("click", () => byId("edit").close());
    byId("edit-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    for (const field of ["subject", "relation", "object"]) {
      byId(`edit-${field}`).addEventListener("input", () => byId("edit-choices").replaceChildren());
    }
  }

  /** What changes facts, for lines of facts; null where there can be no writes. */
  get edit() {
    return this.mayEdit() ? { correct: (fact) => this.correct(fact), remove: (fact) => this.remove(fact) } : null;
  }

  /** Let people choose among the relations that there are. */
  offer(relations) {
    this.relations = relations;
    byId("relations").replaceChildren(
      ...relations.map((one) => make("option", { value: one.relation_name })),
    );
  }

  /** Show the facts that fit what is wanted, from the beginning or after a page. */
  async list(after) {
    const mine = ++this.asked; // an answer that comes after a later one is not shown
    try {
      const page = await facts({ text: byId("wanted").value.trim(), limit: PAGE, after });
      if (mine !== this.asked) return;
      const lines = page.facts.map((fact) => make("li", {}, factLine(fact, this.edit)));
      const nothing = after === undefined && !lines.length;
      if (nothing) lines.push(make("li", { class: "hint" }, "No fact has this in it."));
      if (after === undefined) byId("list").replaceChildren(...lines);
      else byId("list").append(...lines);
      this.next = page.next;
      byId("more").hidden = page.next === null;
    } catch (error) {
      if (mine !== this.asked) return;
      byId("list").replaceChildren(make("li", { class: "hint" }, error.message));
      byId("more").hidden = true;
      if (wantsToken(error)) this.onRefused(error);
    }
  }

  add() {
    this.open("Add a fact", "Names that the table has are found; other names become new entities.", {}, true);
    this.save = async () => {
      const [subject, object] = await this.chosen(["subject", "object"]);
      const relation = await this.relationOf(byId("edit-relation").value.trim());
      return send("POST", "/v1/facts", { facts: [{ subject, relation, object }] });
    };
  }

  correct(fact) {
    this.open("Correct the fact", "The new object takes the place of the old one.", fact, true);
    byId("edit-subject").disabled = byId("edit-relation").disabled = true;
    byId("edit-object").select();
    this.save = async () => {
      const [object] = await this.chosen(["object"]);
      const { subject, relation } = fact;
      if (object === fact.object) return null;
      const swap = { facts: [{ subject, relation, object }], remove: [ids(fact)] };
      return this.unlessGone(fact, send("POST", "/v1/facts", swap));
    };
  }

  remove(fact) {
    const text = `${fact.subject_name} – ${fact.relation_name} – ${fact.object_name}`;
    this.open("Remove this fact?", text, fact, false);
    byId("edit-save").textContent = "Remove";
    this.save = () => this.unlessGone(fact, send("DELETE", "/v1/facts", { facts: [ids(fact)] }));
  }

  /** What a write of a fact gives; if it was refused since the fact is gone, the page is brought up to date. */
  async unlessGone(fact, written) {
    try {
      return await written;
    } catch (error) {
      if (error.status !== 422 || (await facts(ids(fact))).facts.length) throw error;
      await this.onSaved(null);
      throw new Refused(GONE, error.status);
    }
  }

  open(title, text, fact, fields) {
    byId("edit-title").textContent = title;
    byId("edit-text").textContent = text;
    byId("edit-fields").hidden = !fields;
    byId("edit-choices").replaceChildren();
    byId("edit-problem").hidden = true;
    byId("edit-save").textContent = "Save";
    for (const field of ["subject", "relation", "object"]) {
      byId(`edit-${field}`).value = fact[`${field}_name`] ?? "";
      byId(`edit-${field}`).disabled = !fields;
    }
    byId("edit").showModal();
  }

  async submit() {
    const button = byId("edit-save");
    const blank = [...byId("edit-fields").querySelectorAll("input:enabled")].find((field) => !field.value.trim());
    if (blank) {
      show(byId("edit-problem"), "A fact needs all three: subject, relation and object.");
      return blank.focus();
    }
    button.disabled = true;
    try {
      const written = await this.save();
      byId("edit").close();
      if (written) await this.onSaved(written);
    } catch (error) {
      show(byId("edit-problem"), error.message);
      if (wantsToken(error)) this.onRefused(error);
    } finally {
      button.disabled = false;
    }
  }

  /** The id of a relation; its own words if there is none like it. Rare ones are not among those on offer. */
  async relationOf(text) {
    const same = (one) => one.relation === text || one.relation_name.toLowerCase() === text.toLowerCase();
    const known = this.relations.find(same) ?? (await facts({ relation: text, limit: 1 })).facts[0];
    const relation = known?.relation ?? text;
    if (!relation.startsWith(INVERSE)) return relation;
    throw new Refused(`Say it the other way round: relations with ${INVERSE} follow by themselves.`);
  }

  /** Ids of the entities in some fields. Where several have the name, people choose first. */
  async chosen(fields) {
    const open = [];
    const found = [];
    for (const field of fields) {
      const name = byId(`edit-${field}`).value.trim();
      const choice = byId(`choice-${field}`);
      if (choice) {
        found.push(choice.value);
        continue;
      }
      const entities = await namesakes(name);
      if (entities.length > 1) open.push(choices(field, name, entities));
      found.push(entities[0]?.id ?? name);
    }
    if (open.length) {
      byId("edit-choices").append(...open.flat());
      throw new Error("Several entities have this name: choose one, and save again.");
    }
    return found;
  }
}

const ids = ({ subject, relation, object }) => ({ subject, relation, object });

/** All facts that fit: one of many facts must not hide another entity of its name. */
async function* all(wanted) {
  let after;
  do {
    const page = await facts({ ...wanted, limit: MOST, after });
    yield* page.facts;
    after = page.next;
  } while (after !== null);
}

/** Entities with an id or a name, and a fact that tells each from the others. */
async function namesakes(name) {
  const found = new Map();
  for await (const fact of all({ subject: name })) {
    if (!found.has(fact.subject)) found.set(fact.subject, `${fact.relation_name}: ${fact.object_name}`);
  }
  for await (const fact of all({ object: name })) {
    if (!found.has(fact.object)) found.set(fact.object, `${fact.relation_name} of ${fact.subject_name}`);
  }
  return [...found].map(([id, about]) => ({ id, about }));
}

function choices(field, name, entities) {
  const id = `choice-${field}`;
  return [
    make("label", { for: id }, `Which ${name}?`),
    make(
      "select",
      { id },
      ...entities.map((one) => make("option", { value: one.id }, `${one.id} (${one.about})`)),
    ),
  ];
}
