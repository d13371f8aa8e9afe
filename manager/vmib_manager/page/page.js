// The page of `vmib serve`: shows each view of the network that the server tells.
"use strict";

const $ = (id) => document.getElementById(id);
const POINTS = 90; // of a trend
const FIRST_PROBLEMS = 8;
const HIDDEN = 10000; // milliseconds between two looks of a page that nobody sees
const SIGNS = { error: "bad", warning: "warn", note: "quiet" };
const SYNC = {
  inSync: ["in sync", "good"],
  pending: ["pending", "quiet"],
  waiting: ["waiting", "quiet"],
  drifted: ["drifted", "warn"],
  failed: ["failed", "bad"],
};
const SVG = "http://www.w3.org/2000/svg";

let network = null;
let heard = 0;
let picture = "";
let events = null;
let looking = 0;
const readings = new Map();
const trends = new Map();
const seen = new Set();

// Texts

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function write(node, text, className) {
  if (node.textContent !== text) node.textContent = text;
  if (className !== undefined && node.className !== className) node.className = className;
}

function rate(kbps) {
  const rounded = Number(kbps.toPrecision(3));
  if (rounded >= 1e6) return `${Number((rounded / 1e6).toPrecision(3))}Gbit`;
  if (rounded >= 1e3) return `${Number((rounded / 1e3).toPrecision(3))}Mbit`;
  return kbps ? `${kbps}kbit` : "0";
}

function time(us) {
  const rounded = Number(us.toPrecision(3));
  if (rounded >= 1e6) return `${Number((rounded / 1e6).toPrecision(3))}s`;
  return rounded >= 1e3 ? `${Number((rounded / 1e3).toPrecision(3))}ms` : `${us}us`;
}

const clock = (text) => new Date(text).toLocaleTimeString([], { hour12: false });

function ago(text) {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(text)) / 1000));
  if (seconds < 120) return `for ${seconds} s`;
  if (seconds < 7200) return `for ${Math.round(seconds / 60)} min`;
  return `since ${new Date(text).toLocaleString([], { hour12: false })}`;
}

// Rows of a list or table that stay the same elements from view to view

function keep(parent, items, key, make, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let node = old.get(name);
    if (node) {
      old.delete(name);
    } else {
      node = make(item);
      node.dataset.key = name;
    }
    update(node, item);
    if (node === place) {
      place = place.nextElementSibling;
    } else {
      parent.insertBefore(node, place);
    }
  }
  for (const node of old.values()) node.remove();
}

function row(labels, numbers) {
  const made = element("tr");
  made.setAttribute("role", "row");
  labels.forEach((label, index) => {
    const cell = element(index ? "td" : "th", numbers.includes(label) ? "number" : "");
    cell.setAttribute("role", index ? "cell" : "rowheader");
    if (!index) cell.scope = "row";
    cell.dataset.label = label;
    cell.append(element("span", "value"));
    made.append(cell);
  });
  return made;
}

function fill(cell, text, other = "", className = "") {
  const value = cell.firstElementChild;
  if (!value.firstElementChild) value.append(element("span"), " ", element("span", "other"));
  const [main, more] = value.children;
  write(main, text, className);
  write(more, other);
  cell.classList.toggle("blank", !text && !other);
}

function flash(cell, text) {
  if (cell.dataset.told !== undefined && cell.dataset.told !== text) {
    cell.classList.remove("changed");
    void cell.offsetWidth; // begin the animation anew
    cell.classList.add("changed");
  }
  cell.dataset.told = text;
}

// Links and interfaces

const flowKey = (flow) => `${flow.host} ${flow.table} ${flow.index}`;

function stateOf(flow) {
  if (!flow.answers) return ["unreachable", "bad"];
  const wrong = flow.sync === "drifted" || flow.sync === "failed";
  if (!flow.as_described && !wrong) return ["not as described", "warn"];
  return SYNC[flow.sync] || ["", ""];
}

function impairment(found, isLink) {
  if (found) return found.text;
  return isLink ? "no link" : "unlimited";
}

function isOfInterest(flow) {
  const limited = [flow.configured, flow.described].some((each) => each && each.text !== "unlimited");
  const busy = flow.counters !== null && flow.counters.achieved_rate > 0;
  if (limited || busy || (flow.sync && flow.sync !== "inSync")) seen.add(flowKey(flow));
  return seen.has(flowKey(flow));
}

