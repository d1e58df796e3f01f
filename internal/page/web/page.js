"use strict";
// Keeps the page up to date by /api/v1/. What is shown first comes from the server, complete;
// the functions that make rows and texts here are those of view.go and format.go, by the
// same names, and a test compares what the two make. Text of clients and brokers is set as
// text (textContent, setAttribute), never as markup.

const POLL = 3000, MOST_WAIT = 30000, TIMEOUT = 8000, HISTORY = 10000; // milliseconds
const DEFAULT_SORT = "-age", PER_PAGE = 50, MAX_FAILURES = 50, MAX_EVENTS = 10, MAX_BROKERS = 200;
const $ = (selector, within = document) => within.querySelector(selector);

// ---- How numbers and times are written: format.go ----

const group = (digits) => digits.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
const count = (n) => group(String(n || 0));
const decimal = (x) => x === 0 ? "0" : Math.abs(x) < 9.95 ? (Math.floor(x * 10 + 0.5) / 10).toFixed(1) : count(Math.floor(x + 0.5));
function size(bytes) {
	const units = ["B", "kB", "MB", "GB", "TB", "PB"];
	let i = 0;
	for (; bytes >= 999.5 && i < units.length - 1; i++) bytes /= 1000;
	return i === 0 ? count(Math.floor(bytes + 0.5)) + " B" : decimal(bytes) + " " + units[i];
}
function latency(s) {
	if (s < 0.001) return count(Math.floor(s * 1e6 + 0.5)) + " µs";
	if (s < 1) return decimal(s * 1e3) + " ms";
	return s < 60 ? decimal(s) + " s" : length(s);
}
function length(s) {
	if (s < 1) return "0 s";
	if (s < 60) return count(Math.floor(s)) + " s";
	if (s < 3600) return count(Math.floor(s / 60)) + " min";
	return s < 48 * 3600 ? count(Math.floor(s / 3600)) + " h" : count(Math.floor(s / 86400)) + " days";
}
const isZero = (t) => !t || t.startsWith("0001-");
const seconds = (t, now) => (Date.parse(now) - Date.parse(t)) / 1000; // from t until now
const date = (t) => new Date(t).toISOString().slice(0, 16).replace("T", " ") + " UTC";
const moment = (t, now) => Math.abs(seconds(t, now)) < 20 * 3600 ? new Date(t).toISOString().slice(11, 19) + " UTC" : date(t);
const since = (t, now) => isZero(t) ? "never" : moment(t, now) + ", " + length(seconds(t, now)) + " ago";
const counts = (m) => Object.keys(m || {}).sort().filter((k) => m[k]).map((k) => k + " " + count(m[k])).join(", ") || "none";
const sum = (m) => Object.values(m || {}).reduce((a, b) => a + b, 0);
const plural = (n, one, several) => n === 1 ? "1 " + one : count(n) + " " + several;
const join = (list) => (list || []).join(", ");
const stamp = (t) => new Date(t).toISOString().replace(/[-:TZ]/g, "");

// ---- What is shown: view.go ----

const text = (Text, Class, Href) => ({ Text, Class, Href });
const plain = (t) => ({ Parts: [text(t)] });
const number = (t) => ({ Class: "n", Parts: [text(t)] });
const numbers = (...parts) => ({ Class: "n", Parts: parts });
const wide = (...parts) => ({ Class: "wide", Parts: parts });
const parts = (...all) => ({ Parts: all });
const small = (t) => text(t, "sub");
const line = (t) => text(t, "line");
const remedy = (t) => text(t ? "→ " + t : "", "line remedy");
const item = (Key, ...all) => ({ Key, Cells: [{ Parts: all }] });
const health = (state) => text(state, "health " + state);
const healthCell = (state, from, now) => isZero(from) ? parts(health(state)) : parts(health(state), small("since " + since(from, now)));

function state(s) {
	const all = [text(s.state, "state " + s.state), text("since " + since(s.state_since, s.now))];
	if (s.state === "draining") all.push(text("No new clients are accepted; " + plural(s.connections.open, "connection is", "connections are") + " left."));
	const h = s.hand_over;
	if (h) {
		const change = h.from ? "This process has taken over from process " + h.from + ", which is closing its connections" : "Another process is being started, and will take over";
		all.push(text(change + ": since " + since(h.since, s.now) + "."));
	}
	return all;
}

const RECENT = 5 * 60;
const SIDES = {
	"first-byte": "client", handshake: "client", route: "client", authenticate: "client or its credential",
	dial: "broker or network", "upstream-tls": "broker", cluster: "broker", "broker-login": "broker",
	request: "client or broker", response: "client or broker",
	rewrite: "proxy", limit: "proxy's limits",
};

