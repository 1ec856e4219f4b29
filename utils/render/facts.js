/* A dance's numbers: name, direction and value. Each name is a button that tells what its number means: on hover
   and to screen readers by its title, to all others in a line below it while it has the focus. */

const ARROWS = { higher: "↑", lower: "↓" };

/** What is known of a number: its label, unit, direction and meaning; null of one that nobody has described. */
const meaningOf = (meanings, name) => (Object.hasOwn(meanings, name) ? meanings[name] : null);
const labelOf = (meanings, name) => (meaningOf(meanings, name) || { label: name }).label;

/**
 * A list of numbers.
 * @param facts [name, text] each
 * @param meanings name -> { label, unit, better, meaning }
 * @return { box, cells }: the element, and each number's part of it by name
 */
function factList(facts, meanings) {
  const box = element("div", "facts");
  const list = element("dl");
  const note = element("p", "meaning");
  const cells = new Map();
  const buttons = [];
  note.hidden = true;
  note.setAttribute("aria-hidden", "true"); // the button's title says the same
  for (const [name, text] of facts) {
    const fact = element("div");
    const term = element("dt");
    const known = meaningOf(meanings, name);
    if (known) {
      const button = element("button", "what", known.label);
      button.type = "button";
      button.title = known.meaning;
      if (known.better) {
        const arrow = element("span", "better", ARROWS[known.better]);
        arrow.setAttribute("aria-hidden", "true");
        button.append("\u00a0", arrow);
      }
      button.addEventListener("focus", () => show(button, known));
      button.addEventListener("click", () => show(button, known));
      button.addEventListener("blur", () => (note.hidden = true));
      button.tabIndex = buttons.length ? -1 : 0; // one stop for the list; arrows lead on
      buttons.push(button);
      term.append(button);
      fact.title = known.meaning;
    } else term.textContent = name;
    fact.append(term, element("dd", "", text));
    list.append(fact);
    cells.set(name, fact);
  }
  function show(button, known) {
    note.textContent = known.meaning;
    note.hidden = false;
    note.style.top = `${button.offsetTop + button.offsetHeight + 4}px`;
    for (const other of buttons) other.tabIndex = other === button ? 0 : -1;
  }
  const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };
  list.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(event.target);
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    let next = event.key in steps ? at + steps[event.key] : at;
    if (event.key === "Home") next = 0;
    if (event.key === "End") next = buttons.length - 1;
    if (event.key === "Escape") note.hidden = true;
    else if (!(event.key in steps) && event.key !== "Home" && event.key !== "End") return;
    event.preventDefault();
    event.stopPropagation();
    if (buttons[next] && next !== at) buttons[next].focus();
  });
  box.append(list, note);
  return { box, cells };
}