function probeOf(flow) {
  return network.probes.find(
    (each) => each.machine === flow.machine && each.vif === flow.vif && each.dest === flow.dest,
  );
}

async function recall() {
  const answer = await fetch("api/trends");
  if (!answer.ok) return;
  const found = await answer.json();
  Object.entries(found.readings).forEach(([host, reading]) => readings.set(host, reading));
  for (const trend of found.trends) trends.set(flowKey(trend), trend.rates);
}

function remember(flows) {
  const news = (host) => network.hosts[host].reading !== readings.get(host);
  const fresh = new Set(Object.keys(network.hosts).filter(news));
  for (const host of fresh) readings.set(host, network.hosts[host].reading);
  for (const flow of flows.filter((each) => fresh.has(each.host))) {
    const key = flowKey(flow);
    const trend = trends.get(key) || [];
    trend.push(flow.counters ? flow.counters.achieved_rate : null);
    if (trend.length > POINTS) trend.shift();
    trends.set(key, trend);
  }
}

function drawTrend(cell, flow) {
  const value = cell.firstElementChild;
  let svg = value.firstElementChild;
  if (!svg) {
    svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 100 20");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    for (const [name, className] of [["path", "area"], ["path", "line"], ["line", "limit"]]) {
      const part = document.createElementNS(SVG, name);
      part.setAttribute("class", className);
      svg.append(part);
    }
    value.append(svg);
  }
  const [area, line, limit] = svg.children;
  const trend = trends.get(flowKey(flow)) || [];
  const configured = flow.actual ? flow.actual.rate : 0;
  const top = Math.max(configured, ...trend.map((each) => each || 0), 1) * 1.15;
  const y = (kbps) => (19.5 - (kbps / top) * 19).toFixed(2);
  const x = (index) => (100 - ((trend.length - 1 - index) * 100) / (POINTS - 1)).toFixed(2);
  let path = "";
  let below = "";
  let start = -1;
  trend.forEach((kbps, index) => {
    if (kbps === null) {
      start = -1;
      return;
    }
    path += `${start < 0 ? "M" : "L"}${x(index)} ${y(kbps)}`;
    if (start < 0) below += `M${x(index)} 20`;
    start = start < 0 ? index : start;
    below += `L${x(index)} ${y(kbps)}`;
    if (index + 1 === trend.length || trend[index + 1] === null) below += `L${x(index)} 20Z`;
  });
  line.setAttribute("d", path);
  area.setAttribute("d", below);
  limit.setAttribute("visibility", configured ? "visible" : "hidden");
  for (const [name, at] of [["x1", 0], ["x2", 100], ["y1", y(configured)], ["y2", y(configured)]]) {
    limit.setAttribute(name, at);
  }
}

function showFlow(cells, flow) {
  const isLink = flow.dest !== null;
  const [, , configured, kernel, now, trend, drops] = cells;
  const asked = impairment(flow.configured, isLink);
  const described = flow.as_described ? "" : `described: ${impairment(flow.described, isLink)}`;
  fill(configured, asked, described, flow.as_described ? "" : "differs");
  flash(configured, asked);
  const actual = flow.actual ? flow.actual.text : "";
  const drifted = flow.sync === "drifted" || flow.sync === "failed";
  fill(kernel, actual || "?", actual && flow.mechanism, drifted ? "differs" : "");
  flash(kernel, actual);
  const counters = flow.counters;
  const limit = flow.actual ? flow.actual.rate : 0;
  const used = counters && limit ? `${Math.round((counters.achieved_rate / limit) * 100)} %` : "";
  fill(now, counters ? rate(counters.achieved_rate) : "?", used);
  trend.className = "trend";
  drawTrend(trend, flow);
  fill(drops, counters ? counters.drops.toLocaleString("en") : "?");
  const state = cells[cells.length - 1];
  const [word, style] = stateOf(flow);
  fill(state, word, flow.reason, word && `state ${style}`);
  flash(state, word);
}