function verdict(s, clusters, failures) {
	const now = s.now, wrong = [], notes = [];
	const told = new Set(clusters.filter(isWrong).map((c) => c.name)); // what failed there needs no second line
	for (const state of ["down", "failing"]) {
		for (const c of clusters) if (c.health === state) wrong.push(clusterProblem(c, now));
	}
	for (const c of clusters) {
		if (c.other_cluster_addresses > 0) {
			wrong.push(item("other-cluster " + c.name, text("Cluster " + c.name + ": " + plural(c.other_cluster_addresses, "address has", "addresses have") + " the id of another cluster: connections to them are refused", "", clusterLink(c.name))));
		}
	}
	for (const p of s.reload.problems || []) {
		wrong.push(item("file " + p.setting, text("Files of " + p.setting + " cannot be used", "", "#files"), text("since " + since(p.since, now)),
			line(p.error), remedy("What was loaded before stays in use. Repair " + join(p.files))));
	}
	for (const c of s.certificates || []) {
		const problem = certificateProblem(c, now);
		if (problem) wrong.push(item("certificate " + c.use + " " + c.of + " " + c.fingerprint, text("Certificate of " + c.use + " " + c.of + ": " + problem, "", "#certificates"), line(c.warning)));
	}
	const { open, most } = s.connections;
	if (most > 0 && open >= most) {
		wrong.push(item("full", text("The limit of " + count(most) + " connections is reached: new clients are refused", "", "#process"), remedy("raise --max-connections, or sort the sessions by client to see who opens them")));
	} else if (most > 0 && open >= Math.floor(most / 10) * 9) {
		notes.push(item("full", text(count(open) + " of " + count(most) + " connections are open", "", "#process")));
	}
	const p = s.process;
	if (p.most_descriptors > 0 && p.open_descriptors >= Math.floor(p.most_descriptors / 10) * 9) {
		wrong.push(item("descriptors", text(count(p.open_descriptors) + " of " + count(p.most_descriptors) + " file descriptors are open", "", "#process"), remedy("raise the limit (LimitNOFILE, ulimit -n)")));
	}
	for (const side of ["broker or network", "broker", "proxy", "proxy's limits", "client", "client or broker"]) {
		const row = failuresOf(side, side.startsWith("broker") ? failures.filter((f) => !told.has(f.cluster)) : failures, now);
		if (row) (side === "client" || side === "client or broker" ? notes : wrong).push(row);
	}
	for (const c of clusters) notes.push(...stalls(c));
	(s.warnings || []).forEach((w, i) => {
		const isTold = (s.certificates || []).some((c) => c.warning && w.includes(c.file + " expires on "));
		if (!isTold) notes.push(item("warning " + i, text(w)));
	});
	if (s.connections.panics > 0) {
		notes.push(item("panics", text(plural(s.connections.panics, "panic was", "panics were") + " caught since the start: a bug of the proxy. Please report the log's line.")));
	}
	return { wrong, notes };
}

const isWrong = (c) => c.health === "down" || c.health === "failing";

// addresses are the brokers of a cluster, and those upstreams that are no known broker.
function addresses(c) {
	const all = c.brokers || [], known = new Set(all.filter((b) => isNode(b.node)).map((b) => b.address));
	return all.filter((b) => isNode(b.node) || !known.has(b.address));
}

function clusterProblem(c, now) {
	const brokers = addresses(c), down = brokers.filter((b) => b.health === "down");
	let worst;
	for (const b of down) if (b.last_error && (!worst || Date.parse(b.last_error_at) > Date.parse(worst.last_error_at))) worst = b;
	const what = c.health === "failing"
		? "Cluster " + c.name + ": " + count(down.length) + " of " + plural(brokers.length, "address", "addresses") + " cannot be reached"
		: "Cluster " + c.name + " is down: none of its addresses can be reached";
	return item("cluster " + c.name, text(what, "", clusterLink(c.name)), text("since " + since(c.since, now)),
		line(worst && worst.address + ": " + worst.last_error), remedy(worst && worst.remedy));
}

function failuresOf(side, failures, now) {
	const of = failures.filter((f) => SIDES[f.phase] === side && seconds(f.last, now) <= RECENT);
	if (of.length === 0) return null;
	const phases = [...new Set(of.map((f) => f.phase))].sort();
	const first = of.reduce((t, f) => Date.parse(f.first) < Date.parse(t) ? f.first : t, now);
	return item("failures " + side, text("Connections failed in the last 5 minutes, likely cause: " + side, "", "#failures"),
		text("phase " + phases.join(", ") + "; " + plural(of.length, "kind of error", "kinds of error") + ", the first at " + since(first, now)), line(of[0].reason), remedy(of[0].remedy));
}

function certificateProblem(c, now) {
	if (seconds(c.not_after, now) > 0) return "expired " + since(c.not_after, now);
	if (seconds(c.not_before, now) < 0) return "not valid before " + moment(c.not_before, now);
	return c.warning ? "expires " + moment(c.not_after, now) + ", in " + length(-seconds(c.not_after, now)) : "";
}

