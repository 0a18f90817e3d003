// The presenter's page: without a link it creates sessions, with one it is the console of that session.

import { Console } from './console.js';
import { fromAddress } from './sessions.js';
import { Start } from './start.js';

const app = document.getElementById('app');
let shown = null;

function begin() {
  shown?.end();
  const found = fromAddress();
  shown = found ? new Console(app, found) : new Start(app);
}

addEventListener('hashchange', begin);
begin();
