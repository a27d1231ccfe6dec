"use strict";
// Shows what the host tells at /api/v1/events. Everything comes as text: nothing of it is ever read as HTML.

const byId = (id) => document.getElementById(id);
const EVENTS_SHOWN = 20;
const REFRESH_MS = 400; // one refresh for a burst of events
let state = { calls: [], orbits: [], occupants: [], users: [], pools: [] };
let events = [];
let refreshing = null;

// What time alone brings about (`upcoming.what`).
const upcoming = {
  lost: "counts as lost",
  back: "counts as back",
  failover: "fails over by its policy",
  failback: "goes home by its policy",
  drained: "parked calls are ended",
};
const columns = {
  pools: [
    ["Pool", (p) => p.name],
    ["Phase", (p) => (p.replaced_by ? "replaced by " + p.replaced_by : p.phase)],
    ["For", (p) => since(p.since)],
    ["Next", (p) => (p.upcoming ? upcoming[p.upcoming.what] + " in " + until(p.upcoming.at) : "")],
    ["Served by", (p) => p.served_by || (p.last_served_by ? "nobody, last by " + p.last_served_by : "nobody")],
    ["Backup", (p) => p.backup],
    ["Hosts alive", (p) => p.hosts.map((h) => h.name + (h.drained ? " (drained)" : "") + (h.trouble ? " (unreachable)" : "")).join(", ") || "none"],
    ["Parks in orbits of", (p) => p.serving],
    ["Ranges away", (p) => (p.moved.length ? p.moved.join(", ") + " at " + p.backup : "")],
    ["Parked", (p) => p.parked],
    ["Epoch", (p) => p.epoch],
  ],
  steps: [
    ["Pool", (s) => s.pool],
    ["Procedure", (s) => s.procedure],
    ["Step", (s) => s.name],
    ["State", (s) => s.state],
    ["For", (s) => (s.state === "running" ? since(s.at) : "")],
    ["", (s) => s.note],
  ],
  occupants: [
    ["Orbit", (o) => o.number],
    ["State", (o) => [o.state, o.claimant || o.ringing].filter(Boolean).join(" ")],
    ["Caller", (o) => o.parked],
    ["Parked by", (o) => o.parker],
    ["Waiting", (o) => since(o.since)],
    ["Next step in", (o) => until(o.deadline)],
    ["Recalls", (o) => o.recalls + (o.recalls_max ? " of " + o.recalls_max : "")],
  ],
  calls: [
    ["Call", (c) => c.id],
    ["State", (c) => c.state],
    ["Parties", (c) => (c.legs || []).map((l) => (l.user || l.uri) + (l.held ? " (held)" : "")).join(" – ")],
    ["For", (c) => since(c.since)],
  ],
  orbits: [
    ["Range", (r) => r.name],
    ["Numbers", (r) => r.from + "–" + r.to],
    ["Kind", (r) => r.kind],
    ["Pool", (r) => r.pool],
    ["In use", (r) => r.occupied + " of " + r.size],
  ],
  users: [
    ["User", (u) => u.name],
    ["Extension", (u) => u.extension],
    ["Name", (u) => u.display],
    ["Pool", (u) => u.pool],
    ["May park", (u) => (u.may_park ? "yes" : "no")],
    ["Phones", (u) => (u.bindings || []).map((b) => b.flow || b.contact).join(", ")],
  ],
  events: [
    ["Time", (e) => new Date(e.at).toLocaleTimeString()],
    ["Event", (e) => e.what + (e.code ? " " + e.code : "")],
    ["Detail", (e) => Object.entries(e.detail || {}).map(([k, v]) => k + " " + (typeof v === "object" ? JSON.stringify(v) : v)).join(", ")],
  ],
};
// Rows to look at first.
const bad = {
  pools: (p) => !p.replaced_by && (p.phase !== "active" || !p.served_by),
};
const nothing = {
  pools: "No pools.",
  steps: "No procedure is under way.",
  occupants: "No call is parked.",
  calls: "No calls.",
  orbits: "No ranges.",
  users: "No users.",
  events: "Nothing happened since this page was opened.",
};

function seconds(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  return s < 60 ? s + " s" : Math.floor(s / 60) + " min " + (s % 60) + " s";
}
const since = (at) => (at ? seconds(Date.now() - at) : "");
const until = (at) => (at ? seconds(at - Date.now()) : "");

function draw(id, rows) {
  const table = byId(id);
  table.replaceChildren();
  if (rows.length === 0) {
    const cell = table.insertRow().insertCell();
    cell.className = "none";
    cell.textContent = nothing[id];
    return;
  }
  const head = table.createTHead().insertRow();
  for (const [title] of columns[id]) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = title;
    head.append(cell);
  }
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    line.className = bad[id] && bad[id](row) ? "bad" : "";
    for (const [, value] of columns[id]) {
      const shown = value(row);
      line.insertCell().textContent = shown === undefined || shown === null ? "" : String(shown);
    }
  }
}
// The steps of what is being done with pools.
function steps() {
  const running = state.pools.filter((p) => p.journal && p.journal.ended === null);
  return running.flatMap((p) =>
    p.journal.steps.map((step) => ({
      ...step,
      pool: p.name,
      procedure: p.journal.procedure + (p.journal.to ? " to " + p.journal.to : "") + ", asked for by " + p.journal.asked_by + ", done by " + p.journal.runner,
    })),
  );
}
function drawAll() {
  for (const id of Object.keys(state)) draw(id, state[id]);
  draw("steps", steps());
  draw("events", events);
  // A host alone has nobody to stand in for it.
  byId("pools-section").hidden = !state.pools.some((p) => p.hosts.length || p.backup);
}
function say(text, bad) {
  byId("state").textContent = text;
  byId("state").className = bad ? "bad" : "";
}

const headers = () => {
  const token = sessionStorage.getItem("token");
  return token ? { Authorization: "Bearer " + token } : {};
};
async function refresh() {
  refreshing = null;
  for (const id of Object.keys(state)) {
    const answer = await fetch("/api/v1/" + id, { headers: headers() });
    if (answer.ok) state[id] = await answer.json();
  }
  drawAll();
}
function handle(kind, data) {
  if (kind === "snapshot") {
    state = data;
    say("live");
  } else if (kind === "event") {
    events = [data, ...events].slice(0, EVENTS_SHOWN);
    refreshing = refreshing || setTimeout(() => refresh().catch(() => {}), REFRESH_MS);
  } else if (kind === "missed") {
    say("missed " + data.missed + " events, catching up", true);
  } else if (kind === "failed") {
    say(data.text, true);
  }
  drawAll();
}

// EventSource cannot carry a token, so the stream is read by hand.
async function listen() {
  const answer = await fetch("/api/v1/events", { headers: headers() });
  if (answer.status === 401) {
    say("a token is needed", true);
    byId("login").hidden = false;
    return;
  }
  if (!answer.ok) throw new Error((await answer.json()).text);
  byId("login").hidden = true;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    rest += value;
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const field = (name) => part.split("\n").filter((l) => l.startsWith(name + ":")).map((l) => l.slice(name.length + 1).replace(/^ /, "")).join("\n");
      if (field("data")) handle(field("event"), JSON.parse(field("data")));
    }
  }
  throw new Error("the host closed the stream");
}
function connect() {
  listen().catch((error) => {
    say("not connected: " + error.message, true);
    setTimeout(connect, 2000);
  });
}

byId("login").addEventListener("submit", (submit) => {
  submit.preventDefault();
  sessionStorage.setItem("token", byId("token").value);
  connect();
});
setInterval(drawAll, 1000); // the times go on
connect();