function figures(s) {
	const r = s.rates;
	const rate = (f) => r ? f(r) : "–";
	return [
		["connections", "Connections", text(count(s.connections.open)), small(s.connections.most > 0 ? "limit " + count(s.connections.most) : "no limit"), small(rate((r) => decimal(r.connections_per_second) + " new /s"))],
		["requests", "Requests", text(rate((r) => decimal(r.requests_per_second) + " /s")), small(count(s.connections.in_flight) + " in flight")],
		["in", "To brokers", text(rate((r) => size(r.request_bytes_per_second) + "/s")), small(size(s.traffic.request_bytes) + " since the start")],
		["out", "To clients", text(rate((r) => size(r.response_bytes_per_second) + "/s")), small(size(s.traffic.response_bytes) + " since the start")],
		["latency", "Broker latency", ...quantiles(r && r.latency)],
		["added", "Added by the proxy", ...quantiles(r && r.added)],
		["failed", "Failed connections", text(rate((r) => decimal(r.failures_per_second) + " /s")), small(count(sum(s.connections.failed)) + " since the start")],
		["up", "Uptime", text(length(seconds(s.started, s.now))), small("since " + moment(s.started, s.now))],
	];
}

const quantiles = (q) => q
	? [text(latency(q.p50)), small("p50"), small("p99 " + latency(q.p99))]
	: [text("–"), small("no requests")];

// Go's url.PathEscape leaves some of what encodeURIComponent escapes.
const clusterLink = (name) => "#cluster-" + encodeURIComponent(name).replace(/%(24|26|2B|3A|3D|40)/g, (c) => decodeURIComponent(c));

// link leads to the sessions of a query, an object of the parameters.
function sessionsLink(query) {
	const p = new URLSearchParams();
	for (const key of Object.keys(query).sort()) {
		const value = String(query[key]);
		const usual = { sort: DEFAULT_SORT, limit: String(PER_PAGE), offset: "0" }[key];
		if (value !== "" && value !== usual) p.set(key, value);
	}
	return (p.size ? "/?" + p : "/") + "#sessions";
}

function clusterRow(c, now) {
	const brokers = addresses(c);
	const reached = brokers.filter((b) => b.health === "ok").length;
	const untried = brokers.filter((b) => b.health === "unknown").length;
	return { Key: c.name, Cells: [
		parts(text(c.name, "", clusterLink(c.name))),
		healthCell(c.health, c.since, now),
		numbers(text(count(reached) + " of " + count(brokers.length - untried)), small(untried && count(untried) + " not tried yet")),
		numbers(text(count(c.connections), "", sessionsLink({ cluster: c.name }))),
		number(count(c.in_flight)),
		number(count(c.traffic.requests)),
		number(size(c.traffic.request_bytes)),
		number(size(c.traffic.response_bytes)),
		number(count(sum(c.failed))),
	] };
}

function clusterDetail(c, now, clusters) {
	const most = Math.max(5, Math.min(50, Math.floor(MAX_BROKERS / Math.max(1, clusters))));
	const all = addresses(c);
	const brokers = [...all.filter((b) => b.health === "down"), ...all.filter((b) => b.health !== "down")];
	return {
		facts: [
			["id", "Cluster id", text(c.id || "not known yet")],
			["bootstrap", "Bootstrap for clients", text(c.bootstrap)],
			["upstreams", "Upstreams", text(join(c.upstreams))],
			["tls", "TLS to brokers", text(c.tls ? "yes" : "none (plaintext)")],
			["via", "Path to brokers", text(c.via || "direct")],
			["failed", "Failed connections", text(counts(c.failed))],
			["refused", "Refused by the cluster's connection limit", text(count(c.refused))],
			["throttled", "Throttled by brokers", text(count(c.traffic.throttled) + " responses")],
			["rewritten", "Rewritten by the proxy", text(count(c.traffic.rewritten) + " responses")],
			["provisional", "Connections to a broker not known yet", text(count(c.provisional))],
			["queries", "Requests of the proxy itself", text(count(c.queries.answered) + " answered, " + count(c.queries.failed) + " failed")],
		],
		brokers: brokers.slice(0, most).map((b) => brokerRow(b, now)),
		more: brokers.length > most ? "The first " + count(most) + " of " + count(brokers.length) + ", those that are down first. All: /api/v1/clusters" : "",
		apis: (c.apis || []).map((a) => ({ Key: a.api, Cells: [plain(a.api), number(count(a.answers)), number(latency(a.latency.p50)), number(latency(a.latency.p99))] })),
	};
}

const isNode = (node) => node !== undefined && node !== null;

