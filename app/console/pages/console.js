// The live page: polls the console's own API and writes text, never markup, into the document.
"use strict";

const PERIOD_MS = 2000;
const TRACE_POINTS = 90;
const traces = new Map(); // device key -> recent milliwatts
let paused = false;

const byId = (id) => document.getElementById(id);

function scaled(value, steps, smallest) {
  for (const [size, unit] of steps) {
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3)).toLocaleString()} ${unit}`;
  }
  return `${Math.round(value)} ${smallest}`;
}

const energy = (uj) => scaled(uj, [[3.6e12, "kWh"], [1e9, "kJ"], [1e6, "J"], [1e3, "mJ"]], "µJ");
const carbon = (ug) => scaled(ug, [[1e9, "kgCO₂e"], [1e6, "gCO₂e"], [1e3, "mgCO₂e"]], "µgCO₂e");
const power = (mw) => (mw === null ? "–" : scaled(mw, [[1e6, "kW"], [1e3, "W"]], "mW"));
const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(1)} %`);

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function fill(id, rows, whenEmpty) {
  const body = byId(id).tBodies[0];
  const columns = byId(id).tHead.rows[0].cells.length;
  const made = rows.map((cells) => {
    const row = element("tr");
    row.append(...cells);
    return row;
  });
  if (!made.length) {
    const cell = element("td", whenEmpty, "quiet");
    cell.colSpan = columns;
    const row = element("tr");
    row.append(cell);
    made.push(row);
  }
  body.replaceChildren(...made);
}

function heading(text, below) {
  const cell = element("th", text);
  cell.scope = "row";
  if (below) cell.append(element("small", below));
  return cell;
}

function share(value) {
  const cell = element("td");
  const meter = element("meter");
  meter.value = value;
  meter.setAttribute("aria-hidden", "true");
  cell.append(meter, percent(value));
  return cell;
}

function trace(points) {
  const cell = element("td");
  const names = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(names, "svg");
  const most = Math.max(...points, 1);
  const line = document.createElementNS(names, "polyline");
  const places = points.map((mw, i) => `${(i * 100) / (TRACE_POINTS - 1)},${29 - (28 * mw) / most}`);
  line.setAttribute("points", places.join(" "));
  svg.setAttribute("class", "trace");
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.append(line);
  cell.append(svg);
  return cell;
}

function remember(device) {
  const points = traces.get(device.device_key) ?? [];
  if (device.power_mw !== null) points.push(device.power_mw);
  traces.set(device.device_key, points.slice(-TRACE_POINTS));
  return traces.get(device.device_key);
}

function showDevices(status) {
  const told = status.devices.filter((device) => device.power_mw !== null);
  byId("power").textContent = told.length ? power(told.reduce((sum, device) => sum + device.power_mw, 0)) : "–";
  fill("devices", status.devices.map((device) => [
    element("td", device.node),
    heading(device.name, device.device_key.split("/").slice(2).join("/")),
    element("td", device.grade),
    element("td", power(device.power_mw), "n"),
    trace(remember(device)),
    element("td", percent(device.utilization), "n"),
    element("td", energy(device.energy_uj), "n"),
  ]), "No device is metered yet: meters start with the first work.");
}

function showWarnings(status) {
  byId("warnings").hidden = status.warnings.length === 0;
  byId("warnings").replaceChildren(...status.warnings.map((warning) => element("li", warning)));
}

function showAccounts(report) {
  byId("energy").textContent = energy(report.energy_uj);
  byId("carbon").textContent = carbon(report.carbon_ugco2e);
  byId("utilisation").textContent = percent(report.energy_utilisation);
  byId("terms").textContent =
    `Zone ${report.zone}: ${report.intensity_g_per_kwh} gCO₂e/kWh (${report.intensity_source}), PUE ${report.pue}.`;
  fill("accounts", report.rows.map((row) => [
    heading(Object.values(row.group).filter(Boolean).join(" ")),
    share(row.share),
    element("td", energy(row.energy_uj), "n"),
    element("td", carbon(row.carbon_ugco2e), "n"),
    element("td", Object.keys(row.by_grade_uj).filter((grade) => row.by_grade_uj[grade]).join(" + ")),
  ]), "Nothing was booked in the last hour.");
}

function showModels(models, report, status) {
  const total = (name, version, field) => report.rows
    .filter((row) => row.group.model === name && (!version || row.group.version === version))
    .reduce((sum, row) => sum + row[field], 0);
  const homes = (name) => status.nodes
    .filter((node) => node.residents.some((resident) => resident === name || resident.startsWith(`${name}@`)))
    .map((node) => node.node).join(", ");
  fill("models", models.data.map((model) => {
    const [name, version] = model.id.split("@");
    return [
      heading(model.id),
      element("td", homes(name) || "asleep"),
      element("td", energy(total(name, version, "energy_uj")), "n"),
      element("td", carbon(total(name, version, "carbon_ugco2e")), "n"),
    ];
  }), "No model is deployed: joulekeeper deploy FILE.");
}

async function get(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" } });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error ?? `${path} answered ${response.status}`);
  return body;
}

async function update() {
  const [status, byAccount, byModel, models] = await Promise.all([
    get("/api/status"),
    get("/api/report?by=account&since=1h"),
    get("/api/report?by=model&since=1h"),
    get("/v1/models"),
  ]);
  showDevices(status);
  showWarnings(status);
  showAccounts(byAccount);
  showModels(models, byModel, status);
}

function say(sentence) {
  if (byId("state").textContent !== sentence) byId("state").textContent = sentence;
}

async function tick() {
  if (!paused && !document.hidden) {
    try {
      await update();
      say("Live");
    } catch (error) {
      say(`No live figures: ${error.message}`);
    }
  }
  setTimeout(tick, PERIOD_MS);
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  say(paused ? "Paused" : "Live");
});
tick();
