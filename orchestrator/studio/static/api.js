// The HTTP API: the same that other programs use, described in /api/openapi.json.

export class ApiError extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

async function call(method, path, body, type = "application/json") {
  let answer;
  try {
    answer = await fetch(`/api${path}`, {
      method,
      headers: body === undefined ? {} : { "content-type": type },
      body: body === undefined ? undefined : type === "application/json" ? JSON.stringify(body) : body,
    });
  } catch {
    throw new ApiError("offline", "the studio does not answer; is it still running in its terminal?");
  }
  const data = await answer.json().catch(() => null);
  if (!answer.ok) throw new ApiError(data?.error?.kind ?? "http", data?.error?.message ?? `answer ${answer.status}`);
  return data;
}

const run = (name) => `/runs/${encodeURIComponent(name)}`;

export const api = {
  presets: () => call("GET", "/presets"),
  runs: () => call("GET", "/runs"),
  beginPhoto: (settings) => call("POST", "/photos", settings),
  begin: (settings) => call("POST", "/runs", settings),
  state: (name) => call("GET", run(name)),
  decide: (name, event) => call("POST", `${run(name)}/decision`, event),
  drive: (name, what) => call("POST", `${run(name)}/drive`, { do: what }),
  head: (name, move) => call("POST", `${run(name)}/head`, move),
  edit: (name, layer, change) => call("POST", `${run(name)}/layers/${layer}/edit`, change),
  order: (name, layer, to) => call("POST", `${run(name)}/layers/${layer}/order`, { to }),
  flags: (name, hidden, locked) => call("PUT", `${run(name)}/flags`, { hidden, locked }),
  upload: (blob) => call("POST", "/uploads", blob, blob.type),
  exportUrl: (name, kind) => `/api${run(name)}/export/${kind}`,
};