function brokerRow(b, now) {
	const who = isNode(b.node) ? "broker " + b.node : "upstream";
	const dialled = !isZero(b.last_dial);
	const failure = b.last_error
		? wide(text(b.last_error), small(since(b.last_error_at, now)), remedy(b.remedy))
		: wide(text("none"));
	return { Key: who + " " + b.address, Cells: [
		parts(text(who), small(b.name), small(!b.confirmed && isNode(b.node) ? "only in the routes file so far" : "")),
		healthCell(b.health, b.since, now),
		plain(b.address),
		numbers(text(count(b.connections), "", sessionsLink({ broker: b.address }))),
		numbers(text(dialled ? latency(b.last_dial_seconds || 0) : "–"), small(dialled && since(b.last_dial, now))),
		numbers(text(count(b.dials)), small(count(b.dial_errors) + " failed")),
		failure,
	] };
}

function failureRow(f, now) {
	const where = [["server name ", f.sni], ["listener ", f.listener], ["cluster ", f.cluster], ["broker ", f.broker]]
		.map(([name, value]) => value ? ", " + name + value : "").join("");
	const several = f.count > 1;
	return item(stamp(f.first).slice(0, 18) + " " + f.phase + " " + f.reason,
		text(since(f.last, now), "strong"), text(several && count(f.count) + " times", "strong"), text("phase " + f.phase, "tag"),
		text("likely cause: " + (SIDES[f.phase] || "unknown"), "tag"), small(several && "first " + since(f.first, now)),
		line(f.reason), remedy(f.remedy), text("client " + f.client + where, "line dim"));
}

function sessionRange(s) {
	const shown = s.sessions.length;
	const found = (s.matching !== s.total ? count(s.matching) + " match, of " : "") + plural(s.total, "session", "sessions");
	return shown ? count(s.offset + 1) + "–" + count(s.offset + shown) + " of " + found : found;
}

function stalls(c) {
	const all = [];
	if (c.stalled_by_clients > 0) {
		all.push(item("stalled clients " + c.name, text("Cluster " + c.name + ": " + plural(c.stalled_by_clients, "client does", "clients do") + " not read what the broker has sent", "", clusterLink(c.name)),
			remedy("the client is busy or its network is full: look at it, not at the broker")));
	}
	if (c.stalled_by_brokers > 0) {
		all.push(item("stalled brokers " + c.name, text("Cluster " + c.name + ": on " + plural(c.stalled_by_brokers, "connection", "connections") + " the broker does not read requests", "", clusterLink(c.name)),
			remedy("the broker or the network to it is overloaded")));
	}
	return all;
}

const stalled = (s) => s.stalled_by ? s.stalled_by + " does not read, " + length(s.stalled_seconds) : "";

function sessionRow(s) {
	return { Key: String(s.id), Cells: [
		parts(text(s.client), small(s.principal && s.principal + " by " + s.mechanism), small(s.client_id)),
		parts(text(s.software), text(s.software_version)),
		parts(text(s.sni), small(s.listener), small(s.tls)),
		plain(s.cluster),
		parts(text(isNode(s.node) ? "broker " + s.node : s.broker), small(isNode(s.node) && s.broker), small(s.provisional && "broker not known yet")),
		parts(text(s.state), small(stalled(s))),
		number(length(s.age_seconds)),
		number(length(s.idle_seconds)),
		number(count(s.requests)),
		number(size(s.request_bytes + s.response_bytes)),
		number(size(s.bytes_per_second) + "/s"),
		number(count(s.in_flight)),
		numbers(text(s.oldest_seconds > 0 ? latency(s.oldest_seconds) : "–"), small(s.oldest_api)),
	] };
}

function listenerRow(l) {
	const ports = l.mode === "ports";
	return { Key: l.name, Cells: [
		plain(l.name), plain(l.address), parts(text(ports ? "a port for each broker" : "by server name (SNI)"), small(ports && l.broker_ports)),
		plain(l.mtls ? "mutual TLS" : l.tls ? "TLS" : "none (plaintext)"),
		wide(text(join(l.clusters))), wide(text(join(l.bootstrap))),
		numbers(text(count(l.connections), "", sessionsLink({ listener: l.name }))),
	] };
}

const USES = { listener: "shown to clients", upstream: "shown to brokers", "client-authority": "verifies clients", admin: "admin port" };

function certificateRow(c, now) {
	const left = -seconds(c.not_after, now);
	const state = left < 0 ? text("expired", "health down") : certificateProblem(c, now) ? text("renew", "health failing") : health("ok");
	return { Key: c.use + " " + c.of + " " + c.fingerprint, Cells: [
		parts(text(c.of), small(USES[c.use] || c.use)),
		parts(state, text(date(c.not_after)), small(left < 0 ? length(-left) + " ago" : "in " + length(left)), small(c.warning)),
		plain(date(c.not_before)),
		wide(text(c.subject), small(join(c.names))),
		plain(c.issuer),
		wide(text(c.file), small("serial " + c.serial), small("SHA-256 " + c.fingerprint)),
	] };
}

const reloadFacts = (s) => [
	["configuration", "Configuration", text(s.configuration || "flags and environment variables only")],
	["good", "Last time without errors", text(since(s.reload.last_good, s.now))],
	["readings", "Reloads", text(count(s.reload.changed) + " with changes, " + count(s.reload.failed) + " with errors")],
];