function showLink(tr, flow) {
  const cells = [...tr.children];
  fill(cells[0], `${flow.machine}:${flow.vif}`, flow.host);
  fill(cells[1], flow.peer || flow.dest, flow.peer ? flow.dest : "");
  const probe = probeOf(flow);
  const measured = Boolean(probe && probe.measured);
  const described = measured && probe.round_trip_described ? `of ${time(probe.round_trip_described)}` : "";
  const lost = measured && probe.loss ? `${probe.loss / 1e4} % lost` : "";
  fill(cells[7], measured ? time(probe.rtt_avg) : "", [described, lost].filter(Boolean).join(", "));
  showFlow(cells, flow);
}

function showInterface(tr, flow) {
  const cells = [...tr.children];
  fill(cells[0], `${flow.machine}:${flow.vif}`, flow.host);
  fill(cells[1], flow.direction === "fromVm" ? "sends" : "receives");
  showFlow(cells, flow);
}

const FLOW = ["Configured", "Kernel", "Now", "Trend", "Drops"];
const NUMBERS = ["Now", "Drops", "Round trip", "Machines", "Generation"];

function matches(flow, words) {
  const text = [flow.subject, flow.host, flow.peer, flow.dest, stateOf(flow)[0]].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

function showTable(id, labels, flows, all, update, none) {
  const table = $(id);
  keep(table.tBodies[0], flows, flowKey, () => row(labels, NUMBERS), update);
  table.hidden = !flows.length;
  const note = table.nextElementSibling;
  note.hidden = Boolean(flows.length);
  write(note, all ? "No row has all these words." : none);
}

function showFlows() {
  $("links").classList.toggle("unprobed", !network.probes.length);
  const words = $("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  const links = network.flows.filter((flow) => flow.dest !== null);
  const shapes = network.flows.filter((flow) => flow.dest === null);
  const interesting = shapes.filter((flow) => isOfInterest(flow) || $("all").checked);
  showTable(
    "links", ["From", "To", ...FLOW, "Round trip", "State"],
    links.filter((flow) => matches(flow, words)), links.length, showLink, "There are no links.",
  );
  showTable(
    "interfaces", ["Interface", "Direction", ...FLOW, "State"],
    interesting.filter((flow) => matches(flow, words)), interesting.length, showInterface,
    "No interface has a limit of its own or traffic.",
  );
}

// What is wrong, hosts, what happened

function problemItem() {
  const made = element("li");
  for (const name of ["state", "host", "subject", "text", "when"]) made.append(element("span", name), " ");
  return made;
}

function showProblem(item, problem) {
  const [state, host, subject, text, when] = item.children;
  item.className = SIGNS[problem.severity];
  write(state, problem.trouble, `state ${SIGNS[problem.severity]}`);
  write(host, problem.host);
  write(subject, problem.subject);
  write(text, problem.text === problem.trouble ? "" : problem.text.replace(`${problem.trouble}: `, ""));
  write(when, problem.seconds_left ? `${problem.seconds_left} s left` : ago(problem.since));
}

function showProblems() {
  const order = ["error", "warning", "note"];
  const problems = [...network.problems].sort(
    (one, other) => order.indexOf(one.severity) - order.indexOf(other.severity),
  );
  const key = (problem) => `${problem.host} ${problem.trouble} ${problem.subject} ${problem.text}`;
  $("attention").hidden = !problems.length;
  keep($("problems"), problems.slice(0, FIRST_PROBLEMS), key, problemItem, showProblem);
  const rest = problems.slice(FIRST_PROBLEMS);
  $("more-problems").hidden = !rest.length;
  write($("more-problems-summary"), `and ${rest.length} more`);
  keep($("rest-of-problems"), rest, key, problemItem, showProblem);
}

function showHost(tr, [name, host]) {
  const [first, hypervisor, machines, generation, by, transaction, state] = tr.children;
  fill(first, name);
  if (!host.reachable) {
    for (const cell of [hypervisor, machines, generation, by, transaction]) fill(cell, "");
    fill(state, "unreachable", host.error, "state bad");
    flash(state, "unreachable");
    return;
  }
  fill(hypervisor, `${host.hypervisor} ${host.hypervisor_status}`, `agent ${host.version}`);
  fill(machines, String(host.machines));
  fill(generation, String(host.generation));
  flash(generation, String(host.generation));
  fill(by, host.last_change_by);
  const txn = host.transaction;
  fill(transaction, txn ? txn.state : "none", txn ? `${txn.owner} ${txn.description}` : "", txn ? "differs" : "");
  const wrong = new Set(host.deviations.filter((each) => each.sync !== "waiting").map((each) => each.subject)).size;
  const [word, style] = host.mode !== "normal" ? [host.mode, "bad"]
    : wrong ? [`${wrong} not in sync`, "warn"] : ["in sync", "good"];
  fill(state, word, "", `state ${style}`);
  flash(state, word);
}

function showHistory() {
  const happened = [...network.history].reverse();
  const make = () => {
    const item = element("li");
    for (const name of ["quiet", "host", "subject", "text"]) item.append(element("span", name), " ");
    return item;
  };
  keep($("history"), happened, (each) => JSON.stringify(each), make, (item, each) => {
    const [time, host, subject, text] = item.children;
    write(time, clock(each.at));
    write(host, each.host);
    write(subject, each.subject);
    const style = each.severity ? SIGNS[each.severity] : each.what === "ends" ? "good" : "";
    write(text, each.text, `text ${style}`);
  });
}

function showSummary() {
  const count = (severity) => network.problems.filter((each) => each.severity === severity).length;
  const words = [["error", count("error")], ["warning", count("warning")]]
    .filter(([, found]) => found)
    .map(([word, found]) => `${found} ${word}${found > 1 ? "s" : ""}`);
  const hosts = Object.values(network.hosts);
  const answering = hosts.filter((host) => host.reachable).length;
  const text = words.length ? words.join(", ") : "as described, and in sync";
  write($("summary"), text, `state ${network.worst ? SIGNS[network.worst] : "good"}`);
  write($("title"), network.title);
  document.title = `${words.length ? `(${words.join(", ")}) ` : ""}${network.title} - vMIB`;
  write($("time"), `${answering} of ${hosts.length} hosts answer · ${clock(network.taken)}, every ${network.interval} s`);
}

// The picture: in a tree of its own, so that its style is its own

async function showPicture() {
  if (picture === network.picture) return;
  picture = network.picture;
  const answer = await fetch("picture.svg");
  if (!answer.ok) {
    picture = "";
    return;
  }
  const parsed = new DOMParser().parseFromString(await answer.text(), "image/svg+xml");
  const drawn = document.importNode(parsed.documentElement, true);
  const root = $("picture").shadowRoot || $("picture").attachShadow({ mode: "open" });
  const width = Number(drawn.getAttribute("width"));
  drawn.removeAttribute("height");
  drawn.setAttribute("width", "100%");
  drawn.style.display = "block";
  drawn.style.margin = "0 auto";
  drawn.style.maxWidth = `${width}px`;
  drawn.style.minWidth = `${Math.min(width, 800)}px`;
  root.replaceChildren(drawn);
}

// Listening

function show(text) {
  network = JSON.parse(text);
  heard = Date.now();
  remember(network.flows);
  showSummary();
  showProblems();
  showFlows();
  keep($("hosts").tBodies[0], Object.entries(network.hosts), ([name]) => name,
    () => row(["Host", "Hypervisor", "Machines", "Generation", "Changed by", "Transaction", "State"], NUMBERS), showHost);
  showHistory();
  showPicture();
}

function listen() {
  if (events || document.hidden) return;
  events = new EventSource("api/events");
  events.addEventListener("network", (event) => show(event.data));
  events.addEventListener("error", () => {
    lost();
    if (!events || events.readyState !== EventSource.CLOSED) return;
    events = null;
    setTimeout(listen, 2000);
  });
}

// Browsers hold few connections to one server: pages that nobody looks at hold none, and ask.

async function look() {
  try {
    const answer = await fetch("api/network");
    if (answer.ok) show(await answer.text());
  } catch {
    lost();
  }
}

function seenOrNot() {
  clearInterval(looking);
  if (document.hidden) {
    if (events) events.close();
    events = null;
    look();
    looking = setInterval(look, HIDDEN);
  } else {
    recall().catch(() => {}).finally(listen); // without trends the page is as good
  }
}

function lost() {
  write($("summary"), "vmib serve does not answer", "state bad");
  if (network) write($("time"), `the rest is of ${clock(network.taken)}`);
}

$("filter").addEventListener("submit", (event) => event.preventDefault());
$("filter").addEventListener("input", () => network && showFlows());
setInterval(() => {
  if (network && Date.now() - heard > 3000 * network.interval + 2 * HIDDEN) lost();
}, 1000);
document.addEventListener("visibilitychange", seenOrNot);
seenOrNot();
