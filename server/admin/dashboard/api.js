// api.js - what the page asks the server, and what it is told.

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function call(method, path, body) {
  const options = { method, headers: {}, credentials: 'same-origin', cache: 'no-store' };
  if (body !== undefined) {
    options.headers['Content-Type'] = 'application/json';
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Problem(0, 'The admin interface does not answer.');
  }
  const type = answer.headers.get('Content-Type') ?? '';
  const json = type.includes('json') ? await answer.json() : null;
  if (!answer.ok) throw new Problem(answer.status, json?.detail ?? answer.statusText);
  return json;
}

export const api = {
  get: (path) => call('GET', `/api/v1${path}`),
  post: (path, body) => call('POST', `/api/v1${path}`, body),
  put: (path, body) => call('PUT', `/api/v1${path}`, body),
  del: (path) => call('DELETE', `/api/v1${path}`),
};

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// A reload from its begin to its end. The admin process is replaced on the way.
export async function reload(isDry) {
  const { id } = await api.post('/reload', { dry_run: isDry });
  for (let i = 0; i < 300; i++) {
    await pause(150);
    try {
      const result = await api.get(`/reload/${id}`);
      if (result.state !== 'running') return result;
    } catch (problem) {
      if (problem.status !== 0 && problem.status < 500) throw problem;
    }
  }
  throw new Problem(504, 'The reload takes longer than 45 seconds; look at its result later.');
}

// told(name, data); changed(isConnected). The browser comes again by itself, but not after a refusal.
export function listen(told, changed) {
  let source;
  let timer;
  const open = () => {
    source = new EventSource('/api/v1/events');
    source.onopen = () => changed(true);
    for (const name of ['status', 'numbers', 'event', 'trouble']) {
      source.addEventListener(name, (message) => told(name, JSON.parse(message.data)));
    }
    source.onerror = () => {
      changed(false);
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, 2000);
    };
  };
  open();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}