const problemRow = (p, now) => ({ Key: p.setting, Cells: [plain(p.setting), plain(join(p.files)), plain(since(p.since, now)), wide(text(p.error))] });

const eventRow = (e, now) => ({ Key: stamp(e.time).slice(0, 18), Cells: [
	plain(since(e.time, now)), plain(e.asked ? "SIGHUP" : "a file changed"), plain(join(e.changed) || "none"), plain(join(e.failed) || "none"),
] });

function processFacts(s) {
	const c = s.connections, p = s.process;
	return [
		["version", "Version", text(s.version), text(s.go)],
		["pid", "Process", text(String(s.pid)), text("on " + s.host)],
		["memory", "Memory", text(size(p.resident_bytes || 0))],
		["cpu", "CPU time", text(length(p.cpu_seconds || 0))],
		["descriptors", "File descriptors", text(count(p.open_descriptors) + (p.most_descriptors > 0 ? " of " + count(p.most_descriptors) : ""))],
		["goroutines", "Goroutines", text(count(p.goroutines))],
		["accepted", "Connections accepted", text(count(c.accepted))],
		["accept-errors", "Accept errors", text(count(c.accept_errors))],
		["refused", "Refused, by limit", text(counts(c.refused))],
		["retired", "Closed by the proxy, by reason", text(counts(c.retired))],
		["failed", "Failed, by phase", text(counts(c.failed))],
		["panics", "Panics", text(count(c.panics))],
	];
}

// ---- Laying it out: page.html ----
// Elements stay while what they show changes, so that focus, selection and scrolling do.

function setText(element, value) {
	if (element.textContent !== value) element.textContent = value;
}

