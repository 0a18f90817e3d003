// Which sessions this device presents, and the links that carry their tokens. The token stands behind the #, which browsers
// never send. Used by present.js and screen.js.

const KEY = 'plenum:sessions';
const MOST = 20;

/** `#session/token` of this page, or null. */
export function fromAddress() {
  const [session, token] = location.hash.slice(1).split('/');
  return session && token ? { session, token } : null;
}

export const link = (page, { session, token }) => `/${page}#${session}/${token}`;

/** Newest first. */
export function kept() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? [];
  } catch {
    return [];
  }
}

const write = (list) => {
  try {
    localStorage.setItem(KEY, JSON.stringify(list.slice(0, MOST)));
  } catch { /* no storage: the link is the only way back */ }
};

/** @param {{session: string, token: string, title: string, code: string, at: string}} one */
export const keep = (one) => write([one, ...kept().filter((other) => other.session !== one.session)]);

export const forget = (session) => write(kept().filter((one) => one.session !== session));
