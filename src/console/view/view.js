// Shows the screen of a session: opens our WebSocket with the ticket from the address's fragment, which no server sees and
// which is taken out of the address at once, and hands the socket to noVNC. A ticket is good for one connection: when that
// ends, the page says why and how to get another.
import RFB from '/console/novnc/core/rfb.js';

const status = document.getElementById('status');
const login = document.getElementById('login');
const password = document.getElementById('password');
const screen = document.getElementById('screen');

const [, sessionId] = /^\/sessions\/([^/]+)\/view$/.exec(location.pathname) ?? [];
const given = new URLSearchParams(location.hash.slice(1));
history.replaceState(null, '', location.pathname);

function say(text) {
  status.textContent = text;
  status.hidden = text === '';
}

function connect(port, ticket) {
  const url = new URL(`/v1/sessions/${sessionId}/tunnel`, location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.searchParams.set('port', port);
  url.searchParams.set('ticket', ticket);
  const socket = new WebSocket(url, ['binary']);
  socket.binaryType = 'arraybuffer';
  // Ours comes before noVNC's, which doesn't tell the reason.
  socket.addEventListener('close', ({ code, reason }) => {
    login.hidden = true;
    const why = reason === '' ? (code === 1006 ? 'the controller refused or lost it' : `code ${code}`) : reason;
    say(`The connection ended: ${why}. Run “longline session view ${sessionId}” for a new address.`);
  });
  const rfb = new RFB(screen, socket, { shared: true });
  rfb.scaleViewport = true;
  rfb.addEventListener('connect', () => {
    login.hidden = true;
    say('');
    document.body.dataset['state'] = 'connected';
  });
  rfb.addEventListener('credentialsrequired', () => {
    say('');
    login.hidden = false;
    password.focus();
  });
  rfb.addEventListener('securityfailure', ({ detail }) =>
    say(`The screen refused: ${detail.reason ?? 'no reason given'}`),
  );
  rfb.addEventListener('desktopname', ({ detail }) => {
    document.title = `${detail.name} – ${sessionId}`;
  });
  login.addEventListener('submit', (event) => {
    event.preventDefault();
    rfb.sendCredentials({ password: password.value });
    password.value = '';
  });
}

const ticket = given.get('ticket');
if (ticket === null) say(`This address has no ticket. Run “longline session view ${sessionId}” for one.`);
else {
  say('Connecting …');
  connect(given.get('port') ?? '5900', ticket);
}