function setAttribute(element, name, value) {
	if (!value) element.removeAttribute(name);
	else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

function fillParts(parent, all) {
	const wanted = all.filter((p) => p.Text);
	wanted.forEach((p, i) => {
		const tag = p.Href ? "A" : "SPAN";
		let child = parent.children[i];
		if (!child || child.tagName !== tag) {
			const made = document.createElement(tag);
			if (child) child.replaceWith(made);
			else parent.append(made, " ");
			child = made;
		}
		setAttribute(child, "class", p.Class);
		setAttribute(child, "href", p.Href);
		setText(child, p.Text);
	});
	while (parent.children.length > wanted.length) parent.lastElementChild.remove();
}

// fillKeyed gives parent one child for each of wanted: the one with its key, else a new one.
function fillKeyed(parent, wanted, key, make, fill) {
	const old = new Map();
	for (const child of parent.children) old.set(child.dataset.key, [...(old.get(child.dataset.key) || []), child]);
	const children = wanted.map((each) => {
		let child = (old.get(key(each)) || []).shift();
		if (!child) {
			child = make();
			child.dataset.key = key(each);
		}
		fill(child, each);
		return child;
	});
	for (const rest of old.values()) for (const child of rest) child.remove();
	let next = parent.firstElementChild;
	for (const child of children) {
		if (child === next) next = next.nextElementSibling;
		else parent.insertBefore(child, next);
	}
}

function fillTable(table, rows) {
	fillKeyed(table.tBodies[0], rows, (row) => row.Key, () => document.createElement("tr"), (tr, row) => {
		row.Cells.forEach((cell, i) => {
			let td = tr.cells[i];
			if (!td) {
				td = document.createElement(i ? "td" : "th");
				if (!i) td.scope = "row";
				tr.append(td);
			}
			setAttribute(td, "class", cell.Class);
			fillParts(td, cell.Parts);
		});
	});
}

const fillList = (list, rows) => fillKeyed(list, rows, (row) => row.Key, () => document.createElement("li"), (li, row) => fillParts(li, row.Cells[0].Parts));

const fillFacts = (dl, facts) => fillKeyed(dl, facts, (fact) => fact[0], () => {
	const div = document.createElement("div");
	div.append(document.createElement("dt"), document.createElement("dd"));
	return div;
}, (div, [, name, ...all]) => {
	setText(div.children[0], name);
	fillParts(div.children[1], all);
});

function fillCluster(details, c, now, clusters) {
	const d = clusterDetail(c, now, clusters);
	setAttribute(details, "id", "cluster-" + c.name);
	setText($("[data-text=name]", details), c.name);
	fillTable($("[data-table=brokers]", details), d.brokers);
	setText($("[data-more=brokers]", details), d.more);
	fillFacts($("[data-facts=facts]", details), d.facts);
	fillTable($("[data-table=apis]", details), d.apis);
	const groups = details.querySelectorAll("[role=group]");
	setAttribute(groups[0], "aria-label", "Brokers of " + c.name);
	setAttribute(groups[1], "aria-label", "Requests of " + c.name);
}

function show(s, clusters, failures) {
	const now = s.now;
	setText($("[data-text=host]"), s.host);
	setText($("[data-text=asof]"), moment(now, now));
	fillParts($("[data-parts=state]"), state(s));
	const { wrong, notes } = verdict(s, clusters, failures);
	const title = wrong.length ? plural(wrong.length, "problem", "problems") : "No problems";
	$("#verdict").className = wrong.length ? "wrong" : "ok";
	setText($("[data-text=verdict]"), title);
	if (document.title !== title + " – kafka-sni-proxy on " + s.host) document.title = title + " – kafka-sni-proxy on " + s.host;
	fillList($("[data-list=wrong]"), wrong);
	$("[data-heading=notes]").hidden = !notes.length;
	fillList($("[data-list=notes]"), notes);
	fillFacts($("[data-facts=figures]"), figures(s));

	fillTable($("[data-table=overview]"), clusters.map((c) => clusterRow(c, now)));
	fillKeyed($("[data-clusters]"), clusters, (c) => c.name, () => $("#cluster").content.firstElementChild.cloneNode(true), (details, c) => {
		if (!details.id || details.id === "cluster-") details.open = clusters.length <= 3 || isWrong(c);
		fillCluster(details, c, now, clusters.length);
	});

	const list = $("[data-list=failures]");
	fillList(list, failures.slice(0, MAX_FAILURES).map((f) => failureRow(f, now)));
	$("[data-none=failures]").hidden = failures.length > 0;
	list.parentElement.hidden = failures.length === 0;
	setText($("[data-more=failures]"), failures.length > MAX_FAILURES ? "The newest " + count(MAX_FAILURES) + " of " + count(failures.length) + ". All: /api/v1/failures" : "");

	fillTable($("[data-table=listeners]"), (s.listeners || []).map(listenerRow));
	fillTable($("[data-table=certificates]"), (s.certificates || []).map((c) => certificateRow(c, now)));
	fillFacts($("[data-facts=reload]"), reloadFacts(s));
	const problems = s.reload.problems || [], events = s.reload.events || [];
	fillTable($("[data-table=problems]"), problems.map((p) => problemRow(p, now)));
	$("[data-box=problems]").hidden = !problems.length;
	fillTable($("[data-table=events]"), events.slice(0, MAX_EVENTS).map((e) => eventRow(e, now)));
	$("[data-box=events]").hidden = !events.length;
	setText($("[data-more=events]"), events.length > MAX_EVENTS ? "The newest " + count(MAX_EVENTS) + " of " + count(events.length) + ". All: /api/v1/status" : "");
	fillFacts($("[data-facts=process]"), processFacts(s));

	fillOptions($("select[name=cluster]"), clusters.map((c) => c.name));
	fillOptions($("select[name=listener]"), (s.listeners || []).map((l) => l.name));
	fillOptions($("#history-of"), clusters.map((c) => c.name));
}

// fillOptions keeps the first option, and the one that is chosen.
function fillOptions(select, values) {
	const chosen = select.value;
	const wanted = chosen && !values.includes(chosen) ? [...values, chosen] : values;
	const have = [...select.options].slice(1).map((o) => o.value);
	if (have.length === wanted.length && have.every((v, i) => v === wanted[i])) return;
	while (select.options.length > 1) select.options[1].remove();
	for (const value of wanted) select.add(new Option(value, value, false, value === chosen));
}

// keepFocus runs a change of the page. If that takes away or moves what has the focus, the
// focus stays, or goes to the region around it.
function keepFocus(change) {
	const focused = document.activeElement;
	const region = focused && focused.parentElement && focused.parentElement.closest("[tabindex]");
	change();
	if (!focused || document.activeElement === focused || focused === document.body) return;
	const to = focused.isConnected && !focused.hidden ? focused : region || $("#verdict-text");
	to.focus({ preventScroll: true });
}

// ---- Sessions: filter, sort, pages ----

const form = $("#sessions form");
const FILTERS = ["q", "cluster", "listener", "broker", "state"];
const filters = () => Object.fromEntries(FILTERS.map((field) => [field, form.elements[field].value]));
let query = { ...filters(), sort: form.elements.sort.value, limit: Number(form.dataset.limit), offset: Number(form.dataset.offset) };

function showSessions(s) {
	s.sessions = s.sessions || [];
	const { limit } = query;
	fillTable($("[data-table=sessions]"), s.sessions.map(sessionRow));
	setText($("[data-text=range]"), sessionRange(s));
	for (const th of document.querySelectorAll("#sessions th[data-sort]")) {
		const usual = th.dataset.sort, field = usual.replace("-", "");
		const direction = query.sort === field ? "ascending" : query.sort === "-" + field ? "descending" : "none";
		setAttribute(th, "aria-sort", direction);
		const next = { none: usual, ascending: "-" + field, descending: field }[direction];
		setAttribute(th.firstElementChild, "href", sessionsLink({ ...query, sort: next, offset: 0 }));
	}
	const at = s.offset;
	showPage("previous", at > 0, Math.max(0, at - limit));
	showPage("next", at + limit < s.matching, at + limit);
}

function showPage(which, exists, offset) {
	const a = $("[data-page=" + which + "]");
	a.hidden = !exists;
	if (exists) setAttribute(a, "href", sessionsLink({ ...query, offset }));
}

function choose(change) {
	query = { ...query, offset: 0, ...change };
	form.elements.sort.value = query.sort;
	history.replaceState(null, "", sessionsLink(query));
	setText($("[data-text=mistake]"), "");
	return pollSessions(true);
}

// pollSessions asks for the sessions. A reader who cannot see the table is told what came of a
// choice, and not of each poll.
async function pollSessions(chosen = false) {
	const asked = query;
	const parameters = new URLSearchParams(Object.entries(asked).filter(([, value]) => value !== ""));
	let answer;
	try {
		answer = await ask("sessions?" + parameters);
	} catch (error) {
		if (!error.mistake) throw error;
		setText($("[data-text=mistake]"), error.mistake);
		return;
	}
	if (asked !== query) return; // another question is under way
	const last = answer.matching ? Math.floor((answer.matching - 1) / asked.limit) * asked.limit : 0;
	if (asked.offset > last) return choose({ offset: last });
	keepFocus(() => showSessions(answer));
	if (chosen) setText($("#found"), sessionRange(answer));
}

const chooseNow = (change) => choose(change).catch(() => {}); // the next poll tells what is wrong

$("#sessions").addEventListener("click", (event) => {
	const a = event.target.closest("thead a, .pages a, a.all");
	if (!a || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
	event.preventDefault();
	if (a.matches(".all")) {
		for (const field of FILTERS) form.elements[field].value = "";
		chooseNow(filters());
		return;
	}
	const wanted = new URL(a.href).searchParams;
	chooseNow({ sort: wanted.get("sort") || DEFAULT_SORT, offset: Number(wanted.get("offset")) });
});
form.addEventListener("submit", (event) => {
	event.preventDefault();
	clearTimeout(typing);
	chooseNow(filters());
});
let typing;
form.addEventListener("input", () => {
	clearTimeout(typing);
	typing = setTimeout(() => chooseNow(filters()), 250);
});

// ---- Plots ----

const rate = (x) => decimal(x) + " /s";
const bytes = (x) => size(x) + "/s";
// The plots in the order in which page.html names them, and the columns of api.History. An axis
// ends at top, or above.
const PLOTS = [
	{ write: bytes, top: 1000, lines: [["request_bytes", "to brokers"], ["response_bytes", "to clients"]] },
	{ write: rate, top: 1, lines: [["requests", "requests"]] },
	{ write: latency, top: 0.001, lines: [["latency_p50", "p50"], ["latency_p99", "p99"], ["added_p50", "added by the proxy, p50"], ["added_p99", "added by the proxy, p99"]] },
	{ write: (x) => decimal(x).replace(/\.0$/, ""), top: 4, lines: [["connections", "open"], ["in_flight", "requests in flight"]] },
	{ write: rate, top: 1, lines: [["opened", "new"], ["failed", "failed"]] },
];
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];
const hour = (t) => new Date(t * 1000).toISOString().slice(11, 16);
let plots = [], lastHistory = null, historyAt = 0;

function buildPlots() {
	const colours = getComputedStyle(document.documentElement);
	const colour = (name) => colours.getPropertyValue(name).trim();
	for (const p of plots) p.chart.destroy();
	plots = PLOTS.map((spec, i) => buildPlot(spec, i, colour));
	if (lastHistory) showHistory(lastHistory);
}

function buildPlot(spec, i, colour) {
	const [, box, legend] = $("#plots").children[i].children;
	if (!legend.children.length) spec.lines.forEach(([, name], n) => legend.append(legendItem(name, n)));
	const axis = { stroke: colour("--dim"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { stroke: colour("--grid"), width: 1 }, font: "12px system-ui, sans-serif" };
	const chart = new uPlot({
		width: box.clientWidth || 300, height: box.clientHeight || 176,
		legend: { show: false },
		cursor: { sync: { key: "hour" }, drag: { x: false, y: false } },
		scales: {
			x: { time: true, range: (u, from, to) => [Math.min(from, to - 3600), to] }, // an hour, however few values there are
			y: { range: (u, low, high) => [0, Math.max((high || 0) * 1.1, spec.top)] },
		},
		axes: [
			{ ...axis, values: (u, splits) => splits.map(hour) },
			{ ...axis, size: 72, values: (u, splits) => splits.map(spec.write) },
		],
		series: [{}, ...spec.lines.map(([, name], n) => ({ label: name, stroke: colour("--plot-" + (n + 1)), width: 1.5, dash: DASHES[n], spanGaps: false, points: { show: false } }))],
		hooks: { setCursor: [(u) => showLegend(spec, legend, u.data, u.cursor.idx)] },
	}, [[], ...spec.lines.map(() => [])], box);
	return { spec, box, legend, chart };
}

function legendItem(name, n) {
	const li = document.createElement("li"), label = document.createElement("span"), value = document.createElement("span");
	const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), stroke = document.createElementNS("http://www.w3.org/2000/svg", "line");
	svg.setAttribute("viewBox", "0 0 28 8");
	svg.setAttribute("aria-hidden", "true");
	for (const [key, v] of Object.entries({ x1: 0, y1: 4, x2: 28, y2: 4, class: "p" + (n + 1) })) stroke.setAttribute(key, v);
	svg.append(stroke);
	label.textContent = name + " ";
	li.append(svg, label, value);
	return li;
}

// showLegend writes the values at a point, or the last ones with the greatest of the hour.
function showLegend(spec, legend, data, at) {
	spec.lines.forEach((_, n) => {
		const values = data[n + 1];
		let said = "no values";
		if (at !== null && at !== undefined) {
			said = isNode(values[at]) ? spec.write(values[at]) + " at " + hour(data[0][at]) : "no value at " + hour(data[0][at]);
		} else {
			const known = values.filter(isNode);
			if (known.length) said = spec.write(known.at(-1)) + ", max " + spec.write(known.reduce((a, b) => Math.max(a, b)));
		}
		setText(legend.children[n].lastElementChild, said);
	});
}

function showHistory(h) {
	lastHistory = h;
	const times = h.times || [];
	for (const { spec, legend, chart } of plots) {
		const data = [times, ...spec.lines.map(([column]) => (h.columns || {})[column] || times.map(() => null))];
		chart.setData(data);
		showLegend(spec, legend, data, chart.cursor.idx);
	}
}

async function pollHistory() {
	if (Date.now() - historyAt < HISTORY) return;
	const of = $("#history-of").value;
	let answer;
	try {
		answer = await ask("history" + (of ? "?cluster=" + encodeURIComponent(of) : ""));
	} catch (error) {
		if (!error.mistake || !of) throw error;
		$("#history-of").value = ""; // the cluster is gone
		return;
	}
	if (of !== $("#history-of").value) return;
	historyAt = Date.now();
	showHistory(answer);
}

// ---- Asking again and again ----

async function ask(what) {
	// The origin has no password in it, as the page's own address may have.
	const response = await fetch(location.origin + "/api/v1/" + what, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
	if (response.ok) return response.json();
	const answer = await response.json().catch(() => ({}));
	const error = new Error(response.status === 401 || response.status === 403 ? "a login is needed: reload the page" : "status " + response.status);
	error.answered = true;
	if (response.status === 400 || response.status === 404) error.mistake = answer.error;
	throw error;
}

let timer = null, polling = false, paused = false, failed = 0, silentSince = null, lastAnswer = document.documentElement.dataset.now;

async function poll() {
	if (polling || paused || document.hidden) return;
	polling = true;
	stop();
	try {
		const [status, clusters, failures] = await Promise.all([ask("status"), ask("clusters"), ask("failures"), pollSessions()]);
		keepFocus(() => show(status, clusters.clusters || [], failures.failures || []));
		await pollHistory();
		answered(status.now);
	} catch (error) {
		noAnswer(error);
	}
	polling = false;
	schedule();
}

const wait = () => Math.min(MOST_WAIT, POLL * 2 ** Math.min(failed, 5));

function stop() {
	clearTimeout(timer);
	timer = null;
}

function schedule() {
	stop();
	if (!paused && !document.hidden) timer = setTimeout(poll, wait());
}

function answered(at) {
	failed = 0;
	silentSince = null;
	lastAnswer = at;
	$("#silence").hidden = true;
	document.body.classList.remove("silent");
}

function noAnswer(error) {
	failed++;
	silentSince = silentSince || new Date().toISOString();
	const why = error.answered ? " (" + error.message + ")" : "";
	setText($("#silence"), "The proxy has not answered since " + moment(silentSince, silentSince) + why + ". The values below are of " + moment(lastAnswer, lastAnswer) + ". Trying again.");
	$("#silence").hidden = false;
	document.body.classList.add("silent");
}

document.addEventListener("visibilitychange", () => {
	stop();
	poll();
});
$("#pause").addEventListener("click", () => {
	paused = !paused;
	$("#pause").setAttribute("aria-pressed", String(paused));
	stop();
	poll();
});
$("#history-of").addEventListener("change", () => {
	historyAt = 0;
	pollHistory().catch(() => {});
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", buildPlots);
new ResizeObserver(() => {
	for (const { chart, box } of plots) {
		if (box.clientWidth && box.clientWidth !== chart.width) chart.setSize({ width: box.clientWidth, height: box.clientHeight });
	}
}).observe($("#plots"));

$("#pause").hidden = false;
buildPlots();
poll();
